"""Customers: who they say they are, and the changes of their accounts. All names are made up."""

from __future__ import annotations

from typing import Any

from local.simulator.events import CUSTOMERS, Event, body, draws

_FIRST = (
    "Ada", "Amelia", "Arthur", "Beatrice", "Cédric", "Charles", "Clara", "Daniel", "Édith", "Elena", "Emil", "Fiona",
    "Florence", "George", "Grace", "Hanna", "Henry", "Ingrid", "Isla", "Jack", "Jürgen", "Karla", "Liam", "Lucía",
    "Maja", "Mary", "Noah", "Nora", "Oliver", "Paula", "Quentin", "Rosa", "Ruth", "Samuel", "Sofia", "Theo", "Uwe",
    "Violet", "William", "Zoë",
)  # fmt: skip
_LAST = (
    "Abbot", "Archer", "Baker", "Bishop", "Byron", "Carter", "Cooper", "Dubois", "Evans", "Fischer", "Fletcher",
    "Garcia", "Green", "Hatter", "Hughes", "Jansen", "Keller", "King", "Lambert", "Lindqvist", "Marsh", "Meyer",
    "Moreau", "Müller", "Nielsen", "O'Brien", "Palmer", "Pereira", "Reed", "Rossi", "Schmidt", "Shaw", "Silva",
    "Smith", "Taylor", "Turner", "Vogel", "Walker", "Weber", "Young",
)  # fmt: skip
_STREETS = ("Mill Lane", "High Street", "Station Road", "Church Walk", "Park Avenue", "Garden Row", "Market Square")
_TOWNS = {
    "United Kingdom": ("Leeds", "Bristol", "York", "Bath", "Hull", "Derby"),
    "Germany": ("Köln", "Bonn", "Leipzig", "Kassel"),
    "France": ("Lyon", "Lille", "Nantes", "Angers"),
    "EIRE": ("Cork", "Galway", "Dublin"),
}
TIERS = ("none", "silver", "gold")


def change(
    customer_id: str,
    country: str,
    tier: str,
    change_type: str,
    event_ms: int,
    event_id: str,
    *,
    moves: int = 0,
    label: int = 0,
) -> Event:
    """A crm.customers event with the account's state after it. moves: how often the customer has moved; a deleted
    account has no contact."""
    random = draws("customer", customer_id)
    first = _FIRST[int(random.integers(0, len(_FIRST)))]
    last = _LAST[int(random.integers(0, len(_LAST)))]
    accepts = bool(random.random() < 0.6)
    home = draws("home", customer_id, moves)
    street = _STREETS[int(home.integers(0, len(_STREETS)))]
    towns = _TOWNS.get(country, (country,))
    town = towns[int(home.integers(0, len(towns)))]
    fields: dict[str, Any] = {
        "customer_id": customer_id,
        "change_type": change_type,
        "country": country,
        "loyalty_tier": tier,
        "accepts_marketing": accepts and change_type != "deleted",
    }
    if change_type != "deleted":
        fields["contact"] = {
            "name": f"{first} {last}",
            "email": f"customer.{customer_id.lower()}@example.com",
            "address": f"{int(home.integers(1, 200))} {street}, {town}",
        }
    return Event(CUSTOMERS, event_ms, event_id, customer_id, body(fields), label=label)


def tier(orders: int) -> str:
    """Standing of a customer with so many orders."""
    return TIERS[(orders >= 5) + (orders >= 20)]
