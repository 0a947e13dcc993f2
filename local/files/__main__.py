"""Sends a CSV or Parquet file to its topic. docs/how-to/replay-your-own-data.md shows a mapping and all settings.

python -m local.files orders.csv --map orders.map.yaml [--check] [--strict]
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from local.files import mapping, rows
from local.files.events import Events, Fault, Message
from local.files.mapping import MappingError
from local.files.rows import FileError
from local.instance import Instance
from local.simulator.producer import BrokerUnreachable, NotDelivered, TopicUnfit, deliver

NOTHING, UNUSABLE = 1, 2  # exit codes
MAX_REASONS = 1_000  # told apart: some quote the value


@dataclass
class Account:
    """What became of the file's rows."""

    events: int = 0
    rows: int = 0
    rejected: int = 0
    last: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def note(self, fault: Fault) -> None:
        """Counts a fault; the faults of a row come one after the other."""
        self.rejected += fault.row != self.last
        self.last = fault.row
        reason = re.sub(r"\brow \d+", "another row", fault.reason)
        reason = f"{fault.column}: {reason}" if fault.column else reason
        self.reasons[reason if reason in self.reasons or len(self.reasons) < MAX_REASONS else "other reasons"] += 1


class Rejected:
    """The list of rejected rows, a CSV file; there is none while no row is rejected."""

    def __init__(self, file: Path, account: Account) -> None:
        self.file, self._account = file, account
        file.unlink(missing_ok=True)

        self._stream: TextIO | None = None
        self._writer: Any = None

    def __enter__(self) -> Rejected:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def add(self, fault: Fault) -> None:
        if self._stream is None:
            self._stream = self.file.open("w", encoding="utf-8", errors="backslashreplace", newline="")
            self._writer = csv.writer(self._stream)
            self._writer.writerow(["row", "column", "value", "reason"])
        self._writer.writerow(astuple(fault))
        self._account.note(fault)


def counted(messages: Iterable[Message], account: Account) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of the messages, noted as they pass."""
    for message in messages:
        account.events += 1
        account.rows += message.rows
        yield message.key, message.value


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns 0 when events were made; 1 when none were, or with --strict when a row was rejected;
    2 when file, mapping or broker are unusable."""
    parser = argparse.ArgumentParser("python -m local.files", description="Send a CSV or Parquet file to its topic.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--map", type=Path, required=True, help="the mapping, a YAML file")
    parser.add_argument("--bootstrap", help="host:port of the broker; this platform's own if left out")
    parser.add_argument("--check", action="store_true", help="send nothing, only say what would be rejected")
    parser.add_argument("--strict", action="store_true", help="exit code 1 when any row is rejected")
    parser.add_argument("--rejected", type=Path, help="where rejected rows are listed; FILE.rejected.csv if left out")
    options = parser.parse_args(arguments)
    account = Account()
    file = options.rejected or options.file.with_name(f"{options.file.name}.rejected.csv")
    try:
        described, targets = mapping.read(options.map)
        with Rejected(file, account) as rejected:
            events = Events(described, targets, rejected.add)
            made = events.make(rows.read(options.file, described.input, events.columns))
            messages = counted(made, account)
            if options.check:
                for _ in messages:
                    pass
            else:
                deliver(options.bootstrap or Instance.current().bootstrap, described.topic, messages)
    except (MappingError, FileError, BrokerUnreachable, TopicUnfit, NotDelivered, OSError) as error:
        print(f"replay: {error}", file=sys.stderr)
        return UNUSABLE
    verb = "would be sent" if options.check else "sent"
    print(f"{account.events:,} events of {account.rows:,} rows {verb} to {described.topic}")
    if account.rejected:
        print(f"{account.rejected:,} rows rejected, listed in {file}:")
        for reason, times in account.reasons.most_common(10):
            print(f"  {times:>6,}  {reason}")
    if not account.events:
        print("replay: nothing could be mapped", file=sys.stderr)
        return NOTHING
    return NOTHING if options.strict and account.rejected else 0


if __name__ == "__main__":
    sys.exit(main())
