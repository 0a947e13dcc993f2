"""The benchmark's own contract, read and generated like every other but registered only in the process that asks."""

from __future__ import annotations

import tempfile
from pathlib import Path

from include.contracts import contract, generate, generated
from include.contracts.odcs import read

TOPIC = "bench.events"
TABLE = "bench_event"


def register() -> None:
    """Makes the contract known to this process: the pipeline then finds its parser as it finds a product's."""
    made = read(Path(__file__).with_name(f"{TOPIC}.yaml"))
    module = f"{made.module}.py"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, module).write_text(generate.outputs([made])[f"{generate.GENERATED}/{module}"])
        generated.__path__.append(folder)
        generated.TOPICS = (*generated.TOPICS, TOPIC)
        contract.generated(TOPIC)
        generated.__path__.remove(folder)
