"""Small random events of every topic but the orders, over two days in any order of time, as a test wants them."""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta
from typing import Any

FIRST_MOMENT = datetime(2011, 1, 4)
PRODUCTS = ("22752", "85123A", "POST")


def moment(chance: random.Random, step_min: int = 7) -> str:
    """A time of two days on a coarse grid, so that equal times occur."""
    return f"{(FIRST_MOMENT + timedelta(minutes=step_min * chance.randrange(2880 // step_min))).isoformat()}Z"


def interaction(chance: random.Random, event_id: str, channel: str) -> dict[str, Any]:
    kind = chance.choice(["view", "product_view", "product_view", "add_to_cart", "checkout", "purchase", "error"])
    return {
        "event_id": event_id,
        "event_ts": f"{(datetime(2011, 1, 4, 20) + timedelta(minutes=3 * chance.randrange(160))).isoformat()}Z",
        "visitor_id": f"{channel}-{chance.randrange(6)}",
        "session_id": f"s{chance.randrange(20)}",
        "customer_id": chance.choice(["17850", None]),
        "channel": channel,
        "interaction_type": kind,
        "page" if channel == "web" else "screen": chance.choice(["home", "product", "cart"]),
        "product_id": chance.choice([*PRODUCTS, None]),
        "referrer": chance.choice(["direct", "search", None]),
        "device": "phone",
        "country": chance.choice(["United Kingdom", "France", "Atlantis"]),
        "page_load_ms": chance.choice([None, 100, 250, 900, 4000]),
        "error": "http_503" if kind == "error" else None,
        "app_version": chance.choice(["4.12.0", "4.13.0"]),
    }


def movement(chance: random.Random, event_id: str) -> dict[str, Any]:
    kind = chance.choice(["sale", "sale", "return", "refill", "transfer", "count"])
    quantity = chance.randint(1, 9)
    return {
        "event_id": event_id,
        "event_ts": moment(chance),
        "warehouse_id": chance.choice(["LEEDS", "KOELN"]),
        "product_id": chance.choice(PRODUCTS),
        "movement_type": kind,
        "quantity": -quantity if kind == "sale" else quantity,
    }


def reading(chance: random.Random, event_id: str) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "event_ts": moment(chance),
        "device_id": f"LEEDS-T-{chance.randrange(2)}",
        "warehouse_id": "LEEDS",
        "sensor_type": "temperature",
        "reading": chance.choice([18.4, 18.125, -3]),
        "battery_percent": chance.choice([None, 87]),
    }


def ticket(chance: random.Random, event_id: str) -> dict[str, Any]:
    action = chance.choice(["opened", "answered", "escalated", "closed"])
    return {
        "event_id": event_id,
        "event_ts": moment(chance),
        "ticket_id": f"T{chance.randrange(9)}",
        "action": action,
        "reason": chance.choice(["late", "damaged"]),
        "channel": "mail",
        "text": "My parcel has not come.",
        "satisfaction": chance.choice([1, 5]) if action == "closed" else None,
    }


def product_change(chance: random.Random, event_id: str) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "event_ts": moment(chance, step_min=60),
        "product_id": chance.choice(PRODUCTS),
        "change_type": chance.choice(["created", "changed", "changed", "deleted"]),
        "product_name": chance.choice(["BOX", "BIG BOX"]),
        "category": chance.choice(["Boxes", "Storage"]),
        "list_price": chance.choice([7.65, 8]),
        "reorder_point": chance.choice([None, 10]),
    }


def customer_change(chance: random.Random, event_id: str) -> dict[str, Any]:
    change = chance.choice(["created", "changed", "deleted"])
    contact = {"name": "Ada Byron", "email": "ada@example.com", "address": "12 Mill Lane, Leeds"}
    return {
        "event_id": event_id,
        "event_ts": moment(chance, step_min=60),
        "customer_id": chance.choice(["17850", "13047"]),
        "change_type": change,
        "country": chance.choice(["United Kingdom", "France"]),
        "loyalty_tier": "none",
        "accepts_marketing": chance.choice([True, False]),
        "contact": None if change == "deleted" else contact,
    }


def events(chance: random.Random, label: str, count: int) -> dict[str, list[dict[str, Any]]]:
    """Topic -> events; three times as many interactions as others."""
    numbers = range(count)
    return {
        "web.interactions": [interaction(chance, f"{label}-w{n}", "web") for n in range(3 * count)],
        "mobile.interactions": [interaction(chance, f"{label}-m{n}", "mobile") for n in range(3 * count)],
        "inventory.movements": [movement(chance, f"{label}-i{n}") for n in numbers],
        "iot.readings": [reading(chance, f"{label}-r{n}") for n in numbers],
        "support.tickets": [ticket(chance, f"{label}-t{n}") for n in numbers],
        "catalog.products": [product_change(chance, f"{label}-p{n}") for n in numbers],
        "crm.customers": [customer_change(chance, f"{label}-c{n}") for n in numbers],
    }


def value(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode()
