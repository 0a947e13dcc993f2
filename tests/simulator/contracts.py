"""What an event must be like, read from the contracts' YAML alone: apart from the platform's own parser."""

from __future__ import annotations

import json
import re
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any

import yaml

from local.instance import ROOT


@cache
def contract(topic: str) -> dict[str, Any]:
    """The contract's content."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "include" / "contracts" / f"{topic}.yaml").read_text())
    return found


def setting(topic: str, name: str) -> Any:
    """One of the contract's custom properties."""
    return next(prop["value"] for prop in contract(topic)["customProperties"] if prop["property"] == name)


def fault(topic: str, value: bytes, send_ms: int) -> str | None:
    """Why the contract does not accept a message that arrives when it is sent; None when it does."""
    try:
        event = json.loads(value.decode(), parse_float=Decimal)
    except ValueError as error:
        return str(error)
    found = _object(event, contract(topic)["schema"][0]["properties"], "event")
    if found:
        return found
    event_ms = datetime.fromisoformat(event["event_ts"]).timestamp() * 1000
    if event_ms > send_ms + setting(topic, "acceptedAheadS") * 1000:
        return "event_ts: too far ahead"
    return None


def _object(value: Any, properties: list[dict[str, Any]], place: str) -> str | None:
    if not isinstance(value, dict):
        return f"{place}: not an object"
    # What the platform looks up is not sent.
    sent = {prop["name"]: prop for prop in properties if "transformLogic" not in prop}
    if unknown := set(value) - set(sent):
        return f"{place}: unknown {unknown}"
    for name, prop in sent.items():
        if value.get(name) is None:
            if prop.get("required"):
                return f"{place}.{name}: missing"
        elif found := _value(value[name], prop, f"{place}.{name}"):
            return found
    return None


def _value(value: Any, prop: dict[str, Any], place: str) -> str | None:
    kind, options = prop["logicalType"], prop.get("logicalTypeOptions", {})
    if kind == "object":
        return _object(value, prop["properties"], place)
    if kind == "array":
        if not isinstance(value, list) or not options.get("minItems", 0) <= len(value) <= options.get("maxItems", 1e9):
            return f"{place}: not a list of this length"
        return next(filter(None, (_object(item, prop["items"]["properties"], place) for item in value)), None)
    types: dict[str, Any] = {"string": str, "timestamp": str, "boolean": bool, "integer": int, "number": int | Decimal}
    if not isinstance(value, types[kind]) or (kind in ("integer", "number") and isinstance(value, bool)):
        return f"{place}: {value!r} is no {kind}"
    sizes = [int(text) for text in re.findall(r"\d+", prop["physicalType"])]
    if "enum" in prop and value not in [each["value"] for each in prop["enum"]]:
        return f"{place}: {value!r} is not in the enum"
    if kind == "string" and not options.get("minLength", 0) <= len(value) <= sizes[0]:
        return f"{place}: length {len(value)}"
    if kind == "timestamp" and datetime.fromisoformat(str(value)).tzinfo is None:
        return f"{place}: no zone"
    if kind in ("integer", "number"):
        if not options.get("minimum", -1e18) <= value <= options.get("maximum", 1e18):
            return f"{place}: {value} is out of range"
        decimals = -int(Decimal(value).normalize().as_tuple().exponent)
        if decimals > sizes[1] or abs(Decimal(value)) >= 10 ** (sizes[0] - sizes[1]):
            return f"{place}: {value} has too many digits"
    return None
