"""Reads and writes DuckDB files for the tests, independently of unship: one request a line."""

import hashlib
import json
import sys

import duckdb


def look(path):
    """Everything that a user can see in a file: definitions and rows, and which release each
    table says that it is of."""
    con = duckdb.connect(path, read_only=True)
    try:
        sha = hashlib.sha256()
        releases, digests, counts = {}, {}, {}
        tables = con.execute(
            "select schema_name, table_name, sql from duckdb_tables() where not internal order by all"
        ).fetchall()
        views = con.execute(
            "select schema_name, view_name, sql from duckdb_views() where not internal order by all"
        ).fetchall()
        for schema, name, sql in tables + views:
            rows = con.execute(f'select * from "{schema}"."{name}" order by all').fetchall()
            text = repr((schema, name, sql, rows)).encode()
            sha.update(text)
            digests[name] = hashlib.sha256(text).hexdigest()[:16]
            counts[name] = len(rows)
            columns = [column[0] for column in con.description]
            if "release" in columns:
                at = columns.index("release")
                releases[name] = sorted({row[at] for row in rows})
        return {
            "digest": sha.hexdigest()[:16],
            "digests": digests,
            "rows": counts,
            "releases": releases,
        }
    finally:
        con.close()


def write(path, sql):
    con = duckdb.connect(path)
    try:
        con.execute(sql)
        return {}
    finally:
        con.close()


for line in sys.stdin:
    request = json.loads(line)
    try:
        if "sql" in request:
            answer = write(request["file"], request["sql"])
        else:
            answer = look(request["file"])
    except Exception as error:  # whatever DuckDB says is the answer
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
