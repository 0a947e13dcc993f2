"""The real history and the market's days after it, rolled up day by day with late corrections: each mart of days is
what its YAML twin defines, computed here with pandas and NumPy from the events, and what one roll-up of all days on a
fresh copy makes."""

from __future__ import annotations

import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from local.instance import ROOT
from local.simulator import catalog, history, past, shop
from local.simulator.events import CUT, DUPLICATE, MOBILE, TOPICS, WEB, draws
from local.simulator.pace import Pace
from local.simulator.trade import Trade, dispatch
from madhatter import publish
from madhatter.warehouse import Row, touched_days
from tests.pipeline.chain import TABLES, Chain, empty_chain
from tests.stand_ins import Snowflake

NEWEST = date(2011, 12, 9)  # of the history
MARKET_DAYS = [NEWEST + timedelta(days=number) for number in range(1, 4)]
LATE = 20  # orders of the 60 days before that come with each of the market's days
MARTS = sorted(path.stem for folder in ("day", "as_of") for path in (ROOT / "include/sql/marts" / folder).glob("*.sql"))
DAY_MS = 86_400_000
Sent = list[tuple[str, bytes]]  # (topic, value)


@dataclass(frozen=True, repr=False)
class Log:
    """What was sent: the history with its catalogue, then the market's days, with orders that are late."""

    history: Sent
    days: list[Sent]

    def events(self, topic: str) -> list[dict[str, Any]]:
        """All events of a topic, each once."""
        found = [json.loads(value) for sent in (self.history, *self.days) for name, value in sent if name == topic]
        return list({event["event_id"]: event for event in found}.values())


@pytest.fixture(scope="module")
def invoices() -> list[history.Order]:
    return list(history.read())


@pytest.fixture(scope="module")
def log(invoices: list[history.Order]) -> Log:
    """The real orders in their own time with the catalogue of then, and the market's trade of the days after without
    what is malformed."""
    known = shop.load()
    trade = Trade(known, Pace(seed=7, rate=5.0, trade=1.0))
    made = dispatch(past.products(known, trade.stock, 0), draws("past", 7), 1.0, is_faulty=False)
    catalogue = [("catalog.products", value) for value in made.values]
    chance = random.Random(5)
    days = []
    for day in MARKET_DAYS:
        first_ms = (day - date(1970, 1, 1)).days * DAY_MS
        days.append(
            [
                (TOPICS[topic], value)
                for events in trade.events(first_ms, first_ms + DAY_MS)
                for topic, kind, value in zip(events.topic.tolist(), events.kind.tolist(), events.values, strict=True)
                if topic not in (WEB, MOBILE) and (kind < CUT or kind == DUPLICATE)
            ]
            + [_sent(order, f"L{number}-") for number, order in enumerate(chance.sample(invoices[-7000:], LATE))]
        )
    return Log([*catalogue, *(_sent(order) for order in invoices)], days)


def _sent(order: history.Order, label: str = "") -> tuple[str, bytes]:
    return "sales.orders", history.event(order, label + order.order_id, f"{order.event_ts.isoformat()}Z", "web")


@dataclass(frozen=True, repr=False)
class Found:
    """Rows of the marts by name, as of the history's end and as of the last day; their content hashes at the end, and
    after all marts were emptied and made anew at once."""

    history: dict[str, list[Row]]
    last: dict[str, list[Row]]
    by_day: dict[str, Any]
    at_once: dict[str, Any]


def _slice(chain: Chain, slice_id: str, sent: Sent) -> list[str]:
    """Publishes what is sent; returns the days whose marts it touched."""
    for topic, value in sent:
        chain.send(0, value, topic=topic)
    chain.run(slice_id)
    return touched_days(publish.touched_hours(chain.warehouse, [slice_id]))


def _rolled_up(chain: Chain) -> list[str]:
    return [row["order_date"].isoformat() for row in chain.warehouse.rows("select order_date from ops.day order by 1")]


def _rows(chain: Chain, *marts: str) -> dict[str, list[Row]]:
    return {mart: chain.warehouse.rows(f"select * from marts.{mart}") for mart in marts}


def _hashes(chain: Chain) -> dict[str, Any]:
    query = "select count(*) as n, hash_agg(*) as content from marts.{}"
    return {mart: tuple(chain.warehouse.rows(query.format(mart))[0].values()) for mart in MARTS}


