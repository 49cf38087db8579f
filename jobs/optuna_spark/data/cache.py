"""A small thread-safe cache that drops the least recently used value."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class LruCache(Generic[V]):
    """Keeps the `size` values that were used last. A value is built once, even if several threads want it at once."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Hashable, V] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: Hashable, build: Callable[[], V]) -> V:
        """The value of `key`, built now if it is not in the cache."""
        with self._lock:  # held while building, so that other threads wait for the value
            if key not in self._values:
                # Drop first, then build: values may be large, and only `size` of them fit into memory.
                while len(self._values) >= self._size:
                    self._values.popitem(last=False)
                self._values[key] = build()
            self._values.move_to_end(key)
            return self._values[key]

    def clear(self) -> None:
        with self._lock:
            self._values.clear()

    def __len__(self) -> int:
        return len(self._values)
