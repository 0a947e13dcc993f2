"""How much a signal speaks for fraud, and why, in words. weights.yaml has the numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import msgspec
import yaml
from msgspec import Meta, Struct

FILE = Path(__file__).with_name("weights.yaml")
KNOWN_AFTER = 5  # sales
Share = Annotated[float, Meta(ge=0, le=1)]


class Features(Struct, frozen=True):
    """What the rules say of an order (docs/contracts/signals.md): those that the score needs. Amounts in pounds."""

    order_id: str
    order_type: str
    amount: float
    country: str
    customer_id: str | None = None
    methods: list[str] = []
    billing_countries: list[str] = []
    is_billed_abroad: bool = False
    history_orders: int | None = None
    history_mean_amount: float | None = None
    limit: float | None = None
    is_whole_basket: bool | None = None
    minutes: float | None = None
    other_country: str | None = None
    window_orders: int = 0
    window_order_ids: list[str] = []
    window_returns: int = 0
    window_return_ids: list[str] = []
    window_declined: int = 0
    window_countries: list[str] = []
    window_cards: int = 0
    window_span_s: float = 0

    @property
    def is_return(self) -> bool:
        return self.order_type == "return"

    @property
    def is_of_new_account(self) -> bool:
        """As far as the snapshot knows; without one nobody is new."""
        return self.history_orders == 0 and self.customer_id is not None


@dataclass(frozen=True)
class Evidence:
    """holds: (kind, features) -> whether it is there. reason: the sentence."""

    holds: Callable[[str, Features], bool]
    reason: Callable[[Features], str]


EVIDENCE: dict[str, Evidence] = {
    "billed_abroad": Evidence(
        lambda _, f: f.is_billed_abroad and not f.is_return,
        lambda f: f"Shipped to {f.country}, billed in {', '.join(f.billing_countries)}.",
    ),
    "two_countries": Evidence(
        lambda _, f: len(f.window_countries) > 1,
        lambda f: f"{f.window_orders} orders within {_span(f)} go to {', '.join(f.window_countries)}.",
    ),
    "impossible_travel": Evidence(
        lambda kind, _: kind == "impossible_travel",
        lambda f: f"The same card bought for {f.other_country} {f.minutes:g} minutes before.",
    ),
    "many_orders": Evidence(
        lambda _, f: f.window_orders >= 3,
        lambda f: f"{f.window_orders} orders of the same card or customer within {_span(f)}.",
    ),
    "many_declined": Evidence(
        lambda _, f: f.window_declined >= 2,
        lambda f: f"{f.window_declined} attempts to pay were declined within {_span(f)}.",
    ),
    "several_cards": Evidence(
        lambda _, f: f.window_cards >= 2,
        lambda f: f"{f.window_cards} cards were used within {_span(f)}.",
    ),
    "unusual_amount": Evidence(
        lambda kind, _: kind == "unusual_amount",
        lambda f: f"{f.amount:.2f} GBP, where more than {f.limit or 0:.2f} is unusual.",
    ),
    "new_account": Evidence(
        lambda _, f: f.is_of_new_account,
        lambda _: "The account is new.",
    ),
    "return_of_new_account": Evidence(
        lambda _, f: f.is_of_new_account and f.is_return,
        lambda f: f"It wants {-f.amount:.2f} GBP back for goods that it has hardly received.",
    ),
    "buys_after_return": Evidence(
        lambda _, f: f.is_of_new_account and not f.is_return and f.window_returns > 0,
        lambda f: f"It buys again {_span(f)} after the first of {f.window_returns} returns.",
    ),
    "whole_basket_back": Evidence(
        lambda _, f: f.is_whole_basket is True,
        lambda _: "All of an order's goods are sent back.",
    ),
    "not_by_card": Evidence(
        lambda _, f: f.methods != ["card"],
        lambda f: f"But it is paid by {' and '.join(f.methods) or 'nothing'}.",
    ),
    "known_customer": Evidence(
        lambda _, f: (f.history_orders or 0) >= KNOWN_AFTER,
        lambda f: f"But the customer has bought {f.history_orders} times before.",
    ),
}


class Weights(Struct, frozen=True, forbid_unknown_fields=True):
    """weights.yaml."""

    prior: float
    threshold: Share
    critical: Share
    evidence: dict[str, float]


@dataclass(frozen=True)
class Verdict:
    """score: from 0 to 1. reasons: sentences, the weightiest first. order_ids: the order and those that are under the
    same suspicion."""

    score: float
    reasons: list[str]
    order_ids: list[str]


@cache
def weights(file: Path = FILE) -> Weights:
    """Raises ValueError that names the file and what is wrong in it."""
    try:
        found = msgspec.convert(yaml.safe_load(file.read_text()), Weights)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise ValueError(f"{file}: {error}") from None
    if found.evidence.keys() != EVIDENCE.keys():
        raise ValueError(f"{file}: evidence: {', '.join(sorted(found.evidence.keys() ^ EVIDENCE.keys()))}: in one only")
    return found


def judge(kind: str, features: Features) -> Verdict:
    """The verdict on a signal's order."""
    known = weights()
    there = [name for name, evidence in EVIDENCE.items() if evidence.holds(kind, features)]
    score = 1 / (1 + math.exp(-known.prior - sum(known.evidence[name] for name in there)))
    there.sort(key=lambda name: -known.evidence[name])
    reasons = [EVIDENCE[name].reason(features) for name in there]
    return Verdict(round(score, 4), reasons, [features.order_id, *_accomplices(kind, features)])


def _accomplices(kind: str, features: Features) -> list[str]:
    """What an abuser of refunds has bought and sent back just before: the return is what gives the orders away. Every
    order on a stolen card has a signal of its own."""
    if kind != "early_return":
        return []
    return [each for each in features.window_order_ids + features.window_return_ids if each != features.order_id]


def _span(features: Features) -> str:
    minutes = features.window_span_s / 60
    return f"{minutes:.0f} minutes" if minutes >= 2 else f"{features.window_span_s:.0f} seconds"
