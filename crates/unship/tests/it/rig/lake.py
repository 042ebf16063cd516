"""An independent writer and reader of Iceberg tables: pyiceberg, which knows nothing of unship.

lake.py do JSON       carries out operations on tables of a namespace, in order
lake.py show          prints what every table and view of the namespace is
lake.py append FILE   appends to a table, one row a commit, until the file is gone; prints the rows
lake.py read FILE     reads two tables that change together until the file is gone; counts pairs and mixtures
lake.py kept TABLE    prints the ids that some branch or tag of the table still holds
lake.py refs TABLE    prints the branches and tags of the table, and the namespaces that there are

Where the environment names a branch and a namespace to build in, operations go there.
"""

import json
import os
import sys
import time

import pyarrow as pa
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import BadRequestError, CommitFailedException
from pyiceberg.schema import Schema
from pyiceberg.transforms import BucketTransform, IdentityTransform
from pyiceberg.types import (
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
)
from pyiceberg.view.metadata import ViewVersion

SPACE = os.environ["LAKE_NAMESPACE"]
catalog = RestCatalog(
    "lake", uri=os.environ["UNSHIP_TEST_REST_CATALOG"], token=os.environ["UNSHIP_TEST_REST_TOKEN"]
)


BRANCH = os.environ.get("UNSHIP_ICEBERG_BRANCH")
ASIDE = os.environ.get("UNSHIP_ICEBERG_NAMESPACE", SPACE)


def branch(table):
    """A branch begins where main is; pyiceberg would begin it empty."""
    if BRANCH and BRANCH not in table.refs():
        at = table.current_snapshot().snapshot_id
        table.manage_snapshots().create_branch(at, BRANCH).commit()
        table.refresh()
    return BRANCH or "main"


def arrow(columns, rows):
    schema = pa.schema([(name, pa.int64()) for name in columns])
    return pa.table({c: [row[i] for row in rows] for i, c in enumerate(columns)}, schema=schema)


def fitting(table, rows):
    """Rows as the table has its columns now."""
    schema = table.schema().as_arrow()
    return pa.Table.from_pylist([dict(zip(schema.names, row)) for row in rows], schema=schema)


TYPES = {
    "int": IntegerType(),
    "long": LongType(),
    "float": FloatType(),
    "double": DoubleType(),
    "string": StringType(),
}


def schema_of(columns):
    fields = enumerate(columns, 1)
    return Schema(*[NestedField(n, name, TYPES[kind], required=False) for n, (name, kind) in fields])


def make_view(name, text, columns):
    version = ViewVersion(
        schema_id=0,
        summary={"engine-name": "pyiceberg"},
        representations=[{"type": "sql", "sql": text, "dialect": "spark"}],
        default_catalog="lake",
        default_namespace=(SPACE,),
    )
    catalog.create_view((SPACE, name), schema_of(columns), version)


# What changes a table's columns, its partitioning, its sort order, its properties.
COLUMNS = {
    "add column": lambda update, name, kind="long": update.add_column(name, TYPES[kind]),
    "rename column": lambda update, old, new: update.rename_column(old, new),
    "drop column": lambda update, name: update.delete_column(name),
    "move first": lambda update, name: update.move_first(name),
    "promote": lambda update, name, kind: update.update_column(name, field_type=TYPES[kind]),
}
PARTITIONS = {
    "partition by": lambda update, name: update.add_field(name, IdentityTransform(), name),
    "bucket by": lambda update, name, into: update.add_field(name, BucketTransform(2), into),
    "part no more by": lambda update, name: update.remove_field(name),
}
ORDERS = {
    "order by": lambda update, name: update.asc(name, IdentityTransform()),
    "order down by": lambda update, name: update.desc(name, IdentityTransform()),
}
PROPERTIES = {
    "property": lambda update, key, value: update.set_properties({key: value}),
    "no property": lambda update, key: update.remove_properties(key),
}
# What changes names.
NAMES = {
    "define": lambda name, columns: catalog.create_table((ASIDE, name), schema=schema_of(columns)),
    "drop": lambda name: catalog.drop_table((SPACE, name)),
    "rename": lambda name, to: catalog.rename_table((SPACE, name), (SPACE, to)),
    "view": make_view,
    "drop view": lambda name: catalog.drop_view((SPACE, name)),
}


