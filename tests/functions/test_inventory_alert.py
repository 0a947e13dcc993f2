"""What becomes of signals of shelves and sensors."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from include import signals
from include.signals import Signal
from tests.functions.running import Function, Live
from tests.stand_ins import until

Start = Callable[..., Function]
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
SHELF = {"warehouse_id": "LEEDS", "product_id": "85123A", "level": "low", "stock": 9, "stock_before": 12}
SENSOR = {"device_id": "T-1", "warehouse_id": "LYON", "sensor_type": "temperature"}
BEYOND = SENSOR | {"problem": "out_of_range", "reading": 31.5, "low": 10.0, "high": 28.0, "in_a_row": 3}


def send(live: Live, kind: Any, event_id: str, features: dict[str, Any]) -> None:
    number, trace = signals.signal_id(kind, "subject", event_id), signals.trace_id(event_id)
    one = Signal(number, kind, "subject", event_id, NOW, NOW, NOW, trace, features)
    live.publish("signals.inventory", signals.encode(one), kind=kind, trace_id=trace)


@pytest.mark.parametrize(
    ("kind", "features", "severity", "action", "title"),
    [
        ("low_stock", SHELF | {"reorder_point": 10}, "warning", "draft_reorder", "85123A in LEEDS is running out"),
        (
            "low_stock",
            SHELF | {"level": "negative", "stock": -2, "reorder_point": None},
            "critical",
            "draft_reorder",
            "85123A in LEEDS: stock is negative",
        ),
        ("sensor_out_of_range", BEYOND, "warning", "open_incident", "temperature sensor T-1 in LYON is out of range"),
        (
            "sensor_out_of_range",
            BEYOND | {"problem": "stuck", "in_a_row": 8},
            "warning",
            "none",
            "temperature sensor T-1 in LYON is stuck",
        ),
        (
            "sensor_silent",
            SENSOR | {"last_reading": 18.2, "silent_s": 600},
            "warning",
            "none",
            "temperature sensor T-1 in LYON is silent",
        ),
    ],
)
def test_signal_becomes_an_alert(
    live: Live, start: Start, kind: str, features: dict[str, Any], severity: str, action: str, title: str
) -> None:
    start("inventory_alert")
    send(live, kind, "event:1", features)
    (alert,) = live.gather(live.alerts, 1, "an alert is raised")
    assert (alert["kind"], alert["severity"], alert["action"], alert["title"]) == (kind, severity, action, title)
    if kind == "low_stock":
        assert alert["details"]["quantity"] == (15 if features["level"] == "low" else 26)


def test_shelf_has_one_alert_a_day_and_a_signal_of_another_function_is_refused(live: Live, start: Start) -> None:
    own = start("inventory_alert")
    for event_id in ("move:1", "move:2"):
        send(live, "low_stock", event_id, SHELF | {"reorder_point": 10})
    send(live, "cart_left", "cart:1", {"products": ["85123A"]})
    until(lambda: len(own.lines) >= 3, "all are answered")
    assert len({alert["alert_id"] for alert in live.alerts()}) == 1
    (refused, *_) = [line for line in own.lines if line["status"] == 422]
    assert refused["error"] == "a signal cart_left is not for inventory_alert"
