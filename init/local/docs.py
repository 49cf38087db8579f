"""`make docs`: the site of docs/, built by mkdocs in an environment of its own."""

from __future__ import annotations

from pathlib import Path

from init.local import environments
from init.local.console import detail, run_step, say
from init.local.layout import Layout

# The builder's own announcements, of its next versions.
QUIET = {"NO_MKDOCS_2_WARNING": "1"}


def build_site(layout: Layout) -> Path:
    """Builds the site below the state folder, and prints its address.

    Returns:
        Its first page.

    Raises:
        SetupError: A page names what is not there, or is in no menu. Holds the builder's words.
    """
    environments.ensure_uv(layout)
    environments.build(layout, environments.docs_lock(layout))
    say("building the site")
    log, site = layout.logs / "docs.log", layout.state / "docs"
    log.unlink(missing_ok=True)
    command: list[str | Path] = [layout.docs_env / "bin" / "python", "-m", "mkdocs", "build", "--strict"]
    command += ["--config-file", layout.root / "mkdocs.yml", "--site-dir", site]
    run_step("building the site", command, log=log, env=environments.uv_environment() | QUIET)
    detail(f"read it: {(site / 'index.html').as_uri()}")
    return site / "index.html"
