"""The plan of a load and the manifest of its files: the two JSON files between Airflow and a pipeline.

A load is what one job transforms and one transaction publishes: a slice, whose id it has, or many that are replayed.

plan.json      what to read: chunks of offsets, the references to look values up in, where to read and to write.
manifest.json  what was written: per chunk the files with rows and bytes, offsets delivered, holes, event hours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from include import storage

Source = Literal["kafka", "archive"]


@dataclass(frozen=True)
class Chunk:
    """Offsets [start, end) of one partition, which belong to a slice. fixes: (offset, rule of include/fixes) of dead
    letters that are mended."""

    slice_id: str
    topic: str
    partition: int
    start: int
    end: int
    fixes: tuple[tuple[int, str], ...] = ()

    @property
    def name(self) -> str:
        """File stem of what comes from this chunk: the same chunk always writes the same names."""
        return f"{self.topic}-{self.partition}-{self.start}-{self.end}"

    def path(self, table: str) -> str:
        """Its file of a table, below the load's folder."""
        return f"{table}/{self.name}.parquet"


@dataclass(frozen=True)
class Plan:
    """What one run of `hourly` reads and where it writes. `store` is the base URI; `references` {name: URI} pins the
    tables that events are enriched from; `source`: where the chunks' records are."""

    load_id: str
    store: str
    chunks: tuple[Chunk, ...]
    references: Mapping[str, str]
    source: Source = "kafka"

    @property
    def folder(self) -> str:
        return load_folder(self.store, self.load_id)

    def write(self) -> str:
        """Writes plan.json; returns its URI."""
        uri = Plan.uri(self.store, self.load_id)
        storage.write_json(uri, asdict(self))
        return uri

    @staticmethod
    def uri(store: str, load_id: str) -> str:
        return storage.join(load_folder(store, load_id), "plan.json")

    @staticmethod
    def read(uri: str) -> Plan:
        """Reads plan.json. Raises FileNotFoundError or ValueError with the URI."""
        try:
            raw = storage.read_json(uri)
            chunks = tuple(map(_chunk, raw["chunks"]))
            return Plan(raw["load_id"], raw["store"], chunks, dict(raw["references"]), raw["source"])
        except (KeyError, TypeError, ValueError) as error:  # ValueError: cut, or no JSON at all
            raise ValueError(f"{uri} is not a plan: {error!r}") from error


def load_folder(store: str, load_id: str) -> str:
    """Where a load's plan, files to stage and manifest are."""
    return storage.join(store, "loads", load_id)


def cut(slice_id: str, topic: str, partition: int, start: int, end: int, size: int) -> list[Chunk]:
    """Chunks of at most `size` offsets that cover [start, end) without gap or overlap; none when it is empty."""
    return [Chunk(slice_id, topic, partition, at, min(at + size, end)) for at in range(start, end, size)]


@dataclass(frozen=True)
class File:
    """A Parquet file of the load; `path` is below the load's folder."""

    table: str
    path: str
    rows: int
    size_bytes: int


@dataclass(frozen=True)
class ChunkResult:
    """What a chunk gave. delivered + holes = end - start; hours are event hours, ISO, UTC."""

    chunk: Chunk
    files: tuple[File, ...]
    delivered: int
    holes: int
    dead_letters: int
    hours: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """All chunk results of a load; `seconds` is the pipeline's own running time."""

    load_id: str
    results: tuple[ChunkResult, ...]
    seconds: float

    @staticmethod
    def uri(store: str, load_id: str) -> str:
        return storage.join(load_folder(store, load_id), "manifest.json")

    def write(self, store: str) -> str:
        """Writes manifest.json; returns its URI."""
        uri = Manifest.uri(store, self.load_id)
        storage.write_json(uri, asdict(self))
        return uri

    @staticmethod
    def read(store: str, load_id: str) -> Manifest:
        """Reads a load's manifest. Raises FileNotFoundError when its pipeline has not ended."""
        raw = storage.read_json(Manifest.uri(store, load_id))
        return Manifest(raw["load_id"], tuple(map(_result, raw["results"])), raw["seconds"])

    def files(self, table: str) -> list[File]:
        """The files of one table, by name."""
        return sorted((f for r in self.results for f in r.files if f.table == table), key=lambda file: file.path)

    def topics(self) -> list[str]:
        """The topics with at least one row of an event, in order."""
        return sorted({r.chunk.topic for r in self.results if r.hours})

    def hours(self) -> dict[str, list[str]]:
        """Slice -> the event hours of its rows, in order; of slices with rows."""
        found: dict[str, set[str]] = {}
        for result in self.results:
            if result.hours:
                found.setdefault(result.chunk.slice_id, set()).update(result.hours)
        return {slice_id: sorted(hours) for slice_id, hours in sorted(found.items())}

    def check_covers(self, plan: Plan) -> None:
        """Raises ValueError unless every planned chunk is here once, with every offset delivered or a hole, and with at
        most one file a table, its own."""
        if self.load_id != plan.load_id:
            raise ValueError(f"manifest of {self.load_id}: the plan is of {plan.load_id}")
        planned, found = Counter(map(place, plan.chunks)), Counter(place(result.chunk) for result in self.results)
        if planned != found:
            missing = sorted((planned - found).elements())
            foreign = sorted((found - planned).elements())
            raise ValueError(f"manifest of {self.load_id}: missing chunks {missing}, foreign or doubled {foreign}")
        for result in self.results:
            chunk = result.chunk
            if result.delivered + result.holes != chunk.end - chunk.start:
                raise ValueError(
                    f"manifest of {self.load_id}: {chunk.name} delivered {result.delivered} and has {result.holes} "
                    f"holes, together not {chunk.end - chunk.start} offsets"
                )
            listed = Counter(file.path for file in result.files)
            wrong = listed - Counter({chunk.path(table) for table in {file.table for file in result.files}})
            if wrong:
                raise ValueError(
                    f"manifest of {self.load_id}: {chunk.name} lists foreign or doubled files {sorted(wrong)}"
                )


def place(chunk: Chunk) -> tuple[str, str, int, int, int]:
    """Slice, topic, partition, start and end of a chunk."""
    return chunk.slice_id, chunk.topic, chunk.partition, chunk.start, chunk.end


def _chunk(raw: Mapping[str, Any]) -> Chunk:
    return Chunk(**{**raw, "fixes": tuple((offset, rule) for offset, rule in raw["fixes"])})


def _result(raw: Mapping[str, Any]) -> ChunkResult:
    files: Iterable[Mapping[str, Any]] = raw["files"]
    return ChunkResult(
        chunk=_chunk(raw["chunk"]),
        files=tuple(File(**file) for file in files),
        delivered=raw["delivered"],
        holes=raw["holes"],
        dead_letters=raw["dead_letters"],
        hours=tuple(raw["hours"]),
    )
