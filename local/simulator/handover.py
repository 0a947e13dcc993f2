"""Where one sender of the market stops and the next goes on: a file that the first leaves and the second takes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Handover:
    """mark: Pace.mark of the orders that have been sent; until_ms: what is sent before this instant has been sent, and
    nothing after it. None: not known."""

    mark: str
    until_ms: int | None = None

    def leave(self, file: Path) -> None:
        """Writes the file, whole or not at all."""
        writing = file.with_suffix(".writing")
        writing.write_text(json.dumps(asdict(self)))
        writing.replace(file)


def take(file: Path, mark: str) -> Handover | None:
    """What the sender before has left, None when there was none. From now on it is the taker's market that is sent."""
    left = Handover(**json.loads(file.read_text())) if file.exists() else None
    Handover(mark).leave(file)
    return left
