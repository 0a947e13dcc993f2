"""Ports of this machine: whether one is in use, and free ones for an instance or a process."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack

from local.instance import HOST, OFFSETS


def in_use(port: int) -> bool:
    """Whether a process listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def free_ports(count: int) -> list[int]:
    """Ports that are free now, all different."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def free_port_base() -> int:
    """A PORT_BASE whose ports are all free now, below 32768, where systems begin to take ports for clients. Processes
    that ask at the same time get different ones. Raises RuntimeError when there is none."""
    bases = list(range(20_000, 32_500, 100))
    start = os.getpid() % len(bases)
    for base in bases[start:] + bases[:start]:
        if not any(in_use(base + offset) for offset in OFFSETS.values()):
            return base
    raise RuntimeError("no free ports for an instance from 20000 to 32500")
