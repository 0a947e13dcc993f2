"""The wait for a window's end, on a clock that is moved."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from include.contracts.contract import topics
from local.instance import ROOT, Instance
from madhatter import kafka
from tests.stand_ins import DEADLINE_S, Broker

# Waits for a moment as the triggerer does; says when it begins to. Its clock is ahead by what a file says.
WAIT = """
import asyncio, os, sys
from datetime import datetime, timedelta
from pathlib import Path
from madhatter import closed
from madhatter.closed import HourClosedTrigger

class Moved(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + timedelta(days=float(Path(os.environ["DAYS_AHEAD"]).read_text()))

closed.datetime = Moved

async def wait():
    trigger = HourClosedTrigger(sys.argv[1], sys.argv[2:], "kafka_default", poll_s=0.05)
    waiting = asyncio.ensure_future(anext(trigger.run()))
    await asyncio.sleep(0)
    print("waiting", flush=True)
    print((await waiting).payload, flush=True)

asyncio.run(wait())
"""


def test_window_that_ended_while_the_machine_slept_is_closed_when_it_wakes(broker: Broker, tmp_path: Path) -> None:
    kafka.create_topics(broker.admin, topics())
    broker.wait_for_leaders(*topics())
    days_ahead = tmp_path / "days"
    days_ahead.write_text("0")
    connection = json.dumps({"conn_type": "kafka", "extra": {"bootstrap.servers": broker.bootstrap}})
    env = Instance(tmp_path / "instance", 40_000).environment() | {"DAYS_AHEAD": str(days_ahead)}
    moment = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    waiting = subprocess.Popen(
        [sys.executable, "-c", WAIT, moment, *topics()],
        cwd=ROOT,
        env=env | {"AIRFLOW_CONN_KAFKA_DEFAULT": connection},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "waiting\n"
        days_ahead.write_text("3")
        said, _ = waiting.communicate(timeout=DEADLINE_S)
    finally:
        waiting.kill()
        waiting.wait()
    assert said == f"{ {'closed': moment} }\n"
