"""Finds what to offer to a customer who left a cart: a product that is bought with what is in it, and is on a shelf.

    python -m functions_framework --target personal_offer --source include/functions/personal_offer/main.py

Pushed to from `signals.cart`. The contact policy: only who accepts marketing, and one offer a week. The offer is a row
in ops.offer; no mail is sent. A cart's signal has one offer, however often it comes.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from msgspec import Struct

from include.functions import pushed, raising
from include.functions.pushed import Message, Refused
from include.functions.warehouse import Row, Session, warehouse
from include.signals import Signal

NAME = "personal_offer"
WAREHOUSE = warehouse(NAME)
PAUSE = timedelta(days=7)
LEAST_LIFT = 1.2  # below, it is bought with the other one hardly more often than by itself
# Who offers takes the same row first, so that two carts of one customer do not both find that there was no offer.
LOCK = "update ops.offer_lock set taken = taken + 1"
ACCEPTS = """
select accepts_marketing and not coalesce(is_deleted, false) as accepts_marketing from core.customer
where customer_id = %(customer_id)s and is_current
"""
RECENT = """
select signal_id, left_ts from ops.offer
where signal_id = %(signal_id)s or (customer_id = %(customer_id)s and left_ts > %(since)s and left_ts < %(until)s)
"""
FIND = """
select affinity.product_id as left_product_id, affinity.other_product_id as product_id, affinity.lift
from marts.product_affinity as affinity
inner join (
    select product_id, sum(stock) as stock from reporting.stock_position group by product_id
) as shelf on affinity.other_product_id = shelf.product_id
where
    affinity.product_id in (%(products)s)
    and affinity.other_product_id not in (%(products)s)
    and affinity.lift >= %(least_lift)s
    and shelf.stock > 0
order by affinity.lift desc, affinity.orders_together desc, affinity.other_product_id
limit 1
"""
OFFER = """
insert into ops.offer (signal_id, customer_id, product_id, left_product_id, lift, trace_id, left_ts, offered_ts)
values (
    %(signal_id)s, %(customer_id)s, %(product_id)s, %(left_product_id)s, %(lift)s, %(trace_id)s, %(left_ts)s, %(now)s
)
"""


class Cart(Struct, frozen=True):
    """Of a signal cart_left."""

    products: list[str]
    customer_id: str | None = None


def take(message: Message, fields: dict[str, Any]) -> None:
    """Raises Refused, Passing."""
    signal = raising.signal_of(message, fields)
    if signal.kind != "cart_left":
        raise Refused(f"a signal {signal.kind} is not for {NAME}", 422)
    cart = raising.features_of(signal, Cart)
    if cart.customer_id is None or not cart.products:
        fields["offer"] = "none: nobody was signed in" if cart.products else "none: the cart is empty"
        return
    fields["offer"] = WAREHOUSE.transaction(partial(_offer, signal, cart))


def _offer(signal: Signal, cart: Cart, session: Session) -> str:
    """Returns what was offered, or why nothing was. The search takes long, so nobody waits for it at the lock."""
    if why_not := _why_not(signal, cart, session):
        return why_not
    found: list[Row] = session.rows(FIND, products=cart.products, least_lift=LEAST_LIFT)
    if not found:
        return "none: nothing that fits is on a shelf"
    session.run(LOCK)
    if why_not := _why_not(signal, cart, session):
        return why_not
    session.run(
        OFFER,
        **found[0],
        signal_id=signal.signal_id,
        customer_id=cart.customer_id,
        trace_id=signal.trace_id,
        left_ts=_naive(signal.event_ts),
        now=_naive(datetime.now(UTC)),
    )
    return str(found[0]["product_id"])


def _why_not(signal: Signal, cart: Cart, session: Session) -> str:
    """What the contact policy says against an offer; nothing if it allows one."""
    if not any(row["accepts_marketing"] for row in session.rows(ACCEPTS, customer_id=cart.customer_id)):
        return "none: no consent"
    left_ts = _naive(signal.event_ts)
    who = {"customer_id": cart.customer_id, "signal_id": signal.signal_id}
    recent = session.rows(RECENT, **who, since=left_ts - PAUSE, until=left_ts + PAUSE)
    if any(row["signal_id"] == signal.signal_id for row in recent):
        return "made before"
    return "none: there was one within a week" if recent else ""


def _naive(moment: datetime) -> datetime:
    """UTC without saying so, as the warehouse has it."""
    return moment.astimezone(UTC).replace(tzinfo=None)


personal_offer = pushed.function(NAME, take)
