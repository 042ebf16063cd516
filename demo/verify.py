"""An independent check that two states of a warehouse are the same.

It shares nothing with unship: DuckDB from Python, MD5 of every row, sums that do not depend on
the order of rows. A view is compared by its definition and columns, because what it answers
follows the raw tables beneath it, which no release owns.

    verify.py save FILE.duckdb STATE.json [--only core,marts]
    verify.py compare A.json B.json [--only-models target/manifest.json]

Exit code: 0 the same, 1 different (each difference is named), 2 the check could not be made.
"""

import argparse
import json
import sys

import duckdb

TEMPORARY = ("__dbt_tmp", "__dbt_backup")


def quoted(*names):
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def texts(con, sql, *args):
    """The first column of a query as a sorted list."""
    return sorted(row[0] for row in con.execute(sql, list(args)).fetchall())


def rows_and_digest(con, schema, name, columns):
    # Each value is preceded by its length, so that ('a', 'bc') and ('ab', 'c') differ, and a null
    # is not the text 'null'. The two halves of the MD5 are summed apart: a sum of whole ones
    # would not fit. A sum also counts duplicates, which an XOR would cancel.
    row = " || ".join(
        f"coalesce(length({quoted(c)}::varchar) || ':' || {quoted(c)}::varchar, '-')" for c in columns
    )
    count, low, high = con.execute(
        f"""select count(*), sum(md5_number_lower(r)::hugeint), sum(md5_number_upper(r)::hugeint)
            from (select {row} as r from {quoted(schema, name)})"""
    ).fetchone()
    return count, f"{low or 0:x}.{high or 0:x}"


def describe(con, schema, name, kind):
    columns = con.execute(
        """select column_name, data_type, if(is_nullable, null, 'not null'), 'default ' || column_default, comment from duckdb_columns()
           where database_name = current_database() and schema_name = ? and table_name = ? order by column_index""",
        [schema, name],
    ).fetchall()
    at = "database_name = current_database() and schema_name = ? and"
    state = {
        "kind": kind,
        "columns": {c[0]: " ".join(part for part in c[1:] if part is not None) for c in columns},
        "comment": texts(con, f"select comment from duckdb_{kind}s() where {at} {kind}_name = ? and comment is not null", schema, name),
    }
    if kind == "view":
        state["definition"] = texts(con, f"select sql from duckdb_views() where {at} view_name = ?", schema, name)
    else:
        state["constraints"] = texts(con, f"select constraint_text from duckdb_constraints() where {at} table_name = ?", schema, name)
        state["indexes"] = texts(con, f"select sql from duckdb_indexes() where {at} table_name = ? and sql is not null", schema, name)
        state["rows"], state["digest"] = rows_and_digest(con, schema, name, state["columns"])
    return state


def save(args):
    only = args.only.split(",") if args.only else None
    state = {}
    with duckdb.connect(args.database, read_only=True) as con:
        # A timestamp with time zone reads as text in the session's zone.
        con.execute("set timezone = 'UTC'")
        found = con.execute(
            """select schema_name, table_name, 'table' from duckdb_tables()
               where database_name = current_database() and not internal and not temporary
               union all
               select schema_name, view_name, 'view' from duckdb_views()
               where database_name = current_database() and not internal and not temporary
               order by all"""
        ).fetchall()
        for schema, name, kind in found:
            if (only is None or schema in only) and not name.endswith(TEMPORARY):
                state[f"{schema}.{name}"] = describe(con, schema, name, kind)
    if not state:
        raise ValueError(f"{args.database} has no relation to check" + (f" in {args.only}" if only else ""))
    with open(args.state, "w") as out:
        json.dump(state, out, indent=1)
    print(f"{args.state}: {len(state)} relations")
    return 0


def load(path):
    """A saved state."""
    with open(path) as text:
        state = json.load(text)
    if not isinstance(state, dict) or not all(isinstance(one, dict) and "columns" in one for one in state.values()):
        raise ValueError(f"{path} was not written by verify.py save")
    return state


def relations_of(path):
    """The relations that a dbt project builds, as schema.name."""
    with open(path) as text:
        manifest = json.load(text)
    if not isinstance(manifest, dict) or "nodes" not in manifest:
        raise ValueError(f"{path} is not a dbt manifest")
    nodes = manifest["nodes"].values()
    return {
        f"{node['schema']}.{node.get('alias') or node['name']}"
        for node in nodes
        if node["resource_type"] in ("model", "seed", "snapshot") and node["config"]["materialized"] != "ephemeral"
    }


def differences(name, a, b):
    if a is None or b is None:
        yield f"{name}: only in {'the second' if a is None else 'the first'}"
        return
    for part in sorted(a.keys() | b.keys()):
        left, right = a.get(part), b.get(part)
        # Two dictionaries with the same entries are equal in any order; columns have one.
        if left == right and (part != "columns" or list(left) == list(right)):
            continue
        if part == "columns":
            for column in [c for c in left if c not in right]:
                yield f"{name}: column {column} only in the first"
            for column in [c for c in right if c not in left]:
                yield f"{name}: column {column} only in the second"
            for column in [c for c in left if c in right and left[c] != right[c]]:
                yield f"{name}: column {column}: {left[column]} -> {right[column]}"
            if left.keys() == right.keys() and list(left) != list(right):
                yield f"{name}: columns in another order"
        elif part == "rows":
            yield f"{name}: rows {left} -> {right}"
        elif part == "digest":
            yield f"{name}: content differs"
        else:
            yield f"{name}: {part}: {left} -> {right}"


def compare(args):
    first, second = load(args.a), load(args.b)
    names = first.keys() | second.keys()
    if args.only_models:
        built = relations_of(args.only_models)
        absent = built - names
        if absent:
            raise ValueError("built by the project, in neither state: " + ", ".join(sorted(absent)))
        names &= built
    found = [line for name in sorted(names) for line in differences(name, first.get(name), second.get(name))]
    print("\n".join(found) if found else f"the same: {len(names)} relations")
    return 1 if found else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("save", help="write down the state of a database file")
    one.add_argument("database")
    one.add_argument("state")
    one.add_argument("--only", help="these schemas, separated by commas")
    one.set_defaults(run=save)
    two = commands.add_parser("compare", help="compare two states")
    two.add_argument("a")
    two.add_argument("b")
    two.add_argument("--only-models", metavar="MANIFEST", help="only the relations that this dbt manifest builds")
    two.set_defaults(run=compare)
    args = parser.parse_args()
    try:
        return args.run(args)
    except (OSError, ValueError, duckdb.Error) as error:
        print(f"verify: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
