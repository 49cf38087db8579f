"""The sentence about a full pool asks for no more rights than it needs."""

from __future__ import annotations

from tuning_pipeline.pages.pool_wait import MAX_NAMED, PoolWait


def test_only_as_many_holders_are_asked_about_as_are_named() -> None:
    asked = []

    def may_read(dag_id: str) -> bool:
        asked.append(dag_id)
        return dag_id != "hidden"

    holders = [("hidden", "h"), *((f"dag{i}", f"r{i}") for i in range(50))]
    said = PoolWait("tune", "gpus", 1, tuple(holders)).sentence(may_read)
    assert "held by run r0 of dag0 and run r1 of dag1 and run r2 of dag2 and 48 other runs." in said
    assert len(asked) == MAX_NAMED + 1
