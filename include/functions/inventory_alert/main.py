"""Judges signals of shelves and sensors: what to order again, which device to look after.

    python -m functions_framework --target inventory_alert --source include/functions/inventory_alert/main.py

Pushed to from `signals.inventory`. A shelf that is low has one alert a day, and another when it is negative, so that
sales and refills around the reorder point do not tell people each time. Alerts of a shelf whose draft is open raise it.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from include.alerts import Alert
from include.functions import pushed, raising
from include.functions.pushed import Message, Refused
from include.signals import Signal

NAME = "inventory_alert"
# As marts.stock_cover proposes: it orders at what sells in ten days, up to what sells in twenty-four.
FILLED_TIMES = 2.4
UNKNOWN_POINT = 10  # pieces, of a product whose sales nobody knows yet


class Shelf(Struct, frozen=True):
    """Of a signal low_stock."""

    warehouse_id: str
    product_id: str
    level: str
    stock: int
    reorder_point: int | None = None

    @property
    def missing(self) -> int:
        """Pieces to order."""
        return round(FILLED_TIMES * (self.reorder_point or UNKNOWN_POINT)) - self.stock


class Sensor(Struct, frozen=True):
    """Of a signal sensor_out_of_range or sensor_silent."""

    device_id: str
    warehouse_id: str
    sensor_type: str
    problem: str = "silent"
    reading: float | None = None
    low: float | None = None
    high: float | None = None
    in_a_row: int = 0
    last_reading: float | None = None
    silent_s: int = 0


def take(message: Message, fields: dict[str, Any]) -> None:
    """Raises Refused, Passing."""
    signal = raising.signal_of(message, fields)
    if signal.kind == "low_stock":
        alert = _of_shelf(signal, raising.features_of(signal, Shelf))
    elif signal.kind in ("sensor_out_of_range", "sensor_silent"):
        alert = _of_sensor(signal, raising.features_of(signal, Sensor))
    else:
        raise Refused(f"a signal {signal.kind} is not for {NAME}", 422)
    raising.send(alert)
    fields["alerts"] = [alert.alert_id]


def _of_shelf(signal: Signal, shelf: Shelf) -> Alert:
    place = f"{shelf.product_id} in {shelf.warehouse_id}"
    reasons = [f"{shelf.stock} pieces are left; to be ordered again at {shelf.reorder_point or 'a point not known'}."]
    is_negative = shelf.level == "negative"
    if is_negative:
        reasons.append("More was sold than was there: count the shelf.")
    return raising.of_signal(
        signal,
        NAME,
        kind="low_stock",
        severity="critical" if is_negative else "warning",
        subject=signal.subject,
        occasion=f"{signal.event_ts:%Y-%m-%d} {shelf.level}",
        title=f"{place}: stock is negative" if is_negative else f"{place} is running out",
        reasons=reasons,
        action="draft_reorder",
        details={
            "warehouse_id": shelf.warehouse_id,
            "product_id": shelf.product_id,
            "quantity": shelf.missing,
            "stock": shelf.stock,
            "reorder_point": shelf.reorder_point,
        },
    )


def _of_sensor(signal: Signal, sensor: Sensor) -> Alert:
    """One that is out of range endangers goods: an incident. One that repeats itself or is silent is a repair."""
    device = f"{sensor.sensor_type} sensor {sensor.device_id} in {sensor.warehouse_id}"
    is_beyond = signal.kind == "sensor_out_of_range" and sensor.problem == "out_of_range"
    if is_beyond:
        title = f"{device} is out of range"
        reason = f"{sensor.in_a_row} readings in a row beyond {sensor.low:g} to {sensor.high:g}: {sensor.reading:g}."
    elif signal.kind == "sensor_out_of_range":
        title = f"{device} is stuck"
        reason = f"{sensor.in_a_row} readings in a row are {sensor.reading:g}."
    else:
        title = f"{device} is silent"
        reason = f"Nothing for {sensor.silent_s // 60} minutes; the last reading was {sensor.last_reading:g}."
    return raising.of_signal(
        signal,
        NAME,
        kind=signal.kind,
        severity="warning",
        subject=signal.subject,
        occasion=f"{signal.event_ts:%Y-%m-%d} {sensor.problem}",
        title=title,
        reasons=[reason],
        action="open_incident" if is_beyond else "none",
        details=signal.features,
    )


inventory_alert = pushed.function(NAME, take)
