"""The rules of the streaming job: what in the log is worth a signal. Plain Python, one noun a module; rule.py says what
all of them promise, thresholds.yaml has their limits, docs/contracts/signals.md what they tell."""

from __future__ import annotations

from include.beam.rules.amounts import UnusualAmount
from include.beam.rules.carts import CartLeft
from include.beam.rules.drops import Drop
from include.beam.rules.payments import FailedPayments, PlatformPayments
from include.beam.rules.returns import EarlyReturn
from include.beam.rules.rows import InteractionRow, MinuteRow, MovementRow, OrderRow, PaymentRow, ReadingRow
from include.beam.rules.rule import Found, Rule
from include.beam.rules.sensors import Sensors
from include.beam.rules.stock import LowStock
from include.beam.rules.travel import ImpossibleTravel
from include.beam.rules.velocity import OrderVelocity

__all__ = [
    "RULES",
    "Found",
    "InteractionRow",
    "MinuteRow",
    "MovementRow",
    "OrderRow",
    "PaymentRow",
    "ReadingRow",
    "Rule",
]

RULES: tuple[type[Rule], ...] = (
    OrderVelocity,
    UnusualAmount,
    FailedPayments,
    PlatformPayments,
    ImpossibleTravel,
    EarlyReturn,
    LowStock,
    CartLeft,
    Sensors,
    Drop,
)
