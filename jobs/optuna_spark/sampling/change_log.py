"""Which trials have changed since somebody looked."""

from __future__ import annotations

from collections.abc import Iterator


class ChangeLog:
    """The numbers of the trials in the order in which they were made, begun and ended. Not thread-safe."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._last: dict[int, int] = {}  # position of each trial's last change

    def __len__(self) -> int:
        return len(self._numbers)

    def note(self, number: int) -> None:
        """Note that a trial has changed now."""
        self._last[number] = len(self._numbers)
        self._numbers.append(number)

    def since(self, position: int) -> Iterator[tuple[int, int]]:
        """The trials that have changed since a position, each once: pairs of the position after it, and its number."""
        for at in range(position, len(self._numbers)):
            if self._last[number := self._numbers[at]] == at:
                yield at + 1, number
