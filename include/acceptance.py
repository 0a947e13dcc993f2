"""Whether the platform would take an event, before it is sent: the pipeline's own parser, so its words are the same."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from include import references
from include.beam.parse import Parser
from include.beam.source import Records


def refusals(topic: str, values: Sequence[bytes], arrival_ms: int) -> dict[int, str]:
    """Index in values -> why the platform would make it a dead letter, had it arrived at arrival_ms (POSIX time).

    Raises LookupError with the known topics when there is no contract.
    """
    count = len(values)
    records = Records(list(range(count)), [arrival_ms] * count, [None] * count, list(values))
    return _parser(topic).parse(records).reasons


@cache
def _parser(topic: str) -> Parser:
    folder = Path(str(references.__file__)).parent
    tables = {name: references.read((folder / f"{name}.csv").as_uri()) for name in references.REFERENCES}
    return Parser(topic, tables)
