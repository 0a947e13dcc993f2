"""What the rules find in the market, against its labels, and what a row costs them.

python -m bench.signals [--seeds 5] [--days 30] [--trade 10]

The rules get what the market sends, as the streaming job would give it to them (without a broker, in the order of
sending); the snapshot is that of the history alone, so every new account is unknown to it. Printed: per label, the
orders, those that the stream takes, and those with a fraud signal; the signals by kind; microseconds of CPU a row.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import msgspec
import numpy as np

from include import references
from include.beam import rules
from include.beam.rules import Found, InteractionRow, MovementRow, OrderRow, PaymentRow, ReadingRow, Rule
from include.beam.rules.carts import TYPES
from include.beam.rules.rule import AHEAD_MS, LATENESS_MS
from include.beam.snapshot import History, Shelf, Snapshot
from include.contracts.contract import generated
from local import table
from local.simulator import events, shop
from local.simulator.events import LABELS, ORDERS, STOCK, TOPICS, Events
from local.simulator.market import Market
from local.simulator.pace import Pace
from local.simulator.partitions import partitions
from local.simulator.warehouses import WAREHOUSES

MONDAY_MS = 1_795_392_000_000  # 2026-11-23T00:00Z
SEEDS = range(9_001, 9_100)
RATE = 20.0  # events a second: what there is beside orders does not matter here
ORDER_RULES = tuple(rule for rule in rules.RULES if rule.ROW is OrderRow)


@dataclass(frozen=True)
class Seen:
    """What was found in a window. labels: of each order that was sent, by event id; taken: ids of those that the stream
    takes."""

    found: list[Found]
    labels: dict[str, str]
    taken: set[str]


@cache
def known() -> shop.Shop:
    return shop.load()


@cache
def regions() -> Mapping[str, str]:
    return references.mapping("country", "region")


@cache
def decoder(topic: str) -> Any:
    return msgspec.json.Decoder(generated(topic).Event).decode


def history() -> dict[str, History]:
    """Customers by the sales of the history's year."""
    b = known().baskets
    sales = np.flatnonzero((b.order_type == shop.SALE) & (b.customer >= 0))
    amounts: defaultdict[int, list[float]] = defaultdict(list)
    for customer, mills in zip(b.customer[sales].tolist(), b.amount_mills[sales].tolist()):
        amounts[customer].append(mills / 1000)
    return {
        known().customers[customer]: History(len(each), sum(each) / len(each), max(each))
        for customer, each in amounts.items()
    }


