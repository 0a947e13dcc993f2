"""What a fraud signal says about its order, whatever the rule: docs/contracts/signals.md."""

from __future__ import annotations

from typing import Any

from include.beam.rules.rows import OrderRow
from include.beam.rules.rule import Found
from include.beam.snapshot import Snapshot

BUYING = frozenset(("sale", "declined"))  # order types of who wants to buy
TRADE = BUYING | {"return"}
MOST_IDS = 20  # that a signal names, the latest


def found(
    kind: str,
    subject: str,
    order: OrderRow,
    by: OrderRow,
    snapshot: Snapshot | None,
    window: list[OrderRow],
    **more: Any,
) -> Found:
    """A signal about an order that became certain by one, itself or another. more: features of the kind.

    Certain is it with the newest arrival of all that it rests on: partitions are read in any order, and what a job that
    died had not read of one must not look as if it had been decided before."""
    features = of_order(order, snapshot) | of_window(window) | more
    decided_ms = max(row.arrival_ms for row in (order, by, *window))
    return Found(kind, subject, order.event_id, order.event_ms, order.arrival_ms, features, decided_ms)


def of_order(row: OrderRow, snapshot: Snapshot | None) -> dict[str, Any]:
    """The order itself and its customer's history. Amounts in pounds; history_orders: 0 where the snapshot does not
    know the customer, None where there is no snapshot."""
    billing = sorted({p.billing_country for p in row.payments if p.billing_country})
    history = snapshot.customers.get(row.customer_id) if snapshot and row.customer_id else None
    return {
        "order_id": row.order_id,
        "order_type": row.order_type,
        "customer_id": row.customer_id,
        "country": row.country,
        "region": row.region,
        "channel": row.channel,
        "amount": pounds(row.amount),
        "methods": sorted({p.method for p in row.payments}),
        "cards": cards(row),
        "attempts": len(row.payments),
        "declined": declined(row),
        "billing_countries": billing,
        "is_billed_abroad": any(country != row.country for country in billing),
        "history_orders": None if snapshot is None else history.orders if history else 0,
        "history_mean_amount": round(history.mean_amount, 2) if history else None,
        "history_max_amount": round(history.max_amount, 2) if history else None,
    }


def of_window(rows: list[OrderRow]) -> dict[str, Any]:
    """What the orders of a window, by time, come to, the one that is judged among them. Amounts in pounds."""
    buying = [row for row in rows if row.order_type in BUYING]
    returns = [row for row in rows if row.order_type == "return"]
    return {
        "window_orders": len(buying),
        "window_amount": pounds(sum(row.amount for row in buying)),
        "window_order_ids": [row.order_id for row in buying[-MOST_IDS:]],
        "window_returns": len(returns),
        "window_returned_amount": pounds(-sum(row.amount for row in returns)),
        "window_return_ids": [row.order_id for row in returns[-MOST_IDS:]],
        "window_attempts": sum(len(row.payments) for row in buying),
        "window_declined": sum(declined(row) for row in buying),
        "window_countries": sorted({row.country for row in buying}),
        "window_billing_countries": sorted(
            {p.billing_country for r in buying for p in r.payments if p.billing_country}
        ),
        "window_customers": len({row.customer_id for row in buying if row.customer_id}),
        "window_cards": len({card for row in buying for card in cards(row)}),
        "window_span_s": round((rows[-1].event_ms - rows[0].event_ms) / 1000),
    }


def cards(row: OrderRow) -> list[str]:
    """The cards that were tried, each once."""
    return sorted({p.card_hash for p in row.payments if p.card_hash})


def declined(row: OrderRow, card: str | None = None) -> int:
    """Attempts to pay, with one card or any way, that were declined."""
    return sum(p.outcome == "declined" and card in (None, p.card_hash) for p in row.payments)


def parties(row: OrderRow) -> list[str]:
    """Keys of who orders: the customer, where there is one, and the cards."""
    customer = [f"customer:{row.customer_id}"] if row.customer_id else []
    return customer + [f"card:{card}" for card in cards(row)]


def pounds(thousandths: int) -> float:
    """An amount as the features have it."""
    return thousandths / 1000
