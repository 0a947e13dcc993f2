"""What the history teaches the market: products, baskets, customers, and how many orders come at which hour."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from local.simulator import catalog, history
from local.simulator.events import Numbers

SALE, RETURN, ADJUSTMENT, GIFT, DECLINED = range(5)
ORDER_TYPES = ("sale", "return", "adjustment", "gift", "declined")
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
RECENT_WEEKS = 13  # whose baskets and rhythm the market goes on with
LEVEL_WEEKS = 6  # whose number of orders it goes on with
# Larger baskets (two of 80,000 and 74,000 pieces, each returned at once; bookkeeping) would come again every few weeks.
MAX_AMOUNT_MILLS = 20_000_000


QUIET_MS, DISCONTINUED = 150 * DAY_MS, 40


@dataclass(frozen=True)
class Baskets:
    """The history's orders by (time, id), in columns; their lines stand from first[i] to first[i + 1] in the columns
    line_*. customer: index into Shop.customers, -1 for guests; amount_mills: in thousandths of a pound."""

    order_id: list[str]
    order_ms: Numbers
    order_type: Numbers
    customer: Numbers
    country: Numbers
    amount_mills: Numbers
    first: Numbers
    line_product: Numbers
    line_name: Numbers
    line_quantity: Numbers
    line_price_mills: Numbers


@dataclass(frozen=True)
class Shop:
    """All that is known of the shop. products: stock codes; names, prices_mills, categories (index into
    catalog.NAMES): by product; weights: how often each was ordered; texts: all names on lines, null as None."""

    products: list[str]
    names: list[str]
    prices_mills: Numbers
    categories: Numbers
    weights: Numbers
    is_stocked: Numbers
    countries: list[str]
    customers: list[str]
    customer_country: Numbers
    customer_orders: Numbers
    texts: list[str | None]
    baskets: Baskets

    @cached_property
    def recent(self) -> Numbers:
        """Baskets that the market draws from: those of the last weeks, without the rejected and the outliers."""
        b = self.baskets
        since = b.order_ms[-1] - RECENT_WEEKS * 7 * DAY_MS
        negative = np.minimum.reduceat(b.line_price_mills, b.first[:-1]) < 0
        found: Numbers = np.flatnonzero((b.order_ms > since) & ~negative & (abs(b.amount_mills) < MAX_AMOUNT_MILLS))
        return found

    @cached_property
    def hourly(self) -> Numbers:
        """(7, 24): orders in each hour of the week, Monday first: level of LEVEL_WEEKS, shape of RECENT_WEEKS."""
        b = self.baskets
        # The last day is half a day: the weeks end before it.
        end = int(b.order_ms[-1] // DAY_MS * DAY_MS)
        weeks = {n: (b.order_ms >= end - n * 7 * DAY_MS) & (b.order_ms < end) for n in (RECENT_WEEKS, LEVEL_WEEKS)}
        cells = b.order_ms // HOUR_MS
        hour_of_week = (cells // 24 + 3) % 7 * 24 + cells % 24
        shape = np.bincount(hour_of_week[weeks[RECENT_WEEKS]], minlength=168).reshape(7, 24)
        level = np.bincount(hour_of_week[weeks[LEVEL_WEEKS]] // 24, minlength=7) / LEVEL_WEEKS
        per_day = np.maximum(shape.sum(axis=1, keepdims=True), 1)
        found: Numbers = shape / per_day * level[:, None]
        return found

    def expected_orders(self, start_ms: int, end_ms: int) -> float:
        """Orders of all types that the history's pace has in [start, end)."""
        hours = np.arange(start_ms // HOUR_MS, -(-end_ms // HOUR_MS))
        covered = np.minimum((hours + 1) * HOUR_MS, end_ms) - np.maximum(hours * HOUR_MS, start_ms)
        return float((self.hourly[(hours // 24 + 3) % 7, hours % 24] * covered).sum() / HOUR_MS)

    @cached_property
    def renames(self) -> dict[int, list[tuple[int, str]]]:
        """By product its names in the order they came up, each with the time of the first order that has it. A name
        counts when one line in twenty, and at least three, has it."""
        b = self.baskets
        sold = np.flatnonzero((b.line_price_mills > 0) & (b.line_quantity > 0) & (b.line_name >= 0))
        order_ms = np.repeat(b.order_ms, np.diff(b.first))
        pair = b.line_product[sold] * len(self.texts) + b.line_name[sold]
        pairs, first, counts = np.unique(pair, return_index=True, return_counts=True)
        product = pairs // len(self.texts)
        total = np.bincount(product, counts)[product]
        found: dict[int, list[tuple[int, str]]] = {}
        for at in np.argsort(first, kind="stable").tolist():
            name = (self.texts[pairs[at] % len(self.texts)] or "").strip()
            names = found.setdefault(int(product[at]), [])
            if name and counts[at] >= max(3, total[at] / 20) and name not in (known for _, known in names):
                names.append((int(order_ms[sold[first[at]]]), name))
        return found

    @cached_property
    def discontinued(self) -> dict[int, int]:
        """Products that are no longer sold, each with the time it was taken out: some that had not sold for long."""
        b = self.baskets
        last = np.zeros(len(self.products), np.int64)
        np.maximum.at(last, b.line_product, np.repeat(b.order_ms, np.diff(b.first)))
        quiet = np.flatnonzero((last < b.order_ms[-1] - QUIET_MS) & self.is_stocked)
        return {product: int(last[product]) + QUIET_MS // 2 for product in quiet.tolist()[:DISCONTINUED]}

    def current_name(self, product: int) -> str:
        """What the product was called last."""
        names = self.renames.get(product)
        return names[-1][1] if names else self.names[product]

    def lines(self, basket: int) -> tuple[Numbers, Numbers, Numbers, Numbers]:
        """(product, name, quantity, price_mills) of a basket's lines."""
        b = self.baskets
        at = slice(int(b.first[basket]), int(b.first[basket + 1]))
        return b.line_product[at], b.line_name[at], b.line_quantity[at], b.line_price_mills[at]


def load() -> Shop:
    """Reads the history. Takes half a second. Raises FileNotFoundError when the data file is not in its place."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(
        history.data_file(), read_dictionary=["invoice_no", "stock_code", "description", "country"], use_threads=False
    )
    invoice, codes, texts, countries = (
        _encoded(table[name].combine_chunks()) for name in ("invoice_no", "stock_code", "description", "country")
    )
    minute = table["invoice_ts"].cast("timestamp[ms]").cast("int64").to_numpy()
    quantity = table["quantity"].cast("int64").to_numpy()
    mills = np.rint(table["unit_price"].cast("float64").to_numpy() * 1000).astype(np.int64)
    customer_no = pc.fill_null(table["customer_id"], -1).cast("int64").to_numpy()

    rows = np.argsort(invoice[0], kind="stable")  # file order within an invoice
    numbers, first = np.unique(invoice[0][rows], return_index=True)
    order_ms = np.minimum.reduceat(minute[rows], first)
    ids = np.array([str(invoice[1][n]) for n in numbers])
    order = np.lexsort((ids, order_ms))
    lengths = np.diff(np.append(first, len(rows)))
    rows = np.concatenate([rows[first[i] : first[i] + lengths[i]] for i in order])
    bounds = np.concatenate([[0], np.cumsum(lengths[order])])
    first = bounds[:-1]
    ids, order_ms = ids[order], order_ms[order]

    quantities, prices = quantity[rows], mills[rows]
    highest = np.maximum.reduceat(abs(prices), first)
    mark = np.array([text[0] for text in ids])
    order_type = np.select(
        [
            mark == "C",
            mark == "A",
            (highest == 0) & (np.maximum.reduceat(quantities, first) < 0),
            (highest == 0) & (np.minimum.reduceat(quantities, first) > 0),
        ],
        [RETURN, ADJUSTMENT, ADJUSTMENT, GIFT],
        SALE,
    )
    known, customer = np.unique(customer_no[rows][first], return_inverse=True)
    has_guests = int(known[0] == -1)
    country = countries[0][rows][first]
    baskets = Baskets(
        order_id=ids.tolist(),
        order_ms=order_ms,
        order_type=order_type.astype(np.int8),
        customer=customer - has_guests,
        country=country,
        amount_mills=np.add.reduceat(quantities * prices, first),
        first=bounds,
        line_product=codes[0][rows].astype(np.int32),
        line_name=texts[0][rows].astype(np.int32),
        line_quantity=quantities.astype(np.int32),
        line_price_mills=prices.astype(np.int32),
    )
    product_texts = [*texts[1], None]  # index -1: no name
    names = _names(baskets, codes[1], product_texts)
    customers = [str(number) for number in known[has_guests:].tolist()]
    customer_country = np.zeros(len(customers), np.int64)
    with_account = baskets.customer >= 0
    customer_country[baskets.customer[with_account]] = country[with_account]
    is_trade = (prices > 0) & (quantities > 0)
    return Shop(
        products=codes[1],
        names=names,
        prices_mills=_medians(baskets.line_product[is_trade], prices[is_trade], len(names)),
        categories=np.array([catalog.NAMES.index(catalog.category(c, n)) for c, n in zip(codes[1], names)]),
        weights=np.bincount(baskets.line_product[is_trade], minlength=len(names)).astype(float),
        is_stocked=np.array([catalog.is_stocked(c, n) for c, n in zip(codes[1], names)]),
        countries=countries[1],
        customers=customers,
        customer_country=customer_country,
        customer_orders=np.bincount(baskets.customer[with_account & (order_type == SALE)], minlength=len(customers)),
        texts=product_texts,
        baskets=baskets,
    )


def load_apart() -> Shop:
    """load() in a process of its own: it takes 300 MB for a second, of which a long-lived process would keep most.

    Raises FileNotFoundError when the data file is not in its place.
    """
    history.data_file()
    command = [sys.executable, "-m", "local.simulator.shop"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, check=True)
    known: Shop = pickle.loads(done.stdout)
    return known


def _encoded(column: object) -> tuple[Numbers, list[str]]:
    """(index of each value, -1 where there is none; the values)."""
    indices = column.indices  # type: ignore[attr-defined]
    return indices.fill_null(-1).to_numpy().astype(np.int64), column.dictionary.to_pylist()  # type: ignore[attr-defined]


def _names(baskets: Baskets, products: list[str], texts: list[str | None]) -> list[str]:
    """Each product's most frequent name on sold lines; where it was never sold, any name, or its code."""
    sold = (baskets.line_price_mills > 0) & (baskets.line_quantity > 0) & (baskets.line_name >= 0)
    names = list(products)
    for mask in ((baskets.line_name >= 0) & ~sold, sold):
        pairs, counts = np.unique(
            np.stack([baskets.line_product[mask], baskets.line_name[mask]]), axis=1, return_counts=True
        )
        for at in np.lexsort((-pairs[1], counts)).tolist():
            names[pairs[0, at]] = (texts[pairs[1, at]] or "").strip() or products[pairs[0, at]]
    return names


def _medians(group: Numbers, value: Numbers, count: int) -> Numbers:
    """The middle value of each group; 0 where it has none."""
    order = np.lexsort((value, group))
    group, value = group[order], value[order]
    start = np.searchsorted(group, np.arange(count))
    size = np.searchsorted(group, np.arange(count), side="right") - start
    found: Numbers = np.where(size > 0, value[np.minimum(start + size // 2, len(value) - 1)], 0)
    return found


def line_json(number: int, product: str, name: str | None, quantity: int, price_mills: int) -> str:
    """One order line as the history's events write it: the price as exact decimal, without trailing zeros."""
    pounds, rest = divmod(price_mills, 1000)
    price = f"{pounds}.{rest:03d}".rstrip("0").rstrip(".")
    return (
        f'{{"line_no":{number},"product_id":{json.dumps(product, ensure_ascii=False)},'
        f'"description":{json.dumps(name, ensure_ascii=False)},"quantity":{quantity},"unit_price":{price}}}'
    )


if __name__ == "__main__":
    # Under its own name, so that the pickle does not speak of __main__.
    from local.simulator import shop

    sys.stdout.buffer.write(pickle.dumps(shop.load()))
