"""A job: rebuilds its tables, one commit each, so that a kill leaves some old and some new.

`job.py RELEASE [--fail] [--slow]`. The file is UNSHIP_DATABASE, or the one named last; with several
files in UNSHIP_TEST_FILES (separated by colons) all are written, in place or where unship says.
"""

import os
import sys
import time

import duckdb

release = int(sys.argv[1])
fail = "--fail" in sys.argv
slow = "--slow" in sys.argv
main = os.environ.get("UNSHIP_DATABASE", os.environ["JOB_FILE"])
files = [main]
if os.path.basename(main) == "shop.duckdb":
    beside = os.path.join(os.path.dirname(main), "extra.duckdb")
    if os.path.exists(beside):
        files.append(beside)

if "JOB_PID" in os.environ:
    with open(os.environ["JOB_PID"], "w") as pid:
        pid.write(str(os.getpid()))

for path in files:
    con = duckdb.connect(path)
    for n, table in enumerate(["orders", "customers", "facts"]):
        con.execute(
            f"create or replace table {table} as select {release} as release, i as id, "
            f"hash(i * {release + 1} + {n}) as code from range({2000 + 10 * release}) t(i)"
        )
        con.execute(f"comment on table {table} is 'of release {release}'")
        if fail and table == "customers":
            print("no more rows for you", file=sys.stderr)
            sys.exit(3)
        if slow:
            print("built", table, flush=True)
            time.sleep(0.03)
    con.execute("create or replace view latest as select max(release) as release from orders")
    con.close()
