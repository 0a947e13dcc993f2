"""Visitors who look around: sessions of people, by the rhythm of their country, and of crawling bots. Vectorised."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from local.simulator import faults
from local.simulator.campaigns import campaign
from local.simulator.events import (
    BOT,
    CUT,
    DUPLICATE,
    HONEST,
    LATE,
    MOBILE,
    WEB,
    Events,
    Numbers,
    draws,
    instants,
    mix,
)
from local.simulator.interactions import (
    DEVICES,
    ERROR,
    ERRORS,
    LOADS,
    REFERRERS,
    SEARCH,
    VIEWS,
    Fragments,
    load_times,
    visitor_of,
)
from local.simulator.pace import BROWSE_SHARE, Pace
from local.simulator.rhythm import country_shares, level
from local.simulator.shop import Shop
from local.simulator.taste import Taste

PEOPLE = 0.55  # of interactions, on average; bots come when the shop is quiet, so that the whole is steady
MEAN_EVENTS, BOT_EVENTS = 8.0, 70.0
MAX_EVENTS = 60


@dataclass(frozen=True)
class Block:
    """The interactions of sessions that begin in a block, by send_ms. By event: session (index), number in it, kind;
    act, product, load, extra as indices of fragments. By session: prefix of event ids, fields, key, topic, label."""

    send_ms: Numbers
    event_ms: Numbers
    session: Numbers
    number: Numbers
    act: Numbers
    product: Numbers
    load: Numbers
    extra: Numbers
    kind: Numbers
    prefixes: list[str]
    fields: list[str]
    keys: list[bytes]
    topic: Numbers
    label: Numbers
    extras: list[str]


class Sessions:
    """The source of browsing sessions."""

    def __init__(self, shop: Shop, pace: Pace, deleted: frozenset[str]) -> None:
        self.shop, self.pace = shop, pace
        self._fragments = Fragments(shop)
        self._taste = Taste(shop)
        # People by country: those with an account first, the loyal ones before the others.
        self._loyal = np.lexsort((-shop.customer_orders, shop.customer_country))
        self._visitors_of = np.array([visitor_of(customer_id) for customer_id in shop.customers], np.uint64)
        self._has_account = np.array([customer_id not in deleted for customer_id in shop.customers])
        places = np.searchsorted(shop.customer_country[self._loyal], np.arange(len(shop.countries) + 1))
        self._first_customer, self._customers = places[:-1], np.diff(places)
        self.block = lru_cache(maxsize=pace.horizon_ms // pace.block_ms + 3)(self._block)

    def events(self, start_ms: int, end_ms: int) -> list[Events]:
        """What sessions send in [start_ms, end_ms)."""
        found = []
        for number in range(
            (start_ms - self.pace.horizon_ms) // self.pace.block_ms, (end_ms - 1) // self.pace.block_ms + 1
        ):
            block = self.block(number)
            first, last = np.searchsorted(block.send_ms, [start_ms, end_ms]).tolist()
            if first < last:
                found.append(self.render(block, slice(first, last)))
        return found

    def _block(self, number: int) -> Block:
        pace = self.pace
        random = draws("sessions", pace.seed, pace.rate * 1000, number)
        start, length = number * pace.block_ms, pace.block_ms
        middle = start + length // 2
        wanted = pace.rate * BROWSE_SHARE * length / 1000
        people = wanted * PEOPLE * level(middle)
        human_count = int(random.poisson(people / MEAN_EVENTS))
        bot_count = int(random.poisson(max(wanted - people, wanted * 0.03) / BOT_EVENTS))
        is_bot = np.arange(human_count + bot_count) >= human_count
        begin = start + (random.random(len(is_bot)) * length).astype(np.int64)
        numbers = (pace.salt << 52) + (number << 18) + np.arange(len(is_bot), dtype=np.uint64)
        return self.build(random, begin, is_bot, mix(numbers, 3), middle)

    def build(
        self, random: np.random.Generator, begin: Numbers, is_bot: Numbers, unique: Numbers, middle: int
    ) -> Block:
        """The sessions that begin at these times. unique: 64 bits that name each; middle: the time by which the
        season, the countries' hours and the releases go."""
        pace, count = self.pace, len(begin)

        # --- sessions
        sizes = 2 + np.minimum(random.geometric(1 / 9.0, count), MAX_EVENTS - 2)
        sizes = np.where(random.random(count) < 0.3, 1, sizes)
        sizes = np.where(is_bot, np.exp(random.uniform(np.log(15), np.log(180), count)).astype(np.int64), sizes)
        country, visitor, customer = self._visitors(random, count, is_bot, middle)
        topic = np.where(~is_bot & (random.random(count) < 0.42), MOBILE, WEB).astype(np.int8)
        delay = np.where(random.random(count) < faults.LATE_SHARE, faults.delays(random, count, 1.0), 0)
        clock_kind, clock_ms = faults.clocks(random.random(count), random.random(count))
        kind_of_session = np.where(delay > 0, LATE, clock_kind).astype(np.int8)
        clock_ms = np.where(delay > 0, 0, clock_ms)
        offer = campaign(middle)
        referrer = random.choice(len(REFERRERS), count, p=REFERRERS_SHARE)
        by_offer = (random.random(count) < 0.25) & (referrer >= 2) & ~is_bot
        device = np.where(topic == MOBILE, 1 + (random.random(count) < 0.85), (random.random(count) < 0.3) * 2)

        # --- their events
        session = np.repeat(np.arange(count), sizes)
        total = len(session)
        at = np.arange(total) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        gaps = np.where(
            is_bot[session], 200 + random.exponential(1_500, total), 2_000 + random.lognormal(9.6, 1.0, total)
        )
        gaps = np.minimum(gaps, 180_000) * pace.quickness
        gaps[at == 0] = 0
        running = np.cumsum(gaps)
        offset = running - running[np.cumsum(sizes) - sizes][session] if total else running
        # A session longer than half the horizon is cut there, so that nothing is sent beyond it.
        keep = offset < pace.horizon_ms * 0.55
        session, at, offset = session[keep], at[keep], offset[keep].astype(np.int64)
        total = len(session)
        bot = is_bot[session]
        act, product = self._taste.acts(random, session, at, bot, visitor, np.where(by_offer, offer.category, -1))
        load = load_times(random, act, device[session], middle)
        extra = np.zeros(total, np.int64)
        searches = act == SEARCH
        extra[searches] = 1 + random.integers(0, self._fragments.search_count, int(searches.sum()))
        errors = act == ERROR
        extra[errors] = self._fragments.first_error + random.integers(0, len(ERRORS), int(errors.sum()))
        # The first event says where the visitor came from.
        firsts = at == 0
        extras = list(self._fragments.extras)
        by_reference = self._fragments.first_referrer + referrer
        named = len(extras) + referrer
        extras += [f',"referrer":"{name}","campaign":"{offer.name}"' for name in REFERRERS]
        act[firsts & (searches | errors)] = VIEWS[0]
        extra[firsts] = np.where(by_offer, named, by_reference)[session[firsts]]
        extra[firsts & bot] = 0

        # --- sending, and what goes wrong
        event_ms = begin[session] + offset
        send_ms = event_ms + 50 + random.exponential(400, total).astype(np.int64).clip(0, pace.horizon_ms // 10)
        event_ms = event_ms - delay[session] + clock_ms[session]
        kind, twice, lag = faults.strike(random, kind_of_session[session], int(pace.horizon_ms * 0.3))
        rows = np.concatenate([np.arange(total), twice[kind[twice] < CUT]])
        lag = lag[kind[twice] < CUT]
        kind = np.concatenate([kind, np.full(len(lag), DUPLICATE, np.int8)])
        send_ms = np.concatenate([send_ms, send_ms[rows[total:]] + lag])
        order = np.argsort(send_ms, kind="stable")
        rows = rows[order]

        return Block(
            send_ms[order],
            event_ms[rows],
            session[rows],
            at[rows] + 1,
            act[rows] + np.where(topic[session[rows]] == MOBILE, self._fragments.mobile, 0),
            product[rows] + 1,
            load[rows],
            extra[rows],
            kind[order],
            *self._texts(unique.tolist(), topic, visitor, customer, country, device, middle),
            topic=topic,
            label=np.where(is_bot, BOT, HONEST).astype(np.int8),
            extras=extras,
        )

    def _visitors(
        self, random: np.random.Generator, count: int, is_bot: Numbers, moment_ms: int
    ) -> tuple[Numbers, Numbers, Numbers]:
        """(country, visitor as 32 bits, customer or -1). The loyal ones come often; a third of those with an account
        sign in."""
        shares = country_shares(self.shop, moment_ms)
        country = np.searchsorted(np.cumsum(shares), random.random(count) * shares.sum()).clip(0, len(shares) - 1)
        pool = 20 + (self._customers * 6).astype(np.int64) + (self.pace.rate * 40 * shares).astype(np.int64)
        rank = (random.random(count) ** 2 * pool[country]).astype(np.int64)
        is_known = (rank < self._customers[country]) & ~is_bot
        owner = self._loyal[np.minimum(self._first_customer[country] + rank, len(self._loyal) - 1)]
        signs_in = is_known & (random.random(count) < 0.35) & self._has_account[owner]
        unknown = mix(country * 10_000_000 + np.where(is_bot, 9_000_000 + rank % 500, rank), 5) & np.uint64(2**32 - 1)
        return country, np.where(is_known, self._visitors_of[owner], unknown), np.where(signs_in, owner, -1)

    def _texts(
        self,
        unique: list[int],
        topic: Numbers,
        visitor: Numbers,
        customer: Numbers,
        country: Numbers,
        device: Numbers,
        moment_ms: int,
    ) -> tuple[list[str], list[str], list[bytes]]:
        """(prefixes of event ids, fields after event_ts, keys) of the sessions."""
        releases = self._fragments.releases(moment_ms)
        prefixes, fields, keys = [], [], []
        for key, t, name, c, land, d in zip(
            unique,
            topic.tolist(),
            visitor.tolist(),
            customer.tolist(),
            country.tolist(),
            device.tolist(),
        ):
            channel = "mobile" if t == MOBILE else "web"
            who = f'"customer_id":"{self.shop.customers[c]}",' if c >= 0 else ""
            version = releases[t][name % 4]
            prefixes.append(f"{channel}:{key:016x}-")
            keys.append(b"v-%08x" % name)
            fields.append(
                f'"visitor_id":"v-{name:08x}","session_id":"s-{key:016x}",{who}"channel":"{channel}",'
                f'"device":"{DEVICES[d]}","country":"{self.shop.countries[land]}","app_version":"{version}",'
            )
        return prefixes, fields, keys

    def render(self, block: Block, at: slice) -> Events:
        """The block's events at these positions."""
        acts, products, loads, extras = self._fragments.acts, self._fragments.products, LOADS, block.extras
        session = block.session[at]
        prefixes, fields, keys = block.prefixes, block.fields, block.keys
        in_session = session.tolist()
        ids = [f"{prefixes[s]}{n}" for s, n in zip(in_session, block.number[at].tolist())]
        values = [
            f'{{"event_id":"{i}","event_ts":"{t}Z",{fields[s]}{acts[a]}{products[p]}{loads[ms]}{extras[x]}}}'.encode()
            for i, t, s, a, p, ms, x in zip(
                ids,
                instants(block.event_ms[at]),
                in_session,
                block.act[at].tolist(),
                block.product[at].tolist(),
                block.load[at].tolist(),
                block.extra[at].tolist(),
            )
        ]
        topic = block.topic[session]
        faults.spoil_all(block.kind[at], topic, values)
        return Events(
            block.send_ms[at],
            block.event_ms[at],
            topic,
            block.kind[at],
            block.label[session],
            ids,
            [keys[s] for s in in_session],
            values,
        )


REFERRERS_SHARE = (0.34, 0.33, 0.12, 0.09, 0.05, 0.07)
