"""Answers by key, each computed once however many ask at the same moment."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Cache(Generic[T]):
    """The `size` answers used last, each at most `age_s` old. A failure goes to all who wait for it and is not kept."""

    def __init__(self, size: int, age_s: float) -> None:
        self._size = size
        self._age_s = age_s
        self._lock = Lock()
        self._entries: OrderedDict[Hashable, tuple[float, Future[T]]] = OrderedDict()

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The answer for `key`. Raises what `compute` raises."""
        with self._lock:
            at, future = self._entries.get(key, (0.0, None))
            fresh = future is not None and (not future.done() or time.monotonic() - at < self._age_s)
            if not fresh:
                future = Future()
                self._entries[key] = (time.monotonic(), future)
            self._entries.move_to_end(key)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)
        assert future is not None
        if not fresh:
            try:
                future.set_result(compute())
            except BaseException as error:
                with self._lock:
                    if self._entries.get(key, (0.0, None))[1] is future:
                        del self._entries[key]
                future.set_exception(error)
            else:
                with self._lock:
                    if self._entries.get(key, (0.0, None))[1] is future:
                        self._entries[key] = (time.monotonic(), future)
        return future.result()
