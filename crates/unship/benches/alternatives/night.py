"""One night of the demo's project: a day of raw rows, then every table is rebuilt from scratch.

Runs the statements that dbt compiled, in their order, without the seconds that dbt itself takes.
"""

import json
import sys

import duckdb

sys.path.insert(0, sys.argv[1])
from generate import load_days


def in_order(models):
    """Models after those that they read."""
    done = []
    while len(done) < len(models):
        done += [
            key for key, model in models.items()
            if key not in done and all(parent in done or parent not in models for parent in model["depends_on"]["nodes"])
        ]
    return done


with open("target/manifest.json") as file:
    nodes = json.load(file)["nodes"]
models = {key: node for key, node in nodes.items() if node["resource_type"] == "model"}
with duckdb.connect("shop.duckdb") as con:
    day, = con.execute("select date_diff('day', date '2026-01-01', max(ordered_at)::date) + 1 from raw.orders").fetchone()
    load_days(con, day, day + 1)
    for key in in_order(models):
        model = models[key]
        if model["config"]["materialized"] in ("table", "incremental"):
            con.execute(f"create or replace table {model['relation_name']} as {model['compiled_code']}")
