"""The real history in Kafka, each order once: a sending that was broken off goes on where it stopped."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from local.simulator import history, log, producer, replay


@dataclass(frozen=True)
class Sent:
    """What the topic holds of the history now. weeks: what every event time was moved by; kept: events that an earlier
    sending had left there."""

    events: int
    lines: int
    weeks: int
    kept: int


def send(bootstrap: str, topic: str, weeks: int) -> Sent:
    """Sends what the topic lacks of the history. Where a part of it is there, its shift goes before `weeks`.

    One producer sends a partition's orders in their own order, so that what is there is a beginning of each partition:
    the log ends up as after one sending. Raises BrokerUnreachable, TopicUnfit or NotDelivered.
    """
    there = delivered(bootstrap, topic)
    if not there:
        sent = replay.send(bootstrap, topic, weeks)
        return Sent(sent.events, sent.lines, weeks, 0)
    orders = list(history.read())
    weeks = _shift_weeks(orders, there, weeks)
    shift = timedelta(weeks=weeks)
    kept = {order.order_id for order in orders if there.get(order.order_id) == order.event_ts + shift}
    replay.send(bootstrap, topic, weeks, without=kept)
    return Sent(len(orders), sum(order.line_count for order in orders), weeks, len(kept))


def delivered(bootstrap: str, topic: str) -> dict[str, datetime]:
    """Order id -> event time, without zone, of what a topic holds. Raises BrokerUnreachable or TopicUnfit."""
    found: dict[str, datetime] = {}
    for message in log.read(bootstrap, {(topic, at): 0 for at in range(producer.check_topic(bootstrap, topic))}):
        # A sender of broken or foreign events is the pipeline's concern: here they are no part of the history.
        with suppress(ValueError, KeyError, TypeError):
            event: dict[str, Any] = json.loads(message.value() or b"")
            found[event["order_id"]] = datetime.fromisoformat(event["event_ts"]).replace(tzinfo=None)
    return found


def _shift_weeks(orders: list[history.Order], there: dict[str, datetime], otherwise: int) -> int:
    """The whole weeks that most of the history's orders that are there were moved by."""
    shifts = Counter(there[order.order_id] - order.event_ts for order in orders if order.order_id in there)
    shift = shifts.most_common(1)[0][0] if shifts else timedelta(weeks=otherwise)
    return otherwise if shift % timedelta(weeks=1) else shift // timedelta(weeks=1)
