"""The wait for a window's end: a sensor that leaves its worker, and the trigger that watches clock and log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import BaseSensorOperator, Context
from airflow.triggers.base import BaseTrigger, TriggerEvent

from madhatter import kafka


class HourClosedTrigger(BaseTrigger):
    """Fires when the clock has passed `moment` and all partitions of the topics have leaders that answer. A broker that
    is away is waited for; a topic that does not exist ends the wait with its name."""

    def __init__(self, moment: str, topics: list[str], conn_id: str, poll_s: float = 5.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.moment, self.topics, self.conn_id, self.poll_s = moment, topics, conn_id, poll_s

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            "madhatter.closed.HourClosedTrigger",
            {"moment": self.moment, "topics": self.topics, "conn_id": self.conn_id, "poll_s": self.poll_s},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        from airflow.sdk import Connection

        # In steps: a machine that sleeps does not count the seconds, and is late when it wakes.
        while (left := (datetime.fromisoformat(self.moment) - datetime.now(UTC)).total_seconds()) > 0:
            await asyncio.sleep(min(left, self.poll_s))
        extra = (await Connection.async_get(self.conn_id)).extra_dejson
        told = ""
        while True:
            try:
                problem = "; ".join(await asyncio.to_thread(lambda: kafka.unready(kafka.admin(extra), self.topics)))
            except kafka.TopicsMissing as error:
                yield TriggerEvent({"error": str(error)})
                return
            except kafka.BrokerDown as error:
                problem = str(error)
            if not problem:
                yield TriggerEvent({"closed": self.moment})
                return
            if problem != told:
                self.log.warning("the window is over, but the log is not ready: %s", problem)
                told = problem
            await asyncio.sleep(self.poll_s)


class HourClosedSensor(BaseSensorOperator):
    """Waits in the triggerer until the run's window and its tail are over and every partition has a leader."""

    def __init__(self, *, conn_id: str = kafka.CONNECTION, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id

    def execute(self, context: Context) -> None:
        from include.contracts.contract import topics
        from madhatter.partitions import window

        moment = window(context).closes
        self.defer(trigger=HourClosedTrigger(moment.isoformat(), list(topics()), self.conn_id), method_name="closed")

    def closed(self, context: Context, event: dict[str, str]) -> None:  # noqa: ARG002
        if "error" in event:
            raise kafka.TopicsMissing(event["error"])
        self.log.info("window closed at %s", event["closed"])
