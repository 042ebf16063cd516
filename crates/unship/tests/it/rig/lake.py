"""An independent writer and reader of Iceberg tables: pyiceberg, which knows nothing of unship.

lake.py do JSON       carries out operations on tables of a namespace, in order
lake.py show          prints what every table and view of the namespace is
lake.py append FILE   appends to a table, one row a commit, until the file is gone; prints the rows
lake.py read FILE     reads two tables that change together until the file is gone; counts mixtures
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
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import LongType

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


def carry_out(operation):
    what, name, *rest = operation
    full = (SPACE, name)
    if what == "create":
        columns, rows = rest
        data = arrow(columns, rows)
        catalog.create_table((ASIDE, name), schema=data.schema).append(data)
    elif what == "append":
        table = catalog.load_table(full)
        data = arrow([f.name for f in table.schema().fields], rest[0])
        table.append(data, branch=branch(table))
    elif what == "append begun empty":
        table = catalog.load_table(full)
        table.append(arrow([f.name for f in table.schema().fields], rest[0]), branch=BRANCH)
    elif what == "append to main":
        table = catalog.load_table(full)
        table.append(arrow([f.name for f in table.schema().fields], rest[0]))
    elif what == "overwrite":
        table = catalog.load_table(full)
        data = arrow([f.name for f in table.schema().fields], rest[0])
        table.overwrite(data, branch=branch(table))
    elif what == "add column":
        with catalog.load_table(full).update_schema() as update:
            update.add_column(rest[0], LongType())
    elif what == "partition by":
        with catalog.load_table(full).update_spec() as update:
            update.add_field(rest[0], IdentityTransform(), rest[0])
    elif what == "property":
        with catalog.load_table(full).transaction() as transaction:
            transaction.set_properties({rest[0]: rest[1]})
    elif what == "drop":
        catalog.drop_table(full)
    elif what == "fail":
        sys.exit(3)
    else:
        raise ValueError(what)


def show():
    out = {}
    for full in sorted(catalog.list_tables(SPACE)):
        table = catalog.load_table(full)
        data = table.scan().to_arrow()
        rows = sorted([list(row.values()) for row in data.to_pylist()], key=str)
        own = {k: v for k, v in table.properties.items() if not k.startswith("unship.")}
        out[full[-1]] = {
            "columns": [f.name for f in table.schema().fields],
            "rows": rows,
            "partitions": [f.name for f in table.spec().fields],
            "properties": own,
        }
    print(json.dumps(out, sort_keys=True))


def append(until):
    number = 0
    done = []
    while os.path.exists(until):
        number += 1
        for _ in range(50):
            try:
                table = catalog.load_table((SPACE, "orders"))
                table.append(arrow(["id", "value"], [[1_000_000 + number, 0]]))
                done.append(1_000_000 + number)
                break
            except CommitFailedException:
                continue
        time.sleep(0.25)
    print(json.dumps(done))


def read(until):
    """A pair counts only where the first table is the same before and after the second is read."""
    seen = mixed = 0

    def value(name):
        table = catalog.load_table((SPACE, name))
        return table.scan().to_arrow()["value"].to_pylist()[0], table.metadata_location

    while os.path.exists(until):
        first, before = value("left")
        second, _ = value("right")
        if value("left")[1] == before:
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
