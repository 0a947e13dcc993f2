"""The moved clock. Nothing here or in the platform is told another time: instead, all that has a time becomes older by
as long as the simulated time that has passed: the ledger's times, the files', the names of the ledger's exports."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.year.parts import Parts
    from madhatter.warehouse import Warehouse

TIMES = {
    "slice": ("planned_ts", "committed_ts", "published_ts"),
    "day": ("rolled_up_ts", "corrected_ts"),
    "metric": ("measured_ts",),
    "purge": ("purged_ts",),
}


def turn(warehouse: Warehouse, parts: Parts, passed: timedelta) -> None:
    """Makes everything older by so long."""
    seconds = int(passed.total_seconds())
    for table, columns in TIMES.items():
        sets = ", ".join(f"{column} = dateadd(second, -{seconds}, {column})" for column in columns)
        warehouse.run(f"update ops.{table} set {sets}")
    for root, _, names in os.walk(parts.store):
        for name in names:
            path = Path(root, name)
            then = path.stat().st_mtime - seconds
            os.utime(path, (then, then))
    _rename_exports(parts.store / "ledger", passed)


def spread(warehouse: Warehouse, first: datetime, end: datetime) -> None:
    """Gives the slices of the windows in [first, end), UTC, which were published together, the times that they would
    have had: as long ago as their windows ended before `end`."""
    sets = ", ".join(
        f"{column} = dateadd(second, -datediff(second, window_end, :end::timestamp_ntz), sysdate())"
        for column in TIMES["slice"]
    )
    warehouse.run(
        f"update ops.slice set {sets} where window_start >= :first and window_end <= :end",
        first=first.astimezone(UTC).replace(tzinfo=None),
        end=end.astimezone(UTC).replace(tzinfo=None),
    )


def _rename_exports(folder: Path, passed: timedelta) -> None:
    from madhatter.ledger_export import NAME

    # The oldest first, whose new name is free.
    for export in sorted(folder.iterdir()) if folder.exists() else ():
        then = datetime.strptime(export.name, NAME).replace(tzinfo=UTC) - passed
        export.rename(folder / then.strftime(NAME))
