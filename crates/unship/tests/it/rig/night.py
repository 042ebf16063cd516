"""The lake's part of a night over three warehouses, by pyiceberg, which knows nothing of unship.

night.py write N    puts N into two tables, where the environment says, and prints what is there then
night.py serve      for each line that comes in, prints what both tables show, as one moment has them
"""

import json
import sys

import lake

TABLES = ["orders", "customers"]


def value(table, branch=None):
    at = table.refs()[branch].snapshot_id if branch else None
    rows = table.scan(snapshot_id=at).to_arrow()["value"].to_pylist()
    return max(rows, default=0)


def write(n):
    found = []
    for name in TABLES:
        if lake.catalog.table_exists((lake.SPACE, name)):
            lake.carry_out(["overwrite", name, [[1, n], [2, n]]])
            table = lake.catalog.load_table((lake.SPACE, name))
            found.append(value(table, lake.BRANCH))
        else:
            lake.carry_out(["create", name, ["id", "value"], [[1, n], [2, n]]])
            found.append(value(lake.catalog.load_table((lake.ASIDE, name))))
    print(min(found))


def serve():
    load = lambda name: lake.catalog.load_table((lake.SPACE, name))
    for _ in sys.stdin:
        while True:
            one, other = load(TABLES[0]), load(TABLES[1])
            shown = [value(one), value(other)]
            if load(TABLES[0]).metadata_location == one.metadata_location:
                break
        print(json.dumps(shown), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(int(sys.argv[2]))
    else:
        serve()
