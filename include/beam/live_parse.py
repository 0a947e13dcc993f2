"""Parses batches of the log: rows for the rules, by shard, and what the minutes need, by partition.

An event counts when its contract's decoder takes it and its time lies in the contract's window; when it arrived more
than a minute after it happened it is late to the stream, and only the hour has it.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import apache_beam as beam
import msgspec
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.timestamp import MAX_TIMESTAMP
from msgspec import Struct

from include import references
from include.beam import snapshot
from include.beam.live_log import Batch
from include.beam.live_reasons import DeadLetter, Rejected, reason, told
from include.beam.rules.rows import InteractionRow, MovementRow, OrderRow, PaymentRow, ReadingRow
from include.beam.rules.rule import LATENESS_MS, Rule
from include.contracts.contract import generated

MOST_MILLS = 10**17  # NUMBER(18,4) has 14 digits before the point
UNKNOWN = "Unknown"
log = logging.getLogger(__name__)


class Visit(Struct, array_like=True, gc=False):
    """An interaction. minute: of its time, since the epoch. what: `v` a view, `c` added to the cart, else empty."""

    event_id: str
    minute: int
    arrival_ms: int
    session_id: str
    country: str
    what: str


class Trade(Struct, array_like=True, gc=False):
    """An order. what: `o` a sale, `r` a return, else empty. lines: (category, units, thousandths of GBP)."""

    event_id: str
    minute: int
    arrival_ms: int
    country: str
    channel: str
    what: str
    lines: list[tuple[str, int, int]]


class Counted(Struct, array_like=True, gc=False):
    """What the minutes need of a batch. read: messages; rejected: how many by topic and reason; newest_ms: the last
    arrival."""

    channel: str
    read: int
    rejected: dict[str, int]
    late: int
    newest_ms: int
    visits: list[Visit]
    trades: list[Trade]


SHARDS = 4  # of the rules' state; each is worked on by one thread at a time
MOST_LETTERS = 100  # of a batch: more are told by their number
Shards = list[dict[str, list[tuple[str, int, Any]]]]
encode = msgspec.msgpack.encode
_NOT_AN_EVENT = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Rejected)


def shard(key: str) -> int:
    """Where a rule's key belongs."""
    return zlib.crc32(key.encode()) % SHARDS


