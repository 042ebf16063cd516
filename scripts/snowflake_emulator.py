"""A server that speaks Snowflake's SQL API over real rows: snowduck, and what it lacks of what
unship's engine asks. It proves that statements move the right rows; it proves nothing about
Snowflake. What is added here is our own reading of Snowflake's documentation:

- a table's creation time, by which tables are told apart, and which moves along with a table;
- `ALTER TABLE … SWAP WITH` and `… RENAME TO` across schemas;
- clones, exchanges and new names of schemas, their comments and what may be done with them (which stay with
  a schema when its name changes), and a refusal of clones of the past: there is none here;
- `HASH_AGG`, `SYSTEM$LAST_CHANGE_COMMIT_TIME`, and lists of policies, streams, running statements and
  the like, which are empty.
"""

import re
import sys

import snowduck.connector.cursor as cursors
import snowduck.info_schema.manager as manager

NAME = r'"(?:[^"]|"")*"'
FULL = rf"({NAME})\.({NAME})\.({NAME})"
SWAP = re.compile(rf"^\s*ALTER TABLE {FULL} SWAP WITH {FULL}\s*$")
RENAME = re.compile(rf"^\s*ALTER TABLE {FULL} RENAME TO {FULL}\s*$")
PART = rf"({NAME}|\w+)"
SCHEMA = rf"{PART}\.{PART}"
CLONE_SCHEMA = re.compile(
    rf"^\s*CREATE (?:TRANSIENT )?SCHEMA (?:IF NOT EXISTS )?{SCHEMA} CLONE {SCHEMA}(.*)$", re.I | re.S
)
SWAP_SCHEMA = re.compile(rf"^\s*ALTER SCHEMA {SCHEMA} SWAP WITH {SCHEMA}\s*$", re.I)
RENAME_SCHEMA = re.compile(rf"^\s*ALTER SCHEMA {SCHEMA} RENAME TO {SCHEMA}\s*$", re.I)
GRANT = re.compile(
    rf"^\s*GRANT ([\w ]+) ON (?:SCHEMA|FUTURE (\w+) IN SCHEMA) {SCHEMA} TO ([\w ]+) {PART}\s*$", re.I
)
GRANTS = re.compile(rf"^\s*SHOW (FUTURE )?GRANTS (?:ON|IN) SCHEMA {SCHEMA}\s*$", re.I)
TEXT = r"'((?:[^'\\]|''|\\.)*)'"
SAID = re.compile(rf"\bCOMMENT = {TEXT}", re.I)
COMMENT_ON = re.compile(rf"^\s*COMMENT ON SCHEMA {SCHEMA} IS {TEXT}\s*$", re.I)
PAST = re.compile(r"\b(AT|BEFORE)\s*\(", re.I)
COMMENT = re.compile(r"/\*.*?\*/\s*;?\s*$", re.S)
HASH_AGG = re.compile(rf"HASH_AGG\(((?:{NAME}|[^()\"])*)\)")
CHANGED = re.compile(r"SYSTEM\$LAST_CHANGE_COMMIT_TIME\('((?:[^']|'')*)'\)")
EMPTY = re.compile(
    r"POLICY_REFERENCES|TAG_REFERENCES|QUERY_HISTORY_BY_USER|^\s*SHOW (STREAMS|PIPES|DYNAMIC TABLES|MATERIALIZED VIEWS|TASKS|STAGES"
    r"|FILE FORMATS|SEQUENCES|USER FUNCTIONS|USER PROCEDURES|MASKING POLICIES|ROW ACCESS POLICIES|TAGS|ALERTS) "
)
# Snowflake's words for privileges of a clone, which its parser here does not know: there are none here.
COPY_GRANTS = re.compile(r"^(\s*CREATE .* CLONE .*) COPY GRANTS\b", re.I | re.S)
GRANTS_TO = re.compile(r"^\s*SHOW GRANTS TO (ROLE|DATABASE ROLE) ")
# Everybody owns everything.
OWNED = """SELECT 'OWNERSHIP' AS privilege, sort AS granted_on, name FROM (
    SELECT 'DATABASE' AS sort, '"' || database_name || '"' AS name FROM duckdb_databases()
    UNION ALL SELECT 'WAREHOUSE', '"' || CURRENT_WAREHOUSE() || '"'
    UNION ALL SELECT 'SCHEMA', '"' || database_name || '"."' || schema_name || '"' FROM duckdb_schemas()
    UNION ALL SELECT 'TABLE', '"' || database_name || '"."' || schema_name || '"."' || table_name || '"'
        FROM duckdb_tables()
    UNION ALL SELECT 'VIEW', '"' || database_name || '"."' || schema_name || '"."' || view_name || '"'
        FROM duckdb_views() WHERE NOT internal)"""

