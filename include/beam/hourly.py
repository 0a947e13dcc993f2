"""One load from Kafka, or from the archive, to Parquet: read its plan, transform chunk by chunk, write the manifest.

Reads   plan.json (include/beam/plan.py) and the offsets it names.
Writes  <store>/loads/<load>/<table>/<chunk>.parquet, dead_letter/<chunk>.parquet, manifest.json; what comes from Kafka
        also to the archive (include/beam/archive.py).
Again   names follow from the chunk, so that a second or a doubled run writes the same files with the same content.

Nothing is shuffled but the chunks' names, so a load scales with workers, and each holds one chunk in memory.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Iterator, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.combiners import ToList

from include.beam.archive import ArchiveReader
from include.beam.plan import Chunk, ChunkResult, Manifest, Plan
from include.beam.sink import write_chunk
from include.beam.source import ChunkReader


class TransformChunk(beam.DoFn):  # type: ignore[misc]
    """Chunk -> ChunkResult; its files are whole when the result is yielded."""

    def __init__(self, plan: Plan, bootstrap_servers: str) -> None:
        self.plan, self.bootstrap_servers = plan, bootstrap_servers

    def setup(self) -> None:
        from_archive = self.plan.source == "archive"
        self.reader = ArchiveReader(self.plan.store) if from_archive else ChunkReader(self.bootstrap_servers)

    def process(self, chunk: Chunk) -> Iterator[ChunkResult]:
        # A chunk makes millions of short-lived values and no cycles: collecting in between costs a third of the time.
        gc.disable()
        try:
            records = self.reader.read(chunk)
            yield write_chunk(self.plan, chunk, records)
        finally:
            gc.enable()

    def teardown(self) -> None:
        self.reader.close()


def write_manifest(results: Sequence[ChunkResult], plan: Plan, started: float) -> None:
    """Writes manifest.json when all chunks are there."""
    manifest = Manifest(plan.load_id, tuple(results), round(time.time() - started, 2))
    manifest.check_covers(plan)
    manifest.write(plan.store)


def build(pipeline: beam.Pipeline, plan: Plan, bootstrap_servers: str) -> None:
    """Adds the load's steps to a pipeline."""
    _ = (
        pipeline
        | "chunks" >> beam.Create(plan.chunks)
        | "spread" >> beam.Reshuffle()
        | "transform" >> beam.ParDo(TransformChunk(plan, bootstrap_servers))
        | "gather" >> ToList()
        | "manifest" >> beam.Map(write_manifest, plan, time.time())
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Starts the pipeline. Runs it to its end on a local runner; on Dataflow the launcher returns at once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", required=True, help="URI of plan.json")
    parser.add_argument("--bootstrap_servers", required=True, help="Kafka's host:port,...")
    known, rest = parser.parse_known_args(argv)
    pipeline = beam.Pipeline(options=PipelineOptions(rest, save_main_session=False))
    build(pipeline, Plan.read(known.plan), known.bootstrap_servers)
    result = pipeline.run()
    if "Dataflow" not in type(pipeline.runner).__name__:
        result.wait_until_finish()


if __name__ == "__main__":
    main()
