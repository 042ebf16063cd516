"""Loads the next day of raw rows into a live warehouse, as the shop's loaders do every night."""

import argparse
import pathlib
import sys

import duckdb

from generate import load_days


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database", type=pathlib.Path)
    args = parser.parse_args()
    if not args.database.exists():
        sys.exit(f"{args.database} does not exist: make it with generate.py")
    with duckdb.connect(str(args.database)) as con:
        day, = con.execute("select date_diff('day', date '2026-01-01', max(ordered_at)::date) + 1 from raw.orders").fetchone()
        load_days(con, day, day + 1)
        date, orders = con.execute(
            "select max(ordered_at)::date, count(*) from raw.orders where id // 100000 = ?", [day + 1]
        ).fetchone()
    print(f"{args.database}: loaded {date}, {orders:,} orders")


if __name__ == "__main__":
    main()