IDENTITIES = "memory.main.unship_identities"
CREATED = f"""TO_TIMESTAMP(COALESCE((SELECT i.identity FROM {IDENTITIES} i
    WHERE i.oid = t.table_oid AND i.catalog = t.database_name), t.table_oid))::TIMESTAMPTZ AS created"""

COMMENTS = "memory.main.unship_comments"
SCHEMA_COMMENT = f"""(SELECT max(c.comment) FROM {COMMENTS} c
    WHERE (c.catalog, c.name) = (s.database_name, s.schema_name)) AS comment"""

load_sql = manager.load_sql


def load(*args, **kwargs):
    text = load_sql(*args, **kwargs)
    for view, old, new in (
        ("._schemata AS", "s.comment AS comment", SCHEMA_COMMENT),
        ("._tables AS", "TO_TIMESTAMP(0)::TIMESTAMPTZ AS created", CREATED),
    ):
        before, of, after = text.partition(view)
        text = before + of + after.replace(old, new, 1)
    return text


manager.load_sql = load

create = manager.InfoSchemaManager.create_database_information_schema


def with_identities(self, *args, **kwargs):
    self._execute_sql(
        f"CREATE TABLE IF NOT EXISTS {IDENTITIES} (catalog VARCHAR, oid BIGINT, identity BIGINT)"
    )
    self._execute_sql(
        f"CREATE TABLE IF NOT EXISTS {COMMENTS} (catalog VARCHAR, name VARCHAR, comment VARCHAR)"
    )
    return create(self, *args, **kwargs)


manager.InfoSchemaManager.create_database_information_schema = with_identities


def plain(name):
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.upper()


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


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


def text_of(literal):
    return re.sub(r"''|\\(.)", lambda m: m[1] or "'", literal)


def contents(duck, schema):
    """The tables of a schema with what they are known by, and the texts of its views."""
    at = [plain(part) for part in schema]
    tables = duck.execute(
        "SELECT table_name FROM duckdb_tables() WHERE (database_name, schema_name) = (?, ?)", at
    ).fetchall()
    views = duck.execute(
        """SELECT view_name, sql FROM duckdb_views()
            WHERE (database_name, schema_name) = (?, ?) AND NOT internal""",
        at,
    ).fetchall()
    named = [(*map(quoted, at), quoted(name)) for (name,) in tables]
    return [(name, identity(duck, name)) for name in named], views


def make_view(duck, schema, name, sql):
    text = re.sub(rf"^CREATE VIEW (?:(?:{NAME}|\w+)\.)*(?:{NAME}|\w+)", "", sql, count=1)
    duck.execute(f"CREATE VIEW {'.'.join(map(quoted, map(plain, schema)))}.{quoted(name)}{text}")


def comment_of(duck, schema):
    at = [plain(part) for part in schema]
    if not duck.execute(
        "SELECT 1 FROM duckdb_schemas() WHERE (database_name, schema_name) = (?, ?)", at
    ).fetchall():
        raise ValueError(f"Schema '{'.'.join(schema)}' does not exist or not authorized.")
    found = duck.execute(
        f"SELECT comment FROM {COMMENTS} WHERE (catalog, name) = (?, ?)", at
    ).fetchall()
    return found[0][0] if found else None


def clone_schema(duck, new, old):
    comment_of(duck, old)
    tables, views = contents(duck, old)
    at = [quoted(plain(part)) for part in new]
    duck.execute(f"CREATE SCHEMA {'.'.join(at)}")
    for name, _ in tables:
        duck.execute(f"CREATE TABLE {'.'.join(at)}.{name[2]} AS FROM {'.'.join(name)}")
    for name, sql in views:
        make_view(duck, new, name, sql)


