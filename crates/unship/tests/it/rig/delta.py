"""An independent writer and reader of Delta tables: the Python package `deltalake`, which knows
nothing of unship. DELTA_ROOT is a directory, or the URL of one in an S3 bucket.

delta.py do JSON          carries out operations on tables below DELTA_ROOT, in order
delta.py show             prints what every table is: rows, columns, partitions, properties
delta.py append FILE      appends to a table, one row a commit, until the file is gone; prints the rows
delta.py kept TABLE       prints the ids that some version of the table holds
delta.py history TABLE    prints what the newest commit says of itself
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

ROOT = os.environ["DELTA_ROOT"]
IN_STORE = "://" in ROOT


def arrow(columns, rows):
    kinds = {int: pa.int64(), str: pa.string()}
    column = lambda i: [row[i] for row in rows]
    kind = lambda i: next((kinds[type(v)] for v in column(i) if v is not None), pa.int64())
    return pa.table({c: pa.array(column(i), kind(i)) for i, c in enumerate(columns)})


def columns(table):
    return [field.name for field in table.schema().fields]


def bucket():
    """The bucket, and where the root lies in it."""
    import boto3

    name, _, prefix = ROOT.split("://")[1].partition("/")
    return boto3.resource("s3").Bucket(name), prefix


def drop(name):
    if not IN_STORE:
        return shutil.rmtree(f"{ROOT}/{name}")
    objects, prefix = bucket()
    objects.objects.filter(Prefix=f"{prefix}/{name}/").delete()


def carry_out(operation):
    what, name, *rest = operation
    path = f"{ROOT}/{name}"
    if what == "create":
        names, rows, *partitions = rest
        write_deltalake(path, arrow(names, rows), partition_by=partitions or None)
    elif what == "append":
        names = rest[1] if len(rest) > 1 else columns(DeltaTable(path))
        write_deltalake(path, arrow(names, rest[0]), mode="append", schema_mode="merge")
    elif what == "overwrite":
        table = DeltaTable(path)
        write_deltalake(path, arrow(columns(table), rest[0]), mode="overwrite")
    elif what == "replace":
        # As a new table, with an identity of its own, in the same log.
        DeltaTable.create(path, DeltaTable(path).schema(), mode="overwrite")
        carry_out(["append", name, rest[0]])
    elif what == "delete":
        DeltaTable(path).delete(rest[0])
    elif what == "property":
        DeltaTable(path).alter.set_table_properties({rest[0]: rest[1]})
    elif what == "constraint":
        DeltaTable(path).alter.add_constraint({rest[0]: rest[1]})
    elif what == "compact":
        DeltaTable(path).optimize.compact()
    elif what == "checkpoint":
        DeltaTable(path).create_checkpoint()
    elif what == "vacuum":
        DeltaTable(path).vacuum(0, dry_run=False, enforce_retention_duration=False)
    elif what == "drop":
        drop(name)
    elif what == "fail":
        sys.exit(3)
    else:
        raise ValueError(what)


def tables():
    if IN_STORE:
        objects, prefix = bucket()
        keys = (o.key[len(prefix) + 1 :] for o in objects.objects.filter(Prefix=f"{prefix}/"))
        yield from sorted({key.split("/_delta_log/")[0] for key in keys if "/_delta_log/" in key})
        return
    for log in sorted(Path(ROOT).rglob("_delta_log")):
        name = log.parent.relative_to(ROOT)
        if not name.name.startswith("unship_r"):
            yield str(name)


def show():
    out = {}
    for name in tables():
        table = DeltaTable(f"{ROOT}/{name}")
        names = sorted(columns(table))
        rows = table.to_pyarrow_table(columns=names).to_pylist()
        metadata = table.metadata()
        out[name] = {
            "columns": columns(table),
            "rows": sorted([[row[c] for c in names] for row in rows], key=str),
            "partitions": metadata.partition_columns,
            "properties": metadata.configuration,
        }
    print(json.dumps(out, sort_keys=True))


def append(until):
    done = []
    number = 1000
    while os.path.exists(until):
        number += 1
        try:
            carry_out(["append", "s/orders", [[number, number]]])
            done.append(number)
        except Exception as error:  # a conflict: nothing was written
            print(error, file=sys.stderr)
        time.sleep(0.5)
    print(json.dumps(done))


def kept(name):
    path = f"{ROOT}/{name}"
    ids = set()
    for version in range(DeltaTable(path).version() + 1):
        table = DeltaTable(path, version=version).to_pyarrow_table(columns=["id"])
        ids.update(table.column("id").to_pylist())
    print(json.dumps(sorted(ids)))


def history(name):
    print(json.dumps(DeltaTable(f"{ROOT}/{name}").history(1)[0], default=str))


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "do":
        for operation in json.loads(rest[0]):
            carry_out(operation)
    else:
        {"show": show, "append": append, "kept": kept, "history": history}[what](*rest)
    # The package's threads may abort a Python that ends in the ordinary way.
    sys.stdout.flush()
    os._exit(0)
