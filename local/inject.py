"""`make signal K=fraud|stock|sensor|cart`: one thing happens that the platform reacts to, and its way is shown, hop by
hop, with the seconds since it was sent."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from include.beam.rules import thresholds
from include.beam.rules.rule import LATENESS_MS
from local import table
from local.instance import Instance
from local.warehouse import query

PATIENCE_S = 60.0
LOOK_S = 0.25
COUNTED_S = 120  # the stream is there when it has counted something so lately


class NothingToInject(RuntimeError):
    """What has to be there first, and how it gets there."""


@dataclass
class Injection:
    """events: (topic, event) in the order in which they are sent. signals, done: the topic on which its signal comes,
    and the table in which it ends. undo: what is sent once all is over. due_s: when its signal is due after that."""

    events: list[tuple[str, dict[str, Any]]]
    signals: str
    done: str
    undo: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    due_s: float = 0.0


@dataclass(frozen=True)
class Hop:
    """name: of the place; at_s: seconds since the first event was acknowledged by the broker; what: in words."""

    name: str
    at_s: float
    what: str


def inject(instance: Instance, kind: str) -> int:
    """Sends the events and watches. Prints the hops; returns 1 when one is missing PATIENCE_S after it was due."""
    if kind not in KINDS:
        print(f"K={kind}: give one of {', '.join(KINDS)}, as in make signal K=fraud")
        return 2
    try:
        _check_stream(instance)
        made = KINDS[kind](instance)
    except NothingToInject as error:
        print(error)
        return 1
    if made.due_s:
        print(f"The signal is due in {made.due_s / 60:.0f} minutes. Ctrl-C ends the watching only.", flush=True)
    watch = Watch(instance, made)
    try:
        watch.begin()
        hops, missing = watch.follow(produce(instance, made.events))
    finally:
        watch.end()
        if made.undo:
            produce(instance, made.undo)
    print(table.text(["hop", "after s", "what"], [[hop.name, f"{hop.at_s:.2f}", hop.what] for hop in hops]))
    if missing:
        print(f"Not within {made.due_s + PATIENCE_S:.0f} s: {missing}. See docs/runbook.md, A signal that gets stuck")
        return 1
    return 0


def _check_stream(instance: Instance) -> None:
    """Raises NothingToInject where no streaming job counts what comes."""
    (row,) = query(instance, "select datediff(second, max(loaded_ts), sysdate()) as age_s from live.batch")
    if row["age_s"] is None or row["age_s"] > COUNTED_S:
        since = "yet" if row["age_s"] is None else f"for {row['age_s']} s"
        raise NothingToInject(
            f"the stream has counted nothing {since}: it begins a minute or two after `make up`, with live traffic. "
            "Else see the DAG retail_stream"
        )


def produce(instance: Instance, events: list[tuple[str, dict[str, Any]]]) -> float:
    """Sends them; returns when the broker had taken the last one (time.time())."""
    from confluent_kafka import Producer

    from include.producing import key_of, settings

    producer = Producer(settings({"bootstrap.servers": instance.bootstrap}, {}))
    for topic, event in events:
        value = json.dumps({name: part for name, part in event.items() if part is not None}).encode()
        producer.produce(topic, value, key_of(topic)(value))
    if left := producer.flush(10):
        raise NothingToInject(f"{left} events were not taken by the broker within 10 s: make status")
    return time.time()


class Watch:
    """Subscriptions of its own on the topics that the injection's messages pass, and a look into the warehouse."""

    def __init__(self, instance: Instance, made: Injection) -> None:
        from google.cloud import pubsub_v1  # type: ignore[attr-defined]

        self.instance, self.made = instance, made
        self.ids = {event["event_id"] for _, event in made.events}
        self.client = pubsub_v1.SubscriberClient()
        self.project = f"projects/{instance.settings['MADHATTER_PROJECT']}"
        self.own = f"{self.project}/subscriptions/watch-{uuid.uuid4().hex[:12]}"
        self.hops: list[Hop] = []

    def begin(self) -> None:
        """From here on its messages are kept for it."""
        topic = f"{self.project}/topics/{self.made.signals}"
        self.client.create_subscription(request={"name": self.own, "topic": topic, "ack_deadline_seconds": 60})

    def end(self) -> None:
        with suppress(Exception):  # it expires by itself
            self.client.delete_subscription(request={"subscription": self.own})
        self.client.close()

    def follow(self, sent: float) -> tuple[list[Hop], str]:
        """The hops, and the first one that is missing in the end."""
        self.hops = [Hop("produced", 0.0, f"{len(self.ids)} events to {self.made.events[0][0]}")]
        deadline = time.monotonic() + self.made.due_s + PATIENCE_S
        signal = self._until(deadline, self._signal)
        if signal is None:
            return self.hops, f"a signal on {self.made.signals}"
        self._hop(sent, "signal", signal["detected_ts"], f"{signal['kind']} about {signal['subject']}")
        if self.made.done == "ops.offer":
            offer = self._until(deadline, lambda: self._row("ops.offer", "signal_id", signal["signal_id"]))
            if offer is None:
                return self.hops, "the function personal_offer"
            self._hop(sent, "function", offer["offered_ts"], f"personal_offer: {offer['product_id']}")
            return self.hops, ""
        alert = self._until(deadline, lambda: self._row("ops.alert", "trace_id", signal["trace_id"]))
        if alert is None:
            return self.hops, "an alert in ops.alert"
        self._hop(sent, "function", alert["raised_ts"], f"{alert['source']}: {alert['title']}")
        self._hop(sent, "alert", alert["booked_ts"], f"{alert['severity']}, {alert['action']}")
        if self._until(deadline, lambda: self._row(self.made.done, "alert_id", alert["alert_id"])) is None:
            return self.hops, f"Airflow's alert_response: a row in {self.made.done}"
        handled = self._until(deadline, lambda: self._row("ops.alert", "alert_id", alert["alert_id"], "handled_ts"))
        if handled is None:
            return self.hops, "the alert marked as handled"
        self._hop(sent, "Airflow", handled["handled_ts"], f"{self.made.done} by {handled['handled_by']}")
        return self.hops, ""

    def _hop(self, sent: float, name: str, moment: Any, what: str) -> None:
        at = datetime.fromisoformat(str(moment))
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        self.hops.append(Hop(name, at.timestamp() - sent, what))

    def _until(self, deadline: float, look: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
        while time.monotonic() < deadline:
            if (found := look()) is not None:
                return found
            time.sleep(LOOK_S)
        return None

    def _signal(self) -> dict[str, Any] | None:
        from google.api_core.exceptions import DeadlineExceeded

        try:
            reply = self.client.pull(request={"subscription": self.own, "max_messages": 100}, timeout=5)
        except DeadlineExceeded:
            return None
        if reply.received_messages:
            ids = [received.ack_id for received in reply.received_messages]
            self.client.acknowledge(request={"subscription": self.own, "ack_ids": ids})
        for received in reply.received_messages:
            signal: dict[str, Any] = json.loads(received.message.data)
            if signal["event_id"] in self.ids:
                return signal
        return None

    def _row(self, name: str, key: str, value: str, needed: str = "") -> dict[str, Any] | None:
        rows = query(self.instance, f"select * from {name} where {key} = %s", (value,))
        return next((row for row in rows if not needed or row[needed] is not None), None)


def _event(prefix: str, moment: datetime, **fields: Any) -> dict[str, Any]:
    ts = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"event_id": f"{prefix}:{uuid.uuid4().hex[:20]}", "event_ts": ts, **fields}