def swap_schemas(duck, one, other):
    kept = []
    for here, there in ((one, other), (other, one)):
        tables, views = contents(duck, here)
        to = tuple(quoted(plain(part)) for part in there)
        for name, what in tables:
            aside = (*name[:2], quoted("unship emulator " + plain(name[2])))
            move(duck, name, aside)
            kept.append((aside, (*to, name[2]), what))
        for name, sql in views:
            duck.execute(f"DROP VIEW {'.'.join(quoted(plain(p)) for p in here)}.{quoted(name)}")
            kept.append((None, there, (name, sql)))
    for aside, to, what in kept:
        if aside:
            move(duck, aside, to)
        else:
            make_view(duck, to, *what)
    comments = [(one, comment_of(duck, other)), (other, comment_of(duck, one))]
    mine, theirs = (tuple(map(plain, s)) for s in (one, other))
    GRANTED[mine], GRANTED[theirs] = GRANTED.get(theirs, []), GRANTED.get(mine, [])
    return [(to, what) for aside, to, what in kept if aside], comments


def rename_schema(duck, old, new):
    at = '.'.join(quoted(plain(part)) for part in new)
    duck.execute(f"CREATE SCHEMA {at}")
    made = swap_schemas(duck, old, new)
    duck.execute(f"DROP SCHEMA {'.'.join(quoted(plain(part)) for part in old)}")
    return made


# What may be done with schemas, by their names. A clone has none of it.
GRANTED = {}


def granted(where, future):
    rows = [g for g in GRANTED.get(where, []) if bool(g[1]) == future]
    of, to = ("grant_on", "grant_to") if future else ("granted_on", "granted_to")
    literal = lambda text: "'" + text.replace("'", "''") + "'"
    lists = ", ".join(
        f"({literal(p)}, {literal((kind or 'SCHEMA').rstrip('S'))}, {literal(sort)}, {literal(who)}, 'false')"
        for p, kind, sort, who in rows
    )
    columns = f't("privilege", "{of}", "{to}", "grantee_name", "grant_option")'
    return f"SELECT * FROM (VALUES {lists or '(1, 1, 1, 1, 1)'}) AS {columns}" + (
        "" if rows else " WHERE FALSE"
    )


def of_schemas(duck, command):
    """What is done with whole schemas: the tables that are others now, what schemas are commented
    with, and the answer."""
    done = "SELECT 'Statement executed successfully.' AS status"
    if found := CLONE_SCHEMA.match(command):
        if PAST.search(found[5]):
            raise ValueError("the stand-in has no past to clone")
        clone_schema(duck, found.groups()[:2], found.groups()[2:4])
        said = SAID.search(found[5])
        return ((), [(found.groups()[:2], said and text_of(said[1]))]), done
    if found := COMMENT_ON.match(command):
        return ((), [(found.groups()[:2], text_of(found[3]))]), done
    if found := SWAP_SCHEMA.match(command):
        return swap_schemas(duck, found.groups()[:2], found.groups()[2:]), done
    if found := RENAME_SCHEMA.match(command):
        return rename_schema(duck, found.groups()[:2], found.groups()[2:]), done
    if found := GRANT.match(command):
        privilege, kind, *where, sort, who = found.groups()
        all = GRANTED.setdefault(tuple(map(plain, where)), [])
        one = (privilege.upper(), kind and kind.upper(), sort.upper(), plain(who))
        if one not in all:
            all.append(one)
        return ((), ()), done
    if found := GRANTS.match(command):
        return ((), ()), granted(tuple(map(plain, found.groups()[1:])), bool(found[1]))
    raise ValueError(command)


execute = cursors.Cursor._execute_locked


def run(self, command, params=None):
    bare = COMMENT.sub("", command)
    if any(one.match(bare) for one in (CLONE_SCHEMA, SWAP_SCHEMA, RENAME_SCHEMA, COMMENT_ON, GRANT, GRANTS)):
        duck = self._duck_cur
        duck.execute("BEGIN")
        try:
            (made, comments), answer = of_schemas(duck, bare)
            duck.execute("COMMIT")
        except Exception:
            duck.execute("ROLLBACK")
            raise
        for where, what in made:
            is_identity(duck, where, what)
        for schema, said in comments:
            at = [plain(part) for part in schema]
            duck.execute(f"DELETE FROM {COMMENTS} WHERE (catalog, name) = (?, ?)", at)
            duck.execute(f"INSERT INTO {COMMENTS} VALUES (?, ?, ?)", [*at, said])
        return execute(self, answer, None)
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
    # Snowflake's word is about foreign keys, DuckDB's about everything.
    command = re.sub(r"^(\s*DROP SCHEMA .*) RESTRICT\b", r"\1 CASCADE", command, flags=re.I)
    command = COPY_GRANTS.sub(r"\1", command)
    if GRANTS_TO.match(command):
        return execute(self, OWNED, None)
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
