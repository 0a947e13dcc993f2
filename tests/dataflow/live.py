"""Stands in for the streaming job: reads its snapshot, runs for ever, or fails at once while `<store>/fail` exists."""

from __future__ import annotations

import argparse
import time

from include import storage


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("bootstrap_servers", "store", "project", "snapshot"):
        parser.add_argument(f"--{name}", required=True)
    arguments, _ = parser.parse_known_args()
    print("taken at", storage.read_json(arguments.snapshot)["taken_ts"], flush=True)  # noqa: T201
    if storage.exists(f"{arguments.store}/fail"):
        raise ValueError(f"{arguments.store}/fail is there")
    while True:
        time.sleep(0.1)


if __name__ == "__main__":
    main()
