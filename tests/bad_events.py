"""One malformed `sales.orders` event of each kind, for tests that see each become a readable dead letter."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

GOOD: dict[str, Any] = {
    "event_id": "order:BAD",
    "event_ts": "2011-01-04T10:00:00Z",
    "order_id": "BAD",
    "order_type": "sale",
    "customer_id": "17850",
    "country": "United Kingdom",
    "channel": "web",
    "currency": "GBP",
    "lines": [
        {
            "line_no": 1,
            "product_id": "85123A",
            "description": "HEART T-LIGHT HOLDER",
            "quantity": 6,
            "unit_price": 2.55,
        },
        {"line_no": 2, "product_id": "22752", "description": None, "quantity": 2, "unit_price": 7.65},
    ],
}


def bad_events() -> list[tuple[str, bytes, str]]:
    """(name, message value, a fragment of the reason that a person would look for; "" where any wording will do)."""
    good = _json(GOOD)
    ahead = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return [
        ("cut", good[:100], ""),
        ("not JSON", b"order 536365: 6 x 85123A", ""),
        ("two documents", good + good, ""),
        ("bad UTF-8", good.replace(b"HEART", b"HE\xff\xfeRT"), ""),
        ("UTF-16", good.decode().encode("utf-16"), ""),
        ("half a surrogate pair", good.replace(b"HEART", b"\\ud83d"), ""),
        ("empty message", b"", ""),
        ("JSON null", b"null", "object"),
        ("JSON array", b"[" + good + b"]", "object"),
        ("deep nesting", b'{"event_id":' * 50_000, ""),
        ("1 MB of junk", b"x" * 999_000, ""),
        ("1 MB in an unknown field", _changed(junk="x" * 998_000), "junk"),
        ("unknown field", _changed(colour="red"), "colour"),
        ("unknown field in a line", _changed_line(colour="red"), "colour"),
        ("missing field", _json({name: value for name, value in GOOD.items() if name != "order_id"}), "order_id"),
        ("missing field in a line", good.replace(b'"product_id":"22752",', b""), "product_id"),
        ("null in a required field", _changed(country=None), "country"),
        ("wrong type", _changed_line(quantity="three"), "quantity"),
        ("fraction of a unit", _changed_line(quantity=2.5), "quantity"),
        ("number as an id", _changed(customer_id=17850), "customer_id"),
        ("NaN price", good.replace(b"2.55", b"NaN"), ""),
        ("negative price", _changed_line(unit_price=-11062.06), "unit_price"),
        ("fourth decimal of a price", _changed_line(unit_price=2.5501), "unit_price"),
        ("enormous price", good.replace(b"2.55", b"1e999999"), "unit_price"),
        ("enormous quantity", good.replace(b'"quantity":6', b'"quantity":99999999999999999999'), "quantity"),
        ("unknown order_type", _changed(order_type="swap"), "order_type"),
        ("unknown currency", _changed(currency="XXX"), "currency"),
        ("no lines", _changed(lines=[]), "lines"),
        ("before 2009", _changed(event_ts="2008-12-31T23:59:59Z"), "event_ts"),
        ("ahead of arrival", _changed(event_ts=ahead), "event_ts"),
        ("not a timestamp", _changed(event_ts="yesterday"), "event_ts"),
        ("no such day", _changed(event_ts="2011-02-30T10:00:00Z"), "event_ts"),
        ("timestamp without zone", _changed(event_ts="2011-01-04T10:00:00"), "event_ts"),
    ]


def _json(event: Any) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()


def _changed(**fields: Any) -> bytes:
    return _json(GOOD | fields)


def _changed_line(**fields: Any) -> bytes:
    first, second = GOOD["lines"]
    return _changed(lines=[first | fields, second])