def fraud(instance: Instance) -> Injection:
    """One card, seven dear orders within seconds, shipped to two countries in turn."""
    rows = query(instance, "select product_id from core.order_line where unit_price > 0 limit 1")
    product = rows[0]["product_id"] if rows else "85123A"
    mark, now = uuid.uuid4().hex[:8], datetime.now(UTC)
    card = uuid.uuid4().hex
    events = []
    for number in range(7):
        order_id = f"SIGNAL-{mark}-{number + 1}"
        event = _event(
            "order",
            now - timedelta(seconds=7 - number),
            order_id=order_id,
            order_type="sale",
            customer_id=f"SIGNAL-{mark}",
            country=("Germany", "Spain")[number % 2],
            channel="web",
            session_id=f"s-{mark}{number}",
            currency="GBP",
            lines=[{"line_no": 1, "product_id": product, "quantity": 200, "unit_price": 9.95}],
            payments=[
                {
                    "payment_no": 1,
                    "method": "card",
                    "outcome": "accepted",
                    "amount": 1990.0,
                    "card_hash": card,
                    "billing_country": "United Kingdom",
                }
            ],
        )
        events.append(("sales.orders", event | {"event_id": f"order:{order_id}"}))
    return Injection(events, "signals.fraud", "ops.held_order")


