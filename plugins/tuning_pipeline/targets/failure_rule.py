"""A target's table of bad ends: how each is known, and what its card says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tuning_pipeline.failures import Failure


@dataclass(frozen=True)
class FailureRule:
    """One kind of bad end.

    Attributes:
        what, next, retry: For its card, see `Failure`.
        codes: What the platform calls it.
        words: Any of these in the platform's message is enough, in small letters.
    """

    what: str
    next: str
    codes: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    retry: bool = False

    def fits(self, code: str, message: str) -> bool:
        """Whether this is how a run ended."""
        return code in self.codes or any(word in message.lower() for word in self.words)


def failure_by(rules: Iterable[FailureRule], code: str, message: str, where: str) -> Failure | None:
    """The card of the first rule that fits; None when none does."""
    fitting = (rule for rule in rules if rule.fits(code, message))
    return next((Failure(rule.what, message or code, rule.next, where, rule.retry) for rule in fitting), None)
