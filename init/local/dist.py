"""`make dist`: the wheel, for an Airflow or a Spark environment of your own."""

from __future__ import annotations

from pathlib import Path

from init.local.console import detail, run_step, say
from init.local.environments import ensure_uv, uv, uv_environment
from init.local.layout import Layout


def build_wheel(layout: Layout, folder: Path) -> Path:
    """Builds the wheel with the locked build tools.

    Args:
        layout: Of the checkout.
        folder: Where the wheel goes; one of the same version is replaced.

    Returns:
        The wheel.
    """
    ensure_uv(layout)
    say("building the wheel")
    command: list[str | Path] = [uv(layout), "build", "--wheel", "--out-dir", folder, "--require-hashes"]
    command += ["--build-constraints", layout.requirements / "dist.txt", layout.root]
    run_step("building the wheel", command, log=layout.logs / "dist.log", env=uv_environment())
    wheel = max(folder.glob("*.whl"), key=lambda path: path.stat().st_mtime)
    detail(str(wheel))
    return wheel