def stock(instance: Instance) -> Injection:
    """A shelf without an open draft, which would be raised, is found to be empty; counted again afterwards, with what
    was there."""
    shelves = query(
        instance,
        "select cover.warehouse_id, cover.product_id, position.stock "
        "from marts.stock_cover as cover join reporting.stock_position as position "
        "on cover.warehouse_id = position.warehouse_id and cover.product_id = position.product_id "
        "where cover.reorder_point > 0 and position.stock > cover.reorder_point and not exists ("
        "select 1 from ops.reorder_draft as draft where draft.state = 'draft' "
        "and draft.warehouse_id = cover.warehouse_id and draft.product_id = cover.product_id) "
        "order by random() limit 1",
    )
    if not shelves:
        raise NothingToInject(
            "no full shelf has a reorder point yet, or each has a draft already. The points follow from the first day "
            "that is rolled up (marts.stock_cover): look again tomorrow, or start with the history"
        )
    (shelf,) = shelves

    def count(quantity: int) -> tuple[str, dict[str, Any]]:
        return "inventory.movements", _event(
            "signal",
            datetime.now(UTC),
            warehouse_id=shelf["warehouse_id"],
            product_id=shelf["product_id"],
            movement_type="count",
            quantity=quantity,
        )

    return Injection([count(0)], "signals.inventory", "ops.reorder_draft", [count(int(shelf["stock"]))])


def sensor(instance: Instance) -> Injection:  # noqa: ARG001
    """A thermometer of a warehouse reads 90 degrees, ten times."""
    mark, now = uuid.uuid4().hex[:8], datetime.now(UTC)
    fields = {"device_id": f"SIGNAL-{mark}", "warehouse_id": "LEEDS", "sensor_type": "temperature", "reading": 90.0}
    readings = [_event("iot", now - timedelta(seconds=10 - number), **fields) for number in range(10)]
    return Injection([("iot.readings", reading) for reading in readings], "signals.inventory", "ops.incident")


def cart(instance: Instance) -> Injection:
    """Somebody who had no offer within a week puts a product into the cart and leaves: it counts as left half an hour
    later."""
    rows = query(
        instance,
        "select customer_id from core.customer where is_current and not is_deleted and accepts_marketing "
        "and not exists (select 1 from ops.offer where offer.customer_id = customer.customer_id "
        "and offer.left_ts > dateadd(day, -7, sysdate())) order by random() limit 1",
    )
    mark, then = uuid.uuid4().hex[:12], datetime.now(UTC) - timedelta(seconds=2)
    product = query(instance, "select product_id from marts.product_affinity order by lift desc limit 1")
    if not rows or not product:
        raise NothingToInject(
            "no customer or product affinity is known yet: start with the history; or each had an offer within a week"
        )
    fields = {
        "visitor_id": f"v-{mark}",
        "session_id": f"s-{mark}",
        "customer_id": rows[0]["customer_id"],
        "product_id": product[0]["product_id"],
        "device": "phone",
        "country": "United Kingdom",
        "app_version": "4.68.0",
    }
    acts = ("product_view", "add_to_cart")
    sent = [_event("mobile", then + timedelta(seconds=n), interaction_type=act, **fields) for n, act in enumerate(acts)]
    events = [("mobile.interactions", event) for event in sent]
    return Injection(
        events, "signals.cart", "ops.offer", due_s=thresholds.read().cart_left.after_s + LATENESS_MS / 1000
    )


KINDS: dict[str, Callable[[Instance], Injection]] = {"fraud": fraud, "stock": stock, "sensor": sensor, "cart": cart}