@pytest.fixture(scope="module")
def found(log: Log, snowflake: Snowflake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    """The history as one slice, its days rolled up; then each day as a slice: the day is rolled up, and of the days
    before those that it touched are corrected."""
    chain = empty_chain(snowflake.open(), tmp_path_factory.mktemp("days"))
    chain.chunk_size = 20_000
    publish.roll_up(chain.warehouse, _slice(chain, "history", log.history))
    at_history = _rows(chain, "customer_daily", "customer_segment", "cohort_monthly", "product_affinity")
    for day, sent in zip(MARKET_DAYS, log.days, strict=True):
        touched = _slice(chain, f"day-{day}", sent)
        corrected = sorted(set(_rolled_up(chain)) & set(touched))
        assert len(corrected) > 5
        publish.roll_up(chain.warehouse, [day.isoformat()])
        publish.roll_up(chain.warehouse, corrected)
    by_day, last, days = _hashes(chain), _rows(chain, "stock_cover", "support_daily"), _rolled_up(chain)
    hours = chain.warehouse.rows("select distinct date_trunc('hour', event_ts) as event_hour from ops.event")
    with chain.warehouse.transaction():
        for table in TABLES["marts"]:
            chain.warehouse.run(f"delete from marts.{table}")
        chain.warehouse.run("delete from ops.day")
        publish.compute_hours(chain.warehouse, sorted(row["event_hour"].isoformat() for row in hours))
    publish.roll_up(chain.warehouse, days)
    yield Found(at_history, last, by_day, _hashes(chain))
    chain.warehouse.close()


def test_days_one_by_one_with_corrections_are_what_all_days_at_once_are(found: Found) -> None:
    assert found.by_day == found.at_once
    assert [mart for mart, (rows, _) in found.by_day.items() if rows == 0] == ["performance_daily"]


# The history as of its last day, from the file.


@dataclass(frozen=True, repr=False)
class Trades:
    """The history's lines with invoice, day, customer, order_type, product, quantity, amount (thousandths of GBP)."""

    lines: pd.DataFrame

    @property
    def of_customers(self) -> pd.DataFrame:
        is_trade = self.lines.order_type.isin(["sale", "return"])
        return self.lines[is_trade & self.lines.customer.notna()]


@pytest.fixture(scope="module")
def trades(invoices: list[history.Order]) -> Trades:
    lines = pd.read_parquet(history.DATA)
    orders = pd.DataFrame(
        [(o.order_id, o.event_ts.date(), o.order_type, o.customer_id, o.country) for o in invoices],
        columns=["invoice_no", "day", "order_type", "customer", "country"],
    )
    lines = lines.drop(columns=["customer_id", "country"]).merge(orders, on="invoice_no")
    lines["amount"] = lines.quantity * (lines.unit_price.astype(float) * 1000).round().astype("int64")
    return Trades(lines)


def pounds(mills: Any) -> Decimal:
    return Decimal(int(mills)) / 1000


def test_customers_of_a_day_are_those_of_the_history(found: Found, trades: Trades) -> None:
    own, grain = trades.of_customers, ["day", "customer", "country"]
    own = own.assign(gross=own.amount.clip(lower=0), back=-own.amount.clip(upper=0))
    orders = own.drop_duplicates("invoice_no")
    orders = orders.assign(sales=orders.order_type == "sale", returns=orders.order_type == "return")
    sums = orders.groupby(grain)[["sales", "returns"]].sum()
    sums = sums.join(own.groupby(grain)[["quantity", "gross", "back"]].sum())
    expected = {
        row[0]: (*row[1:4], pounds(row.gross), pounds(row.back), pounds(row.gross - row.back))
        for row in sums.itertuples()
    }
    names = ("orders", "return_orders", "units", "gross_sales", "returned_sales", "net_sales")
    rows = found.history["customer_daily"]
    assert {(r["order_date"], r["customer_id"], r["country"]): tuple(r[n] for n in names) for r in rows} == expected
    assert len(rows) == len(expected)


SEGMENTS = {  # score of recency: segments by the score of frequency, 1 to 5
    1: ("Hibernating", "Hibernating", "At risk", "At risk", "Cannot lose"),
    2: ("Hibernating", "Hibernating", "At risk", "At risk", "Cannot lose"),
    3: ("About to sleep", "About to sleep", "Needs attention", "Loyal", "Loyal"),
    4: ("Promising", "Potential loyal", "Potential loyal", "Loyal", "Loyal"),
    5: ("New", "Potential loyal", "Potential loyal", "Champions", "Champions"),
}


def fifths(values: pd.Series[Any]) -> pd.Series[Any]:
    """1 + whole fifths of the values that are strictly below."""
    below = np.searchsorted(np.sort(values.to_numpy()), values.to_numpy(), side="left")
    return pd.Series(1 + 5 * below // len(values), values.index)


def test_segments_are_those_of_the_history_by_recency_frequency_and_money(found: Found, trades: Trades) -> None:
    own = trades.of_customers
    sales = own[own.order_type == "sale"]
    year = NEWEST - timedelta(days=365)
    frame = pd.DataFrame({"first": sales.groupby("customer").day.min(), "last": sales.groupby("customer").day.max()})
    frame["recency"] = frame["last"].map(lambda day: (NEWEST - day).days)
    frame["orders"] = sales[sales.day > year].groupby("customer").invoice_no.nunique()
    frame["money"] = own[own.day > year].groupby("customer").amount.sum()
    frame = frame.fillna({"orders": 0, "money": 0})
    active = frame[frame.orders > 0]
    scores = pd.DataFrame({"r": fifths(-active.recency), "f": fifths(active.orders), "m": fifths(active.money)})
    frame = frame.join(scores).fillna({"r": 1, "f": 1, "m": 1})
    expected = {
        customer: (
            NEWEST,
            row["first"],
            row["last"],
            row.recency,
            row.orders,
            pounds(row.money),
            *(int(row[name]) for name in "rfm"),
            SEGMENTS[int(row.r)][int(row.f) - 1] if row.orders else "Lost",
        )
        for customer, row in frame.iterrows()
    }
    rows = found.history["customer_segment"]
    assert {row.pop("customer_id"): tuple(row.values()) for row in map(dict, rows)} == expected
    assert {row["segment"] for row in rows} == {"Lost", *(name for names in SEGMENTS.values() for name in names)}


def test_cohorts_are_those_of_the_history(found: Found, trades: Trades) -> None:
    own = trades.of_customers
    own = own.assign(month=pd.to_datetime(own.day).dt.to_period("M"))
    first = own[own.order_type == "sale"].groupby("customer").month.min().rename("cohort")
    own = own.join(first, on="customer", how="inner")
    months = pd.period_range("2010-12", "2011-12", freq="M")
    expected = {}
    for cohort, members in first.groupby(first):
        for month in months[months >= cohort]:
            then = own[(own.cohort == cohort) & (own.month == month)]
            sales = then[then.order_type == "sale"]
            since = (month - cohort).n
            counts = (len(members), sales.customer.nunique(), sales.invoice_no.nunique())
            expected[cohort.start_time.date(), since] = (*counts, pounds(then.amount.sum()))
    names = ("customers", "active_customers", "orders", "net_sales")
    rows = found.history["cohort_monthly"]
    assert {row["as_of_date"] for row in rows} == {NEWEST}
    assert {(r["cohort_month"], r["months_since"]): tuple(r[name] for name in names) for r in rows} == expected


def test_affinity_is_that_of_the_history(found: Found, trades: Trades, log: Log) -> None:
    changes = log.events("catalog.products")
    fees = {change["product_id"] for change in changes if change["category"] == catalog.FEES}
    lines = trades.lines
    lines = lines[(lines.order_type == "sale") & (lines.quantity > 0) & (lines.day > NEWEST - timedelta(days=90))]
    lines = lines[~lines.stock_code.isin(fees)].drop_duplicates(["invoice_no", "stock_code"])
    sizes = lines.groupby("invoice_no").stock_code.transform("count")
    lines = lines[sizes <= 100]
    order, product = lines.invoice_no.astype("category"), lines.stock_code.astype("category")
    codes, baskets = product.cat.categories, len(order.cat.categories)
    has = np.zeros((baskets, len(codes)), np.float32)
    has[order.cat.codes, product.cat.codes] = 1
    together = (has.T @ has).astype(int)
    alone = together.diagonal().copy()
    np.fill_diagonal(together, 0)
    pairs = np.argwhere((together >= 20) & (together * 1000 >= baskets))
    assert baskets > 6000
    assert len(pairs) > 10_000
    rows = found.history["product_affinity"]
    assert {row["as_of_date"] for row in rows} == {NEWEST}
    by_pair = {(row["product_id"], row["other_product_id"]): row for row in rows}
    expected = {(codes[a], codes[b]): (alone[a], alone[b], together[a, b]) for a, b in pairs}
    counts = ("orders_product", "orders_other", "orders_together")
    assert {pair: tuple(row[name] for name in counts) for pair, row in by_pair.items()} == expected
    for (one, other), (of_one, of_other, both) in expected.items():
        row = by_pair[one, other]
        ratios = (both / baskets, both / of_one, both * baskets / (of_one * of_other))
        assert row["baskets"] == baskets
        assert [float(row[name]) for name in ("pair_support", "confidence")] == pytest.approx(ratios[:2], abs=6e-7)
        assert float(row["lift"]) == pytest.approx(ratios[2], abs=6e-5)


# The market's days as of the last one, from the events.


def at(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["event_ts"].removesuffix("Z"))


def midnight(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time())


def test_cover_and_proposals_are_those_of_the_movements(found: Found, log: Log) -> None:
    last = MARKET_DAYS[-1]
    moves = [event for event in log.events("inventory.movements") if at(event) < midnight(last + timedelta(days=1))]
    shelves: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for event in sorted(moves, key=lambda e: (at(e), e["movement_type"] == "count")):
        shelves[event["warehouse_id"], event["product_id"]].append(event)
    first = {event["warehouse_id"]: at(event).date() for event in sorted(moves, key=at, reverse=True)}
    deleted = {e["product_id"] for e in log.events("catalog.products") if e["change_type"] == "deleted"}
    expected = {}
    for (house, product), own in shelves.items():
        stock, counted = 0, None
        for event in own:
            is_count = event["movement_type"] == "count"
            stock = event["quantity"] + (0 if is_count else stock)
            counted = at(event).date() if is_count else counted
        recent = [e for e in own if e["movement_type"] == "sale" and at(e).date() > last - timedelta(days=28)]
        sold = -sum(e["quantity"] for e in recent)
        days = min(28, (last - first[house]).days + 1)
        reorder_point, target = math.ceil(sold * 10 / days), math.ceil(sold * 24 / days)
        left = max(stock, 0)
        is_proposed = sold > 0 and left <= reorder_point and product not in deleted
        order = (is_proposed, target - left if is_proposed else 0)
        expected[house, product] = (stock, counted, sold, days, 7, reorder_point, *order)
    names = (
        "stock",
        "last_counted_date",
        "units_sold",
        "observed_days",
        "lead_time_days",
        "reorder_point",
        "is_proposed",
        "proposed_units",
    )
    rows = found.last["stock_cover"]
    assert {(r["warehouse_id"], r["product_id"]): tuple(r[name] for name in names) for r in rows} == expected
    assert {row["is_proposed"] for row in rows} == {True, False}
    for row in rows:
        sold, days = row["units_sold"], row["observed_days"]
        cover = max(row["stock"], 0) * days / sold if sold else None
        assert float(row["daily_units"]) == pytest.approx(sold / days, abs=6e-5)
        assert (row["days_of_cover"] is None) == (cover is None)
        assert cover is None or float(row["days_of_cover"]) == pytest.approx(cover, abs=0.0501)


def test_support_is_that_of_the_tickets_opened_on_a_day(found: Found, log: Log) -> None:
    by_ticket: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in sorted(log.events("support.tickets"), key=at):
        by_ticket[event["ticket_id"]].append(event)
    groups: dict[tuple[date, str, str], list[tuple[datetime, list[dict[str, Any]]]]] = defaultdict(list)
    for steps in by_ticket.values():
        if opening := next((step for step in steps if step["action"] == "opened"), None):
            key = (at(opening).date(), opening["reason"], opening["channel"])
            groups[key].append((at(opening), [step for step in steps if at(step) >= at(opening)]))
    rows = {(row["opened_date"], row["reason"], row["channel"]): row for row in found.last["support_daily"]}
    assert set(rows) == set(groups)
    for key, tickets in groups.items():
        counts: Counter[str] = Counter(opened=len(tickets))
        minutes: dict[str, list[float]] = {"answered": [], "closed": []}
        for opened, steps in tickets:
            firsts: dict[str, datetime] = {}
            for step in steps:
                firsts.setdefault(step["action"], at(step))
                counts["ratings"] += step.get("satisfaction") is not None
                counts["satisfaction_sum"] += step.get("satisfaction") or 0
            for name in ("answered", "escalated", "closed"):
                counts[name] += name in firsts
            for name, waits in minutes.items():
                waits += [(firsts[name] - opened).total_seconds() / 60] if name in firsts else []
            counts["answered_in_time"] += firsts.get("answered", datetime.max) <= opened + timedelta(hours=4)
            counts["open_at_day_end"] += firsts.get("closed", datetime.max) >= midnight(key[0] + timedelta(days=1))
        assert {name: rows[key][name] for name in counts} == counts
        for prefix, waits in (("answer", minutes["answered"]), ("close", minutes["closed"])):
            for percent in (50, 90):
                value = rows[key][f"{prefix}_p{percent}_min"]
                if not waits:
                    assert value is None
                else:
                    assert float(value) == pytest.approx(np.percentile(waits, percent), abs=0.0501)
    assert sum(row["answered_in_time"] for row in rows.values()) > 0
