"""The rollback of Iceberg tables by Spark's own procedures, in one session: table after table.

spark.py back NAMESPACE      every table to the snapshot before, by `rollback_to_snapshot`
spark.py forth NAMESPACE     every table to its newest snapshot, by `set_current_snapshot`

The settings are those of SPARK_CONF_DIR (`scripts/spark run`), with the catalog at LAKE_URI where that
is set. Printed is how long the procedures took, in seconds, all together and the median of one: Spark's
start, and finding out which snapshots there are, are not counted. The schema, the partition spec, the
sort order and the properties stay as they are; these procedures do not touch them.
"""

import json
import os
import statistics
import sys
import time

from pyspark.sql import SparkSession

command, space = sys.argv[1:]
builder = SparkSession.builder
if "LAKE_URI" in os.environ:
    builder = builder.config("spark.sql.catalog.lake.uri", os.environ["LAKE_URI"])
spark = builder.getOrCreate()
spark.sparkContext.setLogLevel("OFF")

PROCEDURES = {"back": "rollback_to_snapshot", "forth": "set_current_snapshot"}
procedure = PROCEDURES[command]
calls = []
for row in spark.sql(f"show tables in lake.{space}").collect():
    snapshots = spark.sql(
        f"select snapshot_id, parent_id from lake.{space}.{row.tableName}.snapshots "
        "order by committed_at, snapshot_id"
    ).collect()
    newest = snapshots[-1]
    to = newest.parent_id if command == "back" else newest.snapshot_id
    calls.append(f"call lake.system.{procedure}('{space}.{row.tableName}', {to})")

took = []
for call in calls:
    began = time.perf_counter()
    spark.sql(call).collect()
    took.append(time.perf_counter() - began)
print(json.dumps({"seconds": sum(took), "median": statistics.median(took), "tables": len(took)}))