def snapshot(market: Market, moment_ms: int) -> Snapshot:
    """What the warehouse knows of the history, and of the market's shelves at a moment."""
    stock, code = market.trade.stock.on_shelf(moment_ms), market.shop.products
    shelves = {
        (WAREHOUSES[house], code[product]): Shelf(
            int(stock[product, house]), int(market.trade.stock.levels[product, house] // 4)
        )
        for product in np.flatnonzero(market.shop.is_stocked).tolist()
        for house in range(len(WAREHOUSES))
    }
    return Snapshot(datetime.fromtimestamp(moment_ms / 1000, UTC), customers=history(), shelves=shelves)


def row(topic: str, value: bytes, arrival_ms: int, partition: int, offset: int) -> Any:
    """The row of a message; None where it is no event of its topic, or outside its time window."""
    try:
        e = decoder(topic)(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    event_ms = round(e.event_ts.timestamp() * 1000)
    if event_ms > arrival_ms + AHEAD_MS:
        return None
    head = e.event_id, event_ms, arrival_ms
    if topic == "sales.orders":
        amount = sum(line.quantity * int(line.unit_price * 1000) for line in e.lines)
        paid = tuple(PaymentRow(p.method, p.outcome, p.card_hash, p.billing_country) for p in e.payments)
        region = regions().get(e.country)
        return OrderRow(*head, e.order_id, e.order_type, e.customer_id, e.country, region, e.channel, amount, paid)
    if topic == "inventory.movements":
        shelf = e.warehouse_id, e.product_id
        return MovementRow(*head, partition, offset, *shelf, e.movement_type, e.quantity, e.other_warehouse_id)
    if topic == "iot.readings":
        return ReadingRow(*head, e.device_id, e.warehouse_id, e.sensor_type, float(e.reading))
    who = e.session_id, e.visitor_id, e.customer_id
    return InteractionRow(*head, *who, e.interaction_type, e.product_id, e.order_id, e.country, e.channel)


def rows(parts: Iterable[Events], topics: Iterable[int]) -> Iterator[tuple[Any, str]]:
    """(row, label) of what the stream takes of these topics, in the order of sending."""
    wanted, offsets = list(topics), itertools.count()
    for part in parts:
        chosen = part.take(np.flatnonzero(np.isin(part.topic, wanted)))
        placed = partitions(chosen.keys, 4).tolist()
        for topic, value, send_ms, partition, label in zip(
            chosen.topic.tolist(), chosen.values, chosen.send_ms.tolist(), placed, chosen.label.tolist()
        ):
            made = row(TOPICS[topic], value, send_ms, partition, next(offsets))
            if made is not None and (topic == STOCK or made.arrival_ms - made.event_ms <= LATENESS_MS):
                yield made, LABELS[label]


def play(made: Iterable[Any], kinds: Iterable[type[Rule]], known_then: Snapshot | None) -> list[Found]:
    """What rules find in rows, with a watermark that follows closely."""
    mine = [rule(known_then) for rule in kinds]
    by_row: defaultdict[type, list[Rule]] = defaultdict(list)
    for rule in mine:
        by_row[rule.ROW].append(rule)
    found: list[Found] = []
    told_ms = 0
    for each in made:
        for rule in by_row[type(each)]:
            for key in rule.keys(each):
                found += rule.observe(key, each)
        if each.arrival_ms > told_ms + 10_000:
            told_ms = each.arrival_ms
            for rule in mine:
                found += rule.advance(told_ms)
                rule.forget(told_ms - rule.HORIZON_S * 1000)
    return found


def orders(seed: int, trade: float, days: int) -> Seen:
    """What the rules about orders find in some market days from a Monday morning on."""
    market = Market(known(), Pace(seed, RATE, trade))
    start, length = MONDAY_MS, market.pace.day_ms
    # The history knows no orders at night and on Saturdays.
    ahead = (start + n * length for n in itertools.count())
    starts = list(itertools.islice((at for at in ahead if known().expected_orders(at, at + length) > 0), days))
    parts = [events.concat(market.trade.events(at, at + length)) for at in starts]
    labels = {
        event_id: LABELS[label]
        for part in parts
        for event_id, topic, label in zip(part.ids, part.topic.tolist(), part.label.tolist())
        if topic == ORDERS
    }
    taken = [each for each, _ in rows(parts, [ORDERS])]
    found = play(taken, ORDER_RULES, snapshot(market, start))
    return Seen(found, labels, {each.event_id for each in taken})


def report(seen: Iterable[Seen]) -> str:
    """Per label: orders, those that the stream takes, those with a signal, those with one or named in one."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    kinds: Counter[tuple[str, str]] = Counter()
    for each in seen:
        signalled = {found.event_id for found in each.found}
        named = signalled | {
            f"order:{order_id}"
            for found in each.found
            if found.kind == "early_return"
            for order_id in found.features["window_order_ids"]
        }
        for event_id, label in each.labels.items():
            counts[label or "honest"].update(
                orders=1,
                taken=event_id in each.taken,
                signalled=event_id in signalled,
                named=event_id in named,
            )
        kinds.update((found.kind, each.labels.get(found.event_id) or "honest") for found in each.found)
    head = ["label", "orders", "taken by the stream", "with a signal", "of those taken", "or named in one"]
    lines = [
        [
            label,
            f"{n['orders']:,}",
            f"{n['taken']:,}",
            f"{n['signalled']:,}",
            f"{n['signalled'] / max(n['taken'], 1):.1%}",
            f"{n['named'] / max(n['taken'], 1):.1%}",
        ]
        for label, n in sorted(counts.items())
    ]
    of_kinds = [[kind, label, f"{n:,}"] for (kind, label), n in sorted(kinds.items())]
    return "\n\n".join([table.text(head, lines), table.text(["signal", "about", "number"], of_kinds)])


def costs(seed: int) -> str:
    """Microseconds of CPU a row, by row type, of all rules that take it. Decoding and making rows is not counted."""
    market = Market(known(), Pace.of(seed, 2_000))
    noon = MONDAY_MS + 11 * 3_600_000
    made: defaultdict[str, list[Any]] = defaultdict(list)
    for each, _ in rows([market.events(noon, noon + 60_000)], range(len(TOPICS[:5]))):
        is_cart = isinstance(each, InteractionRow) and each.interaction_type in TYPES
        made[f"{type(each).__name__}{', of a cart' if is_cart else ''}"].append(each)
    known_then, lines = snapshot(market, noon), []
    for name, of_type in sorted(made.items()):
        kinds = [rule for rule in rules.RULES if isinstance(of_type[0], rule.ROW)]
        started = time.process_time()
        play(of_type, kinds, known_then)
        spent_s = time.process_time() - started
        lines.append([name, f"{len(of_type):,}", f"{spent_s / len(of_type) * 1e6:.2f}"])
    return table.text(["row", "rows", "us a row"], lines)


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser("python -m bench.signals", description="What the rules find in the market.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--days", type=int, default=20, help="market days a seed")
    parser.add_argument("--trade", type=float, default=10.0, help="orders as a multiple of the history's pace")
    options = parser.parse_args()
    print(report(orders(seed, options.trade, options.days) for seed in SEEDS[: options.seeds]))
    print(f"\n{costs(SEEDS[0])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
