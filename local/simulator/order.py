"""An order of the market, and how it was paid."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from local.simulator.events import HONEST, body, draws
from local.simulator.shop import DECLINED, RETURN


@dataclass(frozen=True, slots=True)
class Order:
    """An order of the market. number: within its market day; basket: index into the history's; customer_id: None for
    guests; session: 16 hex digits, or "" for orders of no session; card: hash, or "" where no card was used; sign: -1
    where the basket is taken back."""

    number: int
    order_id: str
    order_ms: int
    order_type: int
    basket: int
    customer_id: str | None
    country: str
    channel: str
    session: str
    method: str
    card: str = ""
    billing_country: str = ""
    attempts: int = 1
    sign: int = 1
    label: int = HONEST


def session(order_id: str) -> str:
    """The session in which an order was placed."""
    return f"{int(draws('session', order_id).integers(0, 2**63)):016x}"


def card(owner: str) -> str:
    """What the processor makes of a card's number."""
    return hashlib.blake2b(owner.encode(), digest_size=16, key=b"processor").hexdigest()


def payments(order: Order, amount_mills: int) -> list[str]:
    """The attempts to pay: declined ones first; a return is refunded."""
    outcomes = ["declined"] * (order.attempts - 1)
    outcomes.append(
        "refunded" if order.order_type == RETURN else "declined" if order.order_type == DECLINED else "accepted"
    )
    card = {"card_hash": order.card} if order.card else {}
    return [
        "{"
        + body(
            {"payment_no": number, "method": order.method, "outcome": outcome, "amount": amount_mills / 1000}
            | card
            | {"billing_country": order.billing_country or None}
        )
        + "}"
        for number, outcome in enumerate(outcomes, 1)
    ]
