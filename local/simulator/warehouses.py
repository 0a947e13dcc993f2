"""The warehouses, and which of them sends what where."""

from __future__ import annotations

WAREHOUSES = ("LEEDS", "BRISTOL", "KOELN", "LYON")
LEEDS, BRISTOL, KOELN, LYON = range(4)
SHARES = (0.60, 0.30, 0.06, 0.04)  # of the demand

_FROM_LYON = {"France", "Spain", "Portugal", "Italy", "Switzerland", "Malta", "Greece", "Cyprus", "Israel", "Lebanon"}
_FROM_KOELN = {
    "Germany", "Belgium", "Netherlands", "Austria", "Denmark", "Norway", "Sweden", "Finland", "Poland", "Lithuania",
    "Czech Republic", "European Community",
}  # fmt: skip


def warehouse(country: str, order_number: int) -> int:
    """Index of the warehouse that sends an order to a country."""
    if country in _FROM_LYON:
        return LYON
    if country in _FROM_KOELN:
        return KOELN
    return BRISTOL if order_number % 3 == 0 else LEEDS
