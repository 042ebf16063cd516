"""An independent reader and writer of Snowflake, or of its stand-in: Snowflake's own connector.

snow.py show SCHEMA     prints what every table and view of a schema is, but for moments
snow.py sql STATEMENT   runs one statement and prints its rows
snow.py build RELEASE   what a job does that is not dbt: two tables, where unship tells it to
"""

import json
import os
import sys
from urllib.parse import urlsplit

import snowflake.connector

at = urlsplit(os.environ["UNSHIP_TEST_SNOWFLAKE"])
connection = snowflake.connector.connect(
    account="stand-in",
    user="reader",
    password="none is looked at",
    host=at.hostname,
    port=at.port,
    protocol=at.scheme,
    database=os.environ.get("UNSHIP_DATABASE", os.environ["SHOP"]),
)


def rows(statement):
    cursor = connection.cursor().execute(statement)
    columns = [column.name for column in cursor.description or []]
    return columns, [[str(cell) for cell in row] for row in cursor.fetchall()]


def show(schema):
    _, names = rows(
        "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES "
        f"WHERE TABLE_SCHEMA = '{schema}' ORDER BY TABLE_NAME"
    )
    seen = {}
    for [name] in names:
        columns, found = rows(f'SELECT * FROM "{schema}"."{name}"')
        # What a snapshot writes of its own clock is the moment of the build.
        kept = [i for i, column in enumerate(columns) if not column.startswith("DBT_")]
        seen[name] = {
            "columns": [columns[i] for i in kept],
            "rows": sorted([row[i] for i in kept] for row in found),
        }
    return seen


def build(release):
    schema = os.environ["UNSHIP_SCHEMA"]
    rows(f'CREATE OR REPLACE TABLE "{schema}"."LEFT" AS SELECT {release} AS ID')
    rows(f'CREATE OR REPLACE TABLE "{schema}"."RIGHT" AS SELECT {release} AS ID')


what, text = sys.argv[1:]
if what == "show":
    print(json.dumps(show(text), sort_keys=True))
elif what == "sql":
    print(json.dumps(rows(text)[1]))
else:
    build(int(text))
