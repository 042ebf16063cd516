"""Another independent writer and reader of Iceberg tables: DuckDB's own Iceberg extension.

duck_lake.py do SQL ...  carries out statements, one after the other
duck_lake.py show        prints the columns and rows of every table of the namespace
duck_lake.py session     answers statements from standard input with their rows, a line each, in one
                         session that may remember what it read before
"""

import json
import os
import sys
import tempfile

import duckdb
from duckdb_extensions import import_extension

SPACE = os.environ["LAKE_NAMESPACE"]


def connected(home):
    # It unpacks its extensions into its home.
    db = duckdb.connect(config={"home_directory": home})
    for extension in ["avro", "httpfs", "iceberg"]:
        import_extension(extension, con=db)
        db.load_extension(extension)
    token = os.environ["UNSHIP_TEST_REST_TOKEN"].replace("'", "''")
    uri = os.environ["UNSHIP_TEST_REST_CATALOG"].replace("'", "''")
    db.execute(f"CREATE SECRET lake (TYPE iceberg, TOKEN '{token}')")
    db.execute(f"ATTACH '' AS lake (TYPE iceberg, ENDPOINT '{uri}', SECRET lake)")
    db.execute(f'CREATE SCHEMA IF NOT EXISTS lake."{SPACE}"')
    db.execute(f'USE lake."{SPACE}"')
    return db


def show(db):
    names = db.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = 'lake' AND schema_name = ?"
        " ORDER BY 1",
        [SPACE],
    ).fetchall()
    out = {}
    for (name,) in names:
        table = db.execute(f'SELECT * FROM "{name}"')
        columns = [column[0] for column in table.description]
        rows = sorted((list(row) for row in table.fetchall()), key=str)
        out[name] = {"columns": columns, "rows": rows}
    print(json.dumps(out, sort_keys=True))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        db = connected(home)
        command, *args = sys.argv[1:]
        if command == "do":
            for statement in args:
                db.execute(statement)
        elif command == "show":
            show(db)
        elif command == "session":
            for line in sys.stdin:
                print(json.dumps(db.execute(line).fetchall()), flush=True)
