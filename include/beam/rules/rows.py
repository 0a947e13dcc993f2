"""What rules look at: the few fields of an accepted event that they need. Times are POSIX milliseconds.

arrival_ms: the record's own time, monotone in a partition; amounts: thousandths of a pound.
"""

from __future__ import annotations

from typing import NamedTuple


class PaymentRow(NamedTuple):
    """An attempt to pay."""

    method: str
    outcome: str
    card_hash: str | None
    billing_country: str | None


class OrderRow(NamedTuple):
    """An order of any type. country: shipped to; region: the country's part of the world, None where not known."""

    event_id: str
    event_ms: int
    arrival_ms: int
    order_id: str
    order_type: str
    customer_id: str | None
    country: str
    region: str | None
    channel: str
    amount: int
    payments: tuple[PaymentRow, ...]


class InteractionRow(NamedTuple):
    """What a visitor did, web or mobile. Only the types in carts.TYPES are of interest to a rule."""

    event_id: str
    event_ms: int
    arrival_ms: int
    session_id: str
    visitor_id: str
    customer_id: str | None
    interaction_type: str
    product_id: str | None
    order_id: str | None
    country: str
    channel: str


class MovementRow(NamedTuple):
    """A change of stock, or a count; quantity as sent. partition, offset: where it stands in inventory.movements."""

    event_id: str
    event_ms: int
    arrival_ms: int
    partition: int
    offset: int
    warehouse_id: str
    product_id: str
    movement_type: str
    quantity: int
    other_warehouse_id: str | None


class ReadingRow(NamedTuple):
    """A sensor's reading, in the unit of its type."""

    event_id: str
    event_ms: int
    arrival_ms: int
    device_id: str
    warehouse_id: str
    sensor_type: str
    reading: float


class MinuteRow(NamedTuple):
    """A minute that is final, of the whole platform. orders: sales; views: pages and products looked at."""

    minute_ms: int
    orders: int
    views: int
