"""Carts that were filled and left."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterable

import msgspec

from include.beam.rules import thresholds
from include.beam.rules.rows import InteractionRow
from include.beam.rules.rule import LATENESS_MS, Found, Rule
from include.beam.snapshot import Snapshot

LIMITS = thresholds.read().cart_left
AFTER_MS = LIMITS.after_s * 1000
_DECIDED_MS = AFTER_MS + LATENESS_MS  # after an event, what came after it is known
MOST_PRODUCTS = 20  # that a signal names, the last ones
# Interactions that touch a session's cart; rows of others need not be made.
TYPES = frozenset(("add_to_cart", "remove_from_cart", "checkout", "purchase"))


class _Act(msgspec.Struct, array_like=True, gc=False):
    """Something done to a cart."""

    event_ms: int
    event_id: str
    arrival_ms: int
    act: str
    product_id: str | None
    customer_id: str | None


class _Session(msgspec.Struct, array_like=True):
    """acts: in order. is_due: whether the session is in the heap."""

    visitor_id: str
    country: str
    channel: str
    acts: list[_Act]
    is_due: bool = False


class CartLeft(Rule):
    """Finds the last product put into a session's cart when for 30 minutes nothing more was put in or taken out and
    nothing was bought: once for each such last product. Who took something out at last has decided."""

    NAME = "cart_left"
    KINDS = ("cart_left",)
    ROW = InteractionRow
    HORIZON_S = _DECIDED_MS // 1000 + LIMITS.products_s

    def __init__(self, snapshot: Snapshot | None) -> None:
        super().__init__(snapshot)
        self._sessions: dict[str, _Session] = {}
        self._due: list[tuple[int, str]] = []  # heap of (when the earliest open add is decided, session)
        self._decided_ms = -(2**62)  # adds up to then are decided

    def keys(self, row: InteractionRow) -> Iterable[str]:
        return (f"session:{row.session_id}",) if row.interaction_type in TYPES else ()

    def observe(self, key: str, row: InteractionRow) -> list[Found]:
        act = _Act(row.event_ms, row.event_id, row.arrival_ms, row.interaction_type, row.product_id, row.customer_id)
        session = self._sessions.get(key)
        if session is None:
            session = self._sessions[key] = _Session(row.visitor_id, row.country, row.channel, [])
        acts = session.acts
        if acts and _place(acts[-1]) >= _place(act):
            at = bisect_left(acts, _place(act), key=_place)
            if _place(acts[at]) == _place(act):
                return []
            acts.insert(at, act)
        else:
            acts.append(act)
        # An earlier add than the one that is due has that one after it: it is not left.
        if act.act == "add_to_cart" and not session.is_due:
            self._push(act.event_ms, key, session)
        return []

    def _push(self, event_ms: int, key: str, session: _Session) -> None:
        heapq.heappush(self._due, (event_ms + _DECIDED_MS, key))
        session.is_due = True

    def advance(self, watermark_ms: int) -> list[Found]:
        found: list[Found] = []
        past_ms = watermark_ms - _DECIDED_MS
        while self._due and self._due[0][0] <= watermark_ms:
            _, key = heapq.heappop(self._due)
            session = self._sessions[key]
            session.is_due = False
            for at, act in enumerate(session.acts):
                if act.act != "add_to_cart" or act.event_ms <= self._decided_ms:
                    continue
                if act.event_ms > past_ms:
                    self._push(act.event_ms, key, session)
                    break
                if _is_left(session.acts, at):
                    found.append(self._found(key, session, act))
        self._decided_ms = max(self._decided_ms, past_ms)
        return found

    def _found(self, key: str, session: _Session, last: _Act) -> Found:
        first_ms, last_ms = last.event_ms - LIMITS.products_s * 1000, last.event_ms + AFTER_MS
        acts = [act for act in session.acts if first_ms <= act.event_ms <= last_ms]
        pieces: dict[str, int] = {}
        for act in acts:
            if act.act == "purchase":
                pieces = {}
            elif act.product_id and act.act != "checkout":
                pieces[act.product_id] = pieces.get(act.product_id, 0) + (1 if act.act == "add_to_cart" else -1)
        categories = self.snapshot.categories if self.snapshot else {}
        products = [product for product, count in pieces.items() if count > 0]
        features = {
            "session_id": key.removeprefix("session:"),
            "visitor_id": session.visitor_id,
            "customer_id": next((act.customer_id for act in reversed(acts) if act.customer_id), None),
            "country": session.country,
            "channel": session.channel,
            "products": products[-MOST_PRODUCTS:],
            "categories": sorted({categories[product] for product in products if product in categories}),
            "last_product_id": last.product_id,
            "has_begun_checkout": any(act.act == "checkout" for act in acts),
        }
        return Found("cart_left", key, last.event_id, last.event_ms, last.arrival_ms, features, last_ms + LATENESS_MS)

    def forget(self, before_ms: int) -> None:
        for key, session in list(self._sessions.items()):
            if session.acts[0].event_ms < before_ms:
                session.acts = session.acts[bisect_left(session.acts, (before_ms, ""), key=_place) :]
                if not session.acts:
                    del self._sessions[key]

    def dump(self) -> bytes:
        return msgspec.msgpack.encode((self._decided_ms, self._sessions))

    def load(self, state: bytes) -> None:
        self._decided_ms, self._sessions = msgspec.msgpack.decode(state, type=tuple[int, dict[str, _Session]])
        self._due = []
        for key, session in self._sessions.items():
            adds = (act.event_ms for act in session.acts if act.act == "add_to_cart")
            session.is_due = False
            if (event_ms := next((ms for ms in adds if ms > self._decided_ms), None)) is not None:
                self._push(event_ms, key, session)


def _place(act: _Act) -> tuple[int, str]:
    return act.event_ms, act.event_id


def _is_left(acts: list[_Act], at: int) -> bool:
    """Whether nothing touched the cart for long after an act."""
    after = (act.event_ms for act in acts[at + 1 :] if act.act != "checkout")
    return next(after, 2**62) > acts[at].event_ms + AFTER_MS
