"""The tests' pipeline: waits for a file, fails, or counts numbers with Beam, as its parameters say."""

from __future__ import annotations

import argparse
import signal
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, required=True, help="gets a line at start and end")
    parser.add_argument("--wait_for", type=Path, help="go on when this file exists")
    parser.add_argument("--stubborn", choices=["yes"], help="do not mind SIGTERM")
    parser.add_argument("--fail", help="raise this")
    parser.add_argument("--count", type=int, help="count so many numbers with Beam")
    arguments, options = parser.parse_known_args()
    if arguments.stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with arguments.output.open("a") as output:
        print("start", file=output, flush=True)
        while arguments.wait_for and not arguments.wait_for.exists():
            time.sleep(0.05)
        if arguments.fail:
            raise ValueError(arguments.fail)
        if arguments.count:
            print(count(arguments.count, options), file=output)
        print("end", file=output)


def count(numbers: int, options: list[str]) -> int:
    """Count numbers in a Beam pipeline with these options; from the committed metrics, as nothing else is shared."""
    import apache_beam as beam
    from apache_beam.metrics.metric import Metrics, MetricsFilter
    from apache_beam.options.pipeline_options import PipelineOptions

    seen = Metrics.counter("tests", "seen")
    pipeline = beam.Pipeline(options=PipelineOptions(options))
    _ = pipeline | beam.Create(range(numbers)) | beam.Map(lambda _: seen.inc())
    result = pipeline.run()
    result.wait_until_finish()
    return int(result.metrics().query(MetricsFilter().with_name("seen"))["counters"][0].committed)


if __name__ == "__main__":
    main()
