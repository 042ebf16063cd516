"""Makes the demo's warehouse: raw tables of a small chain of bakeries, in one DuckDB file.

Deterministic: the same arguments give the same rows on every machine. `--gigabytes` adds a
wide raw table of page timings until the file has that size, for benchmarks.
"""

import argparse
import pathlib
import sys

import duckdb

RAW = pathlib.Path(__file__).resolve().parent / "raw"
FIRST_ROWS = 500_000
MOST_ROWS = 8_000_000

# Some 73 bytes a row that hardly compress, as tracking tables are. hash() and not MD5, as in
# days.sql: ten times faster, and nothing that is built reads this table.
BULK_TABLE = """
create table raw.page_timings (
    event_hash ubigint, session_hash ubigint, visitor_hash ubigint, basket_hash ubigint, trace_hash ubigint, span_hash ubigint,
    occurred_at timestamp, store_id integer, page varchar, server_ms float, paint_ms double, scroll double, pointer_x double, pointer_y double
)
"""
BULK = """
insert into raw.page_timings
select
    hash(n), hash(n // 5, 1), hash(n * 7919 % 250000, 2), hash(n, 3), hash(n, 4), hash(n, 5),
    timestamp '2025-01-01' + to_milliseconds(n * 80), (n % 6 + 1)::integer,
    ['/', '/menu', '/menu/bread', '/menu/lunch', '/basket', '/stores'][(1 + hash(n, 6) % 6)::bigint],
    hash(n, 7) % 2000 / 10, hash(n, 8) / 1e16, hash(n, 9) / 2e19, hash(n, 10) / 1e16, hash(n, 11) / 1e16
from range({first}, {until}) as numbers (n)
"""


def load_days(con, first, until):
    """Loads the raw rows of days `first` to `until` (not included) in one transaction."""
    con.execute(f"set variable first_day = {int(first)}")
    con.execute(f"set variable until_day = {int(until)}")
    con.execute("begin")
    con.execute((RAW / "days.sql").read_text())
    con.execute("commit")


def fill(con, path, size):
    """Appends page timings until the file at `path` has at least `size` bytes."""
    con.execute(BULK_TABLE)
    first, rows = 0, FIRST_ROWS
    while path.stat().st_size < size:
        con.execute(BULK.format(first=first, until=first + rows))
        con.execute("checkpoint")
        first += rows
        # Sized by what the rows so far have taken, to end near the size asked for.
        missing = (size - path.stat().st_size) * first // path.stat().st_size
        rows = int(min(MOST_ROWS, max(FIRST_ROWS // 10, missing)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("database", type=pathlib.Path, help="the DuckDB file to make; must not exist")
    parser.add_argument("--days", type=int, default=100, help="days of trade since 2026-01-01 (default 100)")
    parser.add_argument("--gigabytes", type=float, default=0, help="grow the file to this size (10^9 bytes)")
    args = parser.parse_args()
    if args.database.exists():
        sys.exit(f"{args.database} exists already: choose another name, or remove it first")
    if args.days < 1:
        sys.exit("--days must be at least 1")
    args.database.parent.mkdir(parents=True, exist_ok=True)
    # Under another name until it is whole: an interrupted run leaves nothing that looks finished.
    making = args.database.with_name(args.database.name + ".part")
    making.unlink(missing_ok=True)
    with duckdb.connect(str(making)) as con:
        con.execute((RAW / "tables.sql").read_text())
        load_days(con, 0, args.days)
        con.execute("checkpoint")
        if args.gigabytes:
            fill(con, making, args.gigabytes * 1e9)
        orders, = con.execute("select count(*) from raw.orders").fetchone()
    making.rename(args.database)
    size = args.database.stat().st_size / 1e6
    print(f"{args.database}: {args.days} days, {orders:,} orders, {size:,.1f} MB")


if __name__ == "__main__":
    main()
