"""Support tickets: they follow orders that came late, incomplete or wrong, and are opened, answered and closed."""

from __future__ import annotations

from local.simulator.events import TICKETS, Event, body, draws
from local.simulator.order import Order
from local.simulator.orders import Orders
from local.simulator.pace import Pace
from local.simulator.shop import DECLINED, RETURN, SALE, Shop
from local.simulator.stock import Stock

_HOURS_MS = 3_600_000
DAYS = 6  # market days from an order to the last step of its ticket
_REASONS = ("late", "wrong_item", "damaged", "refund", "payment", "question")
_OPENED = {
    "late": "My order {order} has not come. Where is it?",
    "wrong_item": "I ordered {product} and got something else.",
    "damaged": "{product} arrived broken. Très déçu.",
    "refund": "I sent {order} back and still wait for my money.",
    "payment": "I could not pay for {order}, but my bank shows the amount.",
    "question": "Is {product} available in other colours?",
}
_ANSWERED = "We are sorry. A colleague looks into {order} and will write to you."
_ESCALATED = "Passed on to a specialist: {order}."
_CLOSED = "We have settled {order}. Thank you for your patience."


class Tickets:
    """The source of support.tickets."""

    def __init__(self, shop: Shop, pace: Pace, orders: Orders, stock: Stock) -> None:
        self.shop, self.pace, self.orders, self.stock = shop, pace, orders, stock

    def events(self, day: int) -> list[Event]:
        """The steps that are taken on a market day."""
        start, end = day * self.pace.day_ms, (day + 1) * self.pace.day_ms
        found = []
        for each in range(day - DAYS, day + 1):
            short = self.stock.short(each)
            for order in self.orders.day(each):
                found += [
                    event
                    for event in steps(self.shop, order, order.number in short, self.pace.haste)
                    if start <= event.event_ms < end
                ]
        return found


def steps(shop: Shop, order: Order, is_short: bool, haste: float) -> list[Event]:
    """All steps of the ticket about an order; most orders have none."""
    random = draws("ticket", order.order_id)
    u = float(random.random())
    if order.order_type == SALE:
        if is_short and u < 0.12:
            reason = "late"
        elif u < 0.035:
            reason = _REASONS[int(random.choice(6, p=(0.3, 0.25, 0.2, 0.05, 0.0, 0.2)))]
        else:
            return []
    elif order.order_type == RETURN and (u < 0.06 or (order.label and u < 0.5)):
        reason = "refund"
    elif order.order_type == DECLINED and u < 0.2:
        reason = "payment"
    else:
        return []
    hours = [
        4 + random.exponential(20),
        0.5 + random.exponential(5),
        1 + random.exponential(6),
        2 + random.exponential(12),
    ]
    opened, answered, escalated, closed = (
        order.order_ms + int(min(sum(hours[: i + 1]), 23.9 * (DAYS - 1)) * _HOURS_MS * haste) + i for i in range(4)
    )
    is_escalated = bool(random.random() < (0.35 if reason in ("late", "refund") else 0.15))
    waited = (answered - opened) / _HOURS_MS / haste
    rating = int(min(5, max(1, round(random.normal(4.2 - 0.15 * waited - 1.2 * is_escalated, 0.8)))))
    products = shop.lines(order.basket)[0]
    product = int(products[int(random.integers(0, len(products)))])
    about_product = reason in ("wrong_item", "damaged", "question")
    ticket_id = f"T-{order.order_id.removeprefix('S')}"
    channel = ("mail", "chat", "phone")[int(random.choice(3, p=(0.55, 0.3, 0.15)))]
    words = {"order": order.order_id, "product": shop.names[product].title()}

    def step(action: str, at: int, text: str, satisfaction: int | None = None) -> Event:
        fields = {
            "ticket_id": ticket_id,
            "action": action,
            "reason": reason,
            "customer_id": order.customer_id,
            "order_id": order.order_id,
            "product_id": shop.products[product] if about_product else None,
            "channel": channel,
            "text": text.format(**words),
            "satisfaction": satisfaction,
        }
        return Event(TICKETS, at, f"ticket:{ticket_id}-{action}", ticket_id, body(fields), label=order.label)

    found = [step("opened", opened, _OPENED[reason]), step("answered", answered, _ANSWERED)]
    if is_escalated:
        found.append(step("escalated", escalated, _ESCALATED))
    found.append(step("closed", closed, _CLOSED, rating if random.random() < 0.7 else None))
    return found