class TopicParser:
    """Parses the messages of one topic. rules: all; who takes the topic's rows gets them. categories: of products.
    since_ms: what arrived before was told by an earlier job, how much of it there was and what was wrong with it."""

    def __init__(self, topic: str, rules: Sequence[Rule], categories: Mapping[str, str], since_ms: int = 0) -> None:
        module = generated(topic)
        self.topic, self.categories, self.since_ms = topic, categories, since_ms
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(module.Event).decode
        self.earliest_us = round(module.CONTRACT.accepted_from.timestamp() * 1_000_000)
        self.ahead_us = module.CONTRACT.accepted_ahead_s * 1_000_000
        makers: dict[str, tuple[type, Callable[..., Any]]] = {
            "web.interactions": (InteractionRow, self._interaction),
            "mobile.interactions": (InteractionRow, self._interaction),
            "sales.orders": (OrderRow, self._order),
            "inventory.movements": (MovementRow, self._movement),
            "iot.readings": (ReadingRow, self._reading),
        }
        row, self.make = makers[topic]
        mine = [rule for rule in rules if row is rule.ROW]
        self.rules = [(rule.NAME, rule.keys) for rule in mine]
        self.late_rules = [(rule.NAME, rule.keys) for rule in mine if rule.TAKES_LATE]
        self.channel = topic.split(".")[0]
        self.visits: list[Visit] = []
        self.trades: list[Trade] = []

    def parse(self, batch: Batch, *, careful: bool = False) -> tuple[Shards, Counted, list[DeadLetter]]:
        """(rows for the rules by shard, what the minutes need, dead letters). careful: a message whose row cannot be
        encoded is a dead letter too."""
        self.visits, self.trades = [], []
        shards: Shards = [{} for _ in range(SHARDS)]
        rejected: dict[str, int] = {}
        letters: list[DeadLetter] = []
        late = 0
        decode, make, earliest_us, ahead_us = self.decode, self.make, self.earliest_us, self.ahead_us
        late_us, since_ms = LATENESS_MS * 1_000, self.since_ms
        for offset, arrival_ms, value in zip(batch.offsets, batch.arrivals_ms, batch.values):
            try:
                event = decode(value)
                event_us = round(event.event_ts.timestamp() * 1_000_000)
                behind_us = arrival_ms * 1_000 - event_us
                if event_us < earliest_us:
                    raise Rejected("event_ts is before the contract's earliest")
                if -behind_us > ahead_us:
                    raise Rejected("event_ts is too far ahead of arrival")
                is_late = behind_us > late_us
                late += is_late and arrival_ms >= since_ms
                rules = self.late_rules if is_late else self.rules
                if is_late and not rules:
                    continue
                visits, trades = len(self.visits), len(self.trades)
                row = make(event, event_us // 1_000, arrival_ms, batch.partition, offset, is_late)
                if careful:
                    self._check(row, visits, trades)
                for name, keys in rules:
                    for key in keys(row):
                        shards[shard(key)].setdefault(name, []).append((key, offset, row))
            except _NOT_AN_EVENT as error:
                if arrival_ms < since_ms:
                    continue
                why = f"{batch.topic}: {reason(value, error)}"
                rejected[why] = rejected.get(why, 0) + 1
            except Exception as error:
                if arrival_ms < since_ms:
                    continue
                log.exception("%s offset %d: the job fails on this message", batch.place, offset)
                letters.append(DeadLetter(batch.topic, batch.partition, offset, told(error)))
        newest_ms = batch.arrivals_ms[-1]
        read = sum(arrival_ms >= since_ms for arrival_ms in batch.arrivals_ms)
        counted = Counted(self.channel, read, rejected, late, newest_ms, self.visits, self.trades)
        return shards, counted, letters

    def _check(self, row: Any, visits: int, trades: int) -> None:
        """Raises where a message's row, visit or trade cannot be encoded, and forgets them."""
        try:
            encode((row, self.visits[visits:], self.trades[trades:]))
        except Exception:
            del self.visits[visits:], self.trades[trades:]
            raise

    def _interaction(
        self, event: Any, event_ms: int, arrival_ms: int, _partition: int, _offset: int, is_late: bool
    ) -> InteractionRow:
        done = event.interaction_type
        if not is_late:
            what = "v" if done in ("view", "product_view") else "c" if done == "add_to_cart" else ""
            self.visits.append(
                Visit(event.event_id, event_ms // 60_000, arrival_ms, event.session_id, event.country, what)
            )
        return InteractionRow(
            event.event_id,
            event_ms,
            arrival_ms,
            event.session_id,
            event.visitor_id,
            event.customer_id,
            done,
            event.product_id,
            event.order_id,
            event.country,
            event.channel,
        )

    def _order(
        self, event: Any, event_ms: int, arrival_ms: int, _partition: int, _offset: int, is_late: bool
    ) -> OrderRow:
        totals: dict[str, list[int]] = {}
        amount = 0
        for line in event.lines:
            mills = line.quantity * _mills(line.unit_price)
            amount += mills
            total = totals.setdefault(self.categories.get(line.product_id, UNKNOWN), [0, 0])
            total[0] += line.quantity
            total[1] += mills
        if abs(amount) >= MOST_MILLS or any(abs(mills) >= MOST_MILLS for _, mills in totals.values()):
            raise Rejected("the order's amount does not fit NUMBER(18,4)")
        for paid in event.payments:
            _check_number(paid.amount, 18, 4, "a payment's amount")
        kind = event.order_type
        what = "o" if kind == "sale" else "r" if kind == "return" else ""
        lines = [(category, units, mills) for category, (units, mills) in totals.items()] if what else []
        if not is_late:
            self.trades.append(
                Trade(event.event_id, event_ms // 60_000, arrival_ms, event.country, event.channel, what, lines)
            )
        return OrderRow(
            event.event_id,
            event_ms,
            arrival_ms,
            event.order_id,
            kind,
            event.customer_id,
            event.country,
            regions().get(event.country),
            event.channel,
            amount,
            tuple(
                PaymentRow(paid.method, paid.outcome, paid.card_hash, paid.billing_country) for paid in event.payments
            ),
        )

    def _movement(
        self, event: Any, event_ms: int, arrival_ms: int, partition: int, offset: int, _: bool
    ) -> MovementRow:
        return MovementRow(
            event.event_id,
            event_ms,
            arrival_ms,
            partition,
            offset,
            event.warehouse_id,
            event.product_id,
            event.movement_type,
            event.quantity,
            event.other_warehouse_id,
        )

    def _reading(self, event: Any, event_ms: int, arrival_ms: int, *_: int) -> ReadingRow:
        _check_number(event.reading, 12, 3, "the reading")
        return ReadingRow(
            event.event_id,
            event_ms,
            arrival_ms,
            event.device_id,
            event.warehouse_id,
            event.sensor_type,
            float(event.reading),
        )


class ParseBatch(beam.DoFn):  # type: ignore[misc]
    """Batch -> tagged `counted`: (place, Counted) and `letters`: DeadLetter; and at a bundle's end (shard, rows of all
    batches: a list of topic, partition, {rule: [(key, offset, row)]}). All encoded."""

    def __init__(self, rules: Sequence[type[Rule]], snapshot_uri: str | None, since_ms: int) -> None:
        self.rules, self.snapshot_uri, self.since_ms = rules, snapshot_uri, since_ms

    def setup(self) -> None:
        self.parsers: dict[str, TopicParser] = {}
        # Two for all topics: the runner asks for every counter with every bundle. Reasons are in the log (live_sink).
        self.read, self.rejected = Metrics.counter("live", "read"), Metrics.counter("live", "rejected")

    def start_bundle(self) -> None:
        self.rows: list[list[tuple[str, int, msgspec.Raw]]] = [[] for _ in range(SHARDS)]
        self.earliest = MAX_TIMESTAMP

    def process(self, batch: Batch, at: Any = beam.DoFn.TimestampParam) -> Iterator[Any]:
        parser = self.parsers.get(batch.topic)
        if parser is None:
            known = snapshot.read(self.snapshot_uri) if self.snapshot_uri else None
            rules = [rule(known) for rule in self.rules]
            categories = known.categories if known else {}
            parser = self.parsers[batch.topic] = TopicParser(batch.topic, rules, categories, self.since_ms)
        shards, counted, letters = parser.parse(batch)
        try:
            blobs, sums = [encode(new) if new else None for new in shards], encode(counted)
        except Exception:  # one message's: it is found, and the others go on
            shards, counted, letters = parser.parse(batch, careful=True)
            blobs, sums = [encode(new) if new else None for new in shards], encode(counted)
        self.read.inc(counted.read)
        self.rejected.inc(sum(counted.rejected.values()))
        self.earliest = min(self.earliest, at)
        for rows, blob in zip(self.rows, blobs):
            if blob:
                rows.append((batch.topic, batch.partition, msgspec.Raw(blob)))
        yield TaggedOutput("counted", (batch.place, sums))
        for letter in letters[:MOST_LETTERS]:
            yield TaggedOutput("letters", letter)
        if len(letters) > MOST_LETTERS:
            rest = f"and {len(letters) - MOST_LETTERS} more up to offset {batch.offsets[-1]}"
            yield TaggedOutput("letters", DeadLetter(batch.topic, batch.partition, letters[MOST_LETTERS].offset, rest))

    def finish_bundle(self) -> Iterator[Any]:
        for number, rows in enumerate(self.rows):
            if rows:
                yield GlobalWindows.windowed_value((number, encode(rows)), self.earliest)


def _mills(price: Decimal) -> int:
    """Thousandths of GBP. Raises Rejected where the column cannot hold the price."""
    # Its size first: a number of three letters may have a million digits.
    if not (price.is_finite() and 0 <= price < 10**9):
        raise Rejected("unit_price is below 0 or does not fit NUMBER(12,3)")
    scaled = price.scaleb(3)
    mills = int(scaled)
    if mills != scaled:
        raise Rejected("unit_price is below 0 or does not fit NUMBER(12,3)")
    return mills


def _check_number(value: Decimal, digits: int, decimals: int, name: str) -> None:
    """Raises Rejected where NUMBER(digits, decimals) cannot hold the value, as the hour does."""
    if value.is_finite() and abs(value) < 10 ** (digits - decimals) and value == round(value, decimals):
        return
    raise Rejected(f"{name} does not fit NUMBER({digits},{decimals})")


def regions() -> Mapping[str, str]:
    """The region of each country."""
    return references.mapping("country", "region")