def carry_out(operation):
    what, name, *rest = operation
    full = (SPACE, name)
    if what == "create":
        columns, rows = rest
        data = arrow(columns, rows)
        catalog.create_table((ASIDE, name), schema=data.schema).append(data)
    elif what == "append":
        table = catalog.load_table(full)
        patiently(table, rest[0], branch(table))
    elif what == "append begun empty":
        table = catalog.load_table(full)
        table.append(fitting(table, rest[0]), branch=BRANCH)
    elif what == "append to main":
        table = catalog.load_table(full)
        table.append(fitting(table, rest[0]))
    elif what == "overwrite":
        table = catalog.load_table(full)
        table.overwrite(fitting(table, rest[0]), branch=branch(table))
    elif what in COLUMNS:
        with catalog.load_table(full).update_schema() as update:
            COLUMNS[what](update, *rest)
    elif what in PARTITIONS:
        with catalog.load_table(full).update_spec() as update:
            PARTITIONS[what](update, *rest)
    elif what in ORDERS:
        with catalog.load_table(full).update_sort_order() as update:
            ORDERS[what](update, *rest)
    elif what in PROPERTIES:
        with catalog.load_table(full).transaction() as transaction:
            PROPERTIES[what](transaction, *rest)
    elif what in NAMES:
        NAMES[what](name, *rest)
    elif what == "fail":
        sys.exit(3)
    else:
        raise ValueError(what)


def columns_of(schema):
    return [[f.field_id, f.name, str(f.field_type), f.required, f.doc] for f in schema.fields]


def show():
    out = {}
    for full in sorted(catalog.list_tables(SPACE)):
        table = catalog.load_table(full)
        data = table.scan().to_arrow()
        rows = sorted([list(row.values()) for row in data.to_pylist()], key=str)
        own = {k: v for k, v in table.properties.items() if not k.startswith("unship.")}
        spec, order = table.spec(), table.sort_order()
        out[full[-1]] = {
            "columns": [table.schema().schema_id, columns_of(table.schema())],
            "rows": rows,
            "partitions": [
                spec.spec_id,
                [[f.source_id, f.field_id, f.name, str(f.transform)] for f in spec.fields],
            ],
            "order": [order.order_id, [str(f) for f in order.fields]],
            "properties": own,
        }
    for full in sorted(catalog.list_views(SPACE)):
        view = catalog.load_view(full)
        version = view.current_version()
        # A view that was changed back may say the same by another version.
        out[full[-1]] = {
            "columns": columns_of(view.schema()),
            "says": [[one.root.dialect, one.root.sql] for one in version.representations],
            "where": [version.default_catalog, version.default_namespace],
            "properties": view.properties,
        }
    print(json.dumps(out, sort_keys=True, default=str))


def patiently(table, rows, to="main"):
    """Whoever comes too late tries again, as writers do. Where somebody wrote to another branch, the
    catalog calls the new snapshot's number a bad request."""
    for _ in range(50):
        try:
            return table.append(fitting(table, rows), branch=to)
        except (CommitFailedException, BadRequestError):
            table = catalog.load_table(table.name())
    raise SystemExit("somebody else was always faster")


def append(until):
    number = 0
    done = []
    while os.path.exists(until):
        number += 1
        patiently(catalog.load_table((SPACE, "orders")), [[1_000_000 + number, 0]])
        done.append(1_000_000 + number)
        time.sleep(0.25)
    print(json.dumps(done))


def read(until):
    """A pair counts only where the first table is the same before and after the second is read, and
    where the file says all the while that no job is at work on the tables themselves."""
    seen = mixed = 0

    def quiet():
        try:
            with open(until) as file:
                word = file.read()
        except FileNotFoundError:
            return None
        return word if word.startswith("quiet") else None

    def value(name):
        table = catalog.load_table((SPACE, name))
        return table.scan().to_arrow()["value"].to_pylist()[0], table.metadata_location

    while os.path.exists(until):
        at = quiet()
        first, before = value("left")
        second, _ = value("right")
        if value("left")[1] == before and at is not None and quiet() == at:
            seen += 1
            mixed += first != second
    print(json.dumps([seen, mixed]))


def kept(name):
    table = catalog.load_table((SPACE, name))
    ids = set()
    for ref in table.metadata.refs.values():
        ids.update(table.scan(snapshot_id=ref.snapshot_id).to_arrow()["id"].to_pylist())
    print(json.dumps(sorted(ids)))


def refs(name):
    spaces = sorted(".".join(space) for space in catalog.list_namespaces())
    print(json.dumps([sorted(catalog.load_table((SPACE, name)).refs()), spaces]))


if __name__ == "__main__":
    catalog.create_namespace_if_not_exists(SPACE)
    command, *args = sys.argv[1:]
    if command == "do":
        for operation in json.loads(args[0]):
            carry_out(operation)
    else:
        {"show": show, "append": append, "read": read, "kept": kept, "refs": refs}[command](*args)
