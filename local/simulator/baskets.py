"""The history's orders, packed to be drawn from: 25,898 in 25 MB. Run as a module, it pickles them to stdout."""

from __future__ import annotations

import pickle
import subprocess
import sys
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

from local.simulator import history


@dataclass(frozen=True, slots=True)
class Basket:
    """A real order whose lines are packed."""

    order: history.Order
    packed_lines: bytes

    def unpack(self) -> history.Order:
        return replace(self.order, lines_json=zlib.decompress(self.packed_lines).decode())


def pack() -> list[Basket]:
    """The history's orders in its order, without the two of a negative price, which the platform rejects."""
    return [_pack(order) for order in history.read() if '"unit_price":-' not in order.lines_json]


def load() -> list[Basket]:
    """pack() in a process of its own: reading takes 400 MB for two seconds, and a long-lived process would keep 50.

    Raises FileNotFoundError when the data file is not in its place.
    """
    history.data_file()
    command = [sys.executable, "-m", "local.simulator.baskets"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, check=True)
    packed: list[Basket] = pickle.loads(done.stdout)
    return packed


def _pack(order: history.Order) -> Basket:
    # Interned, equal texts are one object, also after pickling.
    head = replace(
        order,
        order_type=sys.intern(order.order_type),
        customer_id=order.customer_id and sys.intern(order.customer_id),
        country=sys.intern(order.country),
        lines_json="",
    )
    return Basket(head, zlib.compress(order.lines_json.encode()))


if __name__ == "__main__":
    # Under its own name, so that the pickle does not speak of __main__.
    from local.simulator import baskets

    sys.stdout.buffer.write(pickle.dumps(baskets.pack()))
