"""Rules that turn a target's failures into cards: how to recognise a failure, and what its card says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tuning_pipeline.failures import Failure


@dataclass(frozen=True)
class FailureRule:
    """One kind of failure.

    Attributes:
        what, next, retry: Parts of its card (see `Failure`).
        codes: The platform's codes for it.
        words: In lower case. The rule also fits if the platform's message contains one of them.
    """

    what: str
    next: str
    codes: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    retry: bool = False

    def fits(self, code: str, message: str) -> bool:
        """Whether a run that ended with this code and message failed in this way."""
        return code in self.codes or any(word in message.lower() for word in self.words)


def failure_by(rules: Iterable[FailureRule], code: str, message: str, where: str) -> Failure | None:
    """The card of the first rule that fits; None if none does."""
    fitting = (rule for rule in rules if rule.fits(code, message))
    return next((Failure(rule.what, message or code, rule.next, where, rule.retry) for rule in fitting), None)
