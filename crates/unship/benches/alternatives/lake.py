"""Iceberg tables for the benchmark: made, released and taken back without reading a row.

lake.py make NAMESPACE TABLES        makes tables, through the protocol itself
lake.py release NAMESPACE ROWS       a snapshot more on each, that claims so many rows: one commit
lake.py back NAMESPACE               every table back to the snapshot before, by pyiceberg
lake.py forth NAMESPACE              every table to its newest snapshot, by pyiceberg
lake.py peak COMMAND                 runs a command, and prints the most memory that it had, in bytes

`back` and `forth` print how long they took, in seconds, without the start of Python.
"""

import json
import os
import pathlib
import resource
import subprocess
import sys
import time
import urllib.parse

command, *args = sys.argv[1:]
if command == "peak":
    subprocess.run(args, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
    sys.exit()

import requests  # noqa: E402
from pyiceberg.catalog.rest import RestCatalog  # noqa: E402

URI = os.environ["LAKE_URI"]
TOKEN = os.environ["UNSHIP_TEST_REST_TOKEN"]
space = args[0]
session = requests.Session()
session.headers["authorization"] = f"Bearer {TOKEN}"


def ask(method, path, body=None):
    answer = session.request(method, f"{URI}/v1/{path}", json=body)
    if not answer.ok:
        raise SystemExit(f"{method} {path}: {answer.status_code} {answer.text}")
    return answer.json() if answer.content else None


def names():
    found, token = [], ""
    while token is not None:
        query = f"pageSize=1000&pageToken={urllib.parse.quote(token)}"
        page = ask("GET", f"namespaces/{space}/tables?{query}")
        found += [one["name"] for one in page["identifiers"]]
        token = page.get("next-page-token") or None
    return sorted(set(found))


def make(tables):
    fields = [
        {"id": n, "name": f"column_{n}", "type": "string" if n % 2 else "long", "required": False}
        for n in range(1, 21)
    ]
    schema = {"type": "struct", "schema-id": 0, "fields": fields}
    ask("POST", "namespaces", {"namespace": [space], "properties": {}})
    for n in range(tables):
        ask("POST", f"namespaces/{space}/tables", {"name": f"t{n:04}", "schema": schema})


def release(rows):
    changes = []
    for name in names():
        table = ask("GET", f"namespaces/{space}/tables/{name}")["metadata"]
        snapshots = table.get("snapshots") or []
        number = len(snapshots) + 1
        folder = pathlib.Path(urllib.parse.urlparse(table["location"]).path) / "metadata"
        folder.mkdir(parents=True, exist_ok=True)
        # Whoever goes back reads no list of manifests: it only has to be there.
        manifests = folder / f"snap-{number}.avro"
        manifests.write_bytes(b"Obj\x01")
        identity = int(table["table-uuid"].replace("-", "")[:14], 16) + number
        snapshot = {
            "snapshot-id": identity,
            "sequence-number": table.get("last-sequence-number", 0) + 1,
            "timestamp-ms": int(time.time() * 1000),
            "manifest-list": f"file://{manifests}",
            "schema-id": 0,
            "summary": {
                "operation": "append",
                "added-records": str(rows),
                "total-records": str(rows * number),
                "total-data-files": str(rows // 1000 + 1),
                "total-delete-files": "0",
            },
        }
        if snapshots:
            snapshot["parent-snapshot-id"] = table["current-snapshot-id"]
        to_main = {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": identity}
        changes.append({
            "identifier": {"namespace": [space], "name": name},
            "requirements": [{"type": "assert-table-uuid", "uuid": table["table-uuid"]}],
            "updates": [{"action": "add-snapshot", "snapshot": snapshot}, to_main],
        })
    ask("POST", "transactions/commit", {"table-changes": changes})


def move(to):
    """As a script does that somebody writes for it: table after table."""
    tables = names()
    catalog = RestCatalog("lake", uri=URI, token=TOKEN)
    began = time.perf_counter()
    for name in tables:
        table = catalog.load_table((space, name))
        table.manage_snapshots().set_current_snapshot(to(table)).commit()
    print(json.dumps({"seconds": time.perf_counter() - began}))


if command == "make":
    make(int(args[1]))
elif command == "release":
    release(int(args[1]))
elif command == "back":
    move(lambda table: table.current_snapshot().parent_snapshot_id)
elif command == "forth":
    move(lambda table: max(table.metadata.snapshots, key=lambda s: s.sequence_number).snapshot_id)
