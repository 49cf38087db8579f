"""The modules of both packages, the rooms they lie in, and which imports which: read from the sources."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = {"optuna_spark": "jobs", "tuning_pipeline": "plugins"}

Arrows = dict[str, set[str]]


def imports(path: Path) -> Iterator[str]:
    """What a file imports, anywhere in it, in full: `from a import b` gives `a.b`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they point"
            yield from (f"{node.module}.{name.name}" for name in node.names)


@cache
def modules() -> dict[str, Path]:
    """The file of each module, by dotted name; a package's own is its `__init__.py`."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted((ROOT / folder / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT / folder).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


@cache
def module_arrows() -> Arrows:
    """What each module imports of the two packages; of `from a import b` the module it means."""
    return {name: _imported(path) - {name} for name, path in modules().items()}


def _imported(path: Path) -> set[str]:
    # Each name is imported as a module, or else it stands in the module before its last dot.
    names = {name if name in modules() else name.rpartition(".")[0] for name in imports(path)}
    return names & modules().keys()


def reached(module: str, without: Collection[str] = ()) -> set[str]:
    """A module and all that it imports of ours, directly or through others, wherever in its functions.

    Args:
        module: Its dotted name.
        without: Modules that are not followed.
    """
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in seen and name not in without:
            seen.add(name)
            waiting += module_arrows()[name]
    return seen


def room_of(module: str) -> str:
    """The folder of a module, such as `jobs/driver`; a module in a package's root is a room of its own.

    So is a `registry`, which stands above the folders beside it that it lists.
    """
    path = modules()[module]
    package, *folders = path.relative_to(ROOT).parent.parts[1:]
    own = [path.stem] if path.stem == "registry" or (not folders and path.stem != "__init__") else []
    return "/".join([PACKAGES[package], *folders, *own])


@cache
def room_arrows() -> Arrows:
    """Which rooms each room imports."""
    found: Arrows = {room_of(module): set() for module in modules()}
    for module, imported in module_arrows().items():
        found[room_of(module)] |= {room_of(other) for other in imported}
    return {room: others - {room} for room, others in found.items()}
