"""The validation scores of one trial while it trains."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Curve:
    """Keeps the scores the trial is judged by.

    Attributes:
        maximize: Whether a larger first score is better.
        patience: Rounds without a better first score after which to stop; None = never, and the last scores count.
        best_iteration: Round (from 0) of `scores`.
        scores: The scores that count so far, one per metric.
    """

    maximize: bool
    patience: int | None
    best_iteration: int = -1
    scores: tuple[float, ...] = field(default=())

    def add(self, iteration: int, scores: tuple[float, ...]) -> None:
        """Note the scores of a round."""
        if self.patience is None or not self.scores or self._better(scores[0]):
            self.best_iteration, self.scores = iteration, scores

    def is_spent(self, iteration: int) -> bool:
        """Whether early stopping ends the training after this round."""
        return self.patience is not None and iteration - self.best_iteration >= self.patience

    def _better(self, score: float) -> bool:
        return score > self.scores[0] if self.maximize else score < self.scores[0]
