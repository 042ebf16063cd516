"""A server that speaks Snowflake's SQL API over real rows: snowduck, and what it lacks of what
unship's engine asks. It proves that statements move the right rows; it proves nothing about
Snowflake. What is added here is our own reading of Snowflake's documentation:

- a table's creation time, by which tables are told apart, and which moves along with a table;
- `ALTER TABLE … SWAP WITH` and `… RENAME TO` across schemas;
- `HASH_AGG`, `SYSTEM$LAST_CHANGE_COMMIT_TIME`, and lists of policies, streams and the like, which
  are empty.
"""

import re
import sys

import snowduck.connector.cursor as cursors
import snowduck.info_schema.manager as manager

NAME = r'"(?:[^"]|"")*"'
FULL = rf"({NAME})\.({NAME})\.({NAME})"
SWAP = re.compile(rf"^\s*ALTER TABLE {FULL} SWAP WITH {FULL}\s*$")
RENAME = re.compile(rf"^\s*ALTER TABLE {FULL} RENAME TO {FULL}\s*$")
HASH_AGG = re.compile(rf"HASH_AGG\(((?:{NAME}|[^()\"])*)\)")
CHANGED = re.compile(r"SYSTEM\$LAST_CHANGE_COMMIT_TIME\('((?:[^']|'')*)'\)")
EMPTY = re.compile(r"POLICY_REFERENCES|TAG_REFERENCES|^\s*SHOW (STREAMS|PIPES|DYNAMIC TABLES|MATERIALIZED VIEWS) ")

IDENTITIES = "memory.main.unship_identities"
CREATED = f"""TO_TIMESTAMP(COALESCE((SELECT i.identity FROM {IDENTITIES} i
    WHERE i.oid = t.table_oid AND i.catalog = t.database_name), t.table_oid))::TIMESTAMPTZ AS created"""

load_sql = manager.load_sql


def load(*args, **kwargs):
    text = load_sql(*args, **kwargs)
    before, tables, after = text.partition("._tables AS")
    return before + tables + after.replace("TO_TIMESTAMP(0)::TIMESTAMPTZ AS created", CREATED, 1)


manager.load_sql = load

create = manager.InfoSchemaManager.create_database_information_schema


def with_identities(self, *args, **kwargs):
    self._execute_sql(
        f"CREATE TABLE IF NOT EXISTS {IDENTITIES} (catalog VARCHAR, oid BIGINT, identity BIGINT)"
    )
    return create(self, *args, **kwargs)


manager.InfoSchemaManager.create_database_information_schema = with_identities


def plain(name):
    return name[1:-1].replace('""', '"')


def identity(duck, where):
    rows = duck.execute(
        f"""SELECT coalesce(i.identity, t.table_oid) FROM duckdb_tables() t LEFT JOIN {IDENTITIES} i
              ON i.oid = t.table_oid AND i.catalog = t.database_name
             WHERE (t.database_name, t.schema_name, t.table_name) = (?, ?, ?)""",
        [plain(part) for part in where],
    ).fetchall()
    if not rows:
        raise ValueError(f"Object '{'.'.join(where)}' does not exist or not authorized.")
    return rows[0][0]


def is_identity(duck, where, what):
    duck.execute(
        f"""INSERT INTO {IDENTITIES} SELECT database_name, table_oid, ? FROM duckdb_tables()
             WHERE (database_name, schema_name, table_name) = (?, ?, ?)""",
        [what, *(plain(part) for part in where)],
    )


def move(duck, old, new):
    """A table's rows and columns under another name; DuckDB has no other way between schemas."""
    duck.execute(f"CREATE TABLE {'.'.join(new)} AS FROM {'.'.join(old)}")
    duck.execute(f"DROP TABLE {'.'.join(old)}")


def swap(duck, one, other):
    first, second = identity(duck, one), identity(duck, other)
    between = (one[0], one[1], '"unship emulator swap"')
    move(duck, one, between)
    move(duck, other, one)
    move(duck, between, other)
    return ((one, second), (other, first))


def rename(duck, old, new):
    what = identity(duck, old)
    move(duck, old, new)
    return ((new, what),)


execute = cursors.Cursor._execute_locked


def run(self, command, params=None):
    found = SWAP.match(command) or RENAME.match(command)
    if found:
        parts = found.groups()
        one, other = parts[:3], parts[3:]
        duck = self._duck_cur
        duck.execute("BEGIN")
        try:
            made = (swap if "SWAP WITH" in command else rename)(duck, one, other)
            duck.execute("COMMIT")
        except Exception:
            duck.execute("ROLLBACK")
            raise
        for where, what in made:
            is_identity(duck, where, what)
        return execute(self, "SELECT 'Statement executed successfully.' AS status", None)
    if EMPTY.search(command):
        return execute(self, "SELECT 1 AS name WHERE FALSE", None)
    command = HASH_AGG.sub(r"COALESCE(SUM(HASH(\1)), 0)", command)
    command = CHANGED.sub(
        lambda m: f"(SELECT COALESCE(SUM(HASH(t)), 0) + COUNT(*) FROM {m[1]} AS t)", command
    )
    return execute(self, command, params)


cursors.Cursor._execute_locked = run

if __name__ == "__main__":
    from snowduck.server.server import create_app
    from uvicorn import run as serve

    serve(create_app(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
