"""How an export is marked whose run ended before its trials were spent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EndedEarly:
    """How a run ended early.

    Attributes:
        why: The reason, such as "finished early by alice".
        failed: Whether the run failed. What it had finished until then is exported all the same, as a partial result.
    """

    why: str
    failed: bool = False

    @property
    def note(self) -> str:
        """The sentence at the top of the report."""
        if not self.failed:
            return f"This run ended before its trials were spent: {self.why}."
        return f"Partial results: this run failed, and here is what it had finished until then ({self.why})."
