"""The limits of all rules, from thresholds.yaml. A wrong file is an error that names the place in it."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import msgspec
import yaml
from msgspec import Struct


class OrderVelocity(Struct, frozen=True, forbid_unknown_fields=True):
    window_s: int
    most_orders: int


class UnusualAmount(Struct, frozen=True, forbid_unknown_fields=True):
    known_after: int
    times_the_mean: float
    share_of_sales: float


class EarlyReturn(Struct, frozen=True, forbid_unknown_fields=True):
    known_after: int
    window_s: int


class PlatformPayments(Struct, frozen=True, forbid_unknown_fields=True):
    window_min: int
    quiet_min: int
    least_payers: int
    usual_share: float
    least_share: float
    chance: float


class FailedPayments(Struct, frozen=True, forbid_unknown_fields=True):
    window_s: int
    most_declined: int
    platform: PlatformPayments


class ImpossibleTravel(Struct, frozen=True, forbid_unknown_fields=True):
    within_region_min: int
    between_regions_min: int


class LowStock(Struct, frozen=True, forbid_unknown_fields=True):
    remembered_s: int


class CartLeft(Struct, frozen=True, forbid_unknown_fields=True):
    after_s: int
    products_s: int


class Sensor(Struct, frozen=True, forbid_unknown_fields=True):
    limits: dict[str, tuple[float, float]]
    in_a_row: int
    stuck_types: frozenset[str]
    stuck_in_a_row: int
    gap_s: int
    episode_s: int
    silent_s: int


class Drop(Struct, frozen=True, forbid_unknown_fields=True):
    window_min: int
    base_min: int
    quiet_min: int
    least_expected: float
    most_share: float
    chance: float


class Thresholds(Struct, frozen=True, forbid_unknown_fields=True):
    """The file; its comments say why."""

    order_velocity: OrderVelocity
    unusual_amount: UnusualAmount
    early_return: EarlyReturn
    failed_payments: FailedPayments
    impossible_travel: ImpossibleTravel
    low_stock: LowStock
    cart_left: CartLeft
    sensor: Sensor
    drop: Drop


@cache
def read() -> Thresholds:
    """Read once a process. Raises msgspec.ValidationError naming the place."""
    text = files("include.beam.rules").joinpath("thresholds.yaml").read_text()
    return msgspec.convert(yaml.safe_load(text), Thresholds)
