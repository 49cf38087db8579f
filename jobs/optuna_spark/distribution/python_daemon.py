"""Spark's Python daemon, which here imports what a worker needs before it forks workers.

Spark 4.3 imports even its own worker module in every forked process, from a zip without bytecode: with Optuna and this
package that is more than half a second of CPU each. Done once for each executor, 32 workers on two cores begin seconds
earlier, and share the memory.

Runs as a module of its own (session.py ships it): the executor's folder is on its path, but not yet the packages in
it. By itself it imports nothing that starts threads or CUDA, which do not survive a fork; session.py says what else.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import sys
import zipimport
from pathlib import Path

IMPORTS_VARIABLE = "OPTUNA_SPARK_IMPORTS"
# Spark's name for it: SecurityManager.ENV_AUTH_SECRET.
SECRET_VARIABLE = "_SPARK_AUTH_SECRET"  # noqa: S105 - a name


def import_early(folder: Path, modules: list[str]) -> None:
    """Import modules, those in the zips of `folder` (what came with --py-files) included.

    `module:function` is imported and called. What fails is left to the worker, which says why where somebody reads it.
    """
    sys.path += [str(file.resolve()) for file in sorted(folder.glob("*.zip"))]
    for name in modules:
        try:
            module, _, function = name.partition(":")
            imported = importlib.import_module(module)
            if function:
                getattr(imported, function)()
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker meets it again
            logging.getLogger(__name__).warning("Cannot import %s before the fork: %s", name, error)


def without_zipped_pyspark(path: list[str]) -> list[str]:
    """The search path with the folder of the same modules instead of Spark's pyspark.zip: there they are compiled.

    A Spark installed by pip lies in the package itself, a Spark distribution has the package beside the zip's folder.
    """
    found = []
    for entry in path:
        if entry.endswith("/python/lib/pyspark.zip"):
            folder = Path(entry).parents[1]
            if str(folder.parents[1]) in path and _is_in(folder.parents[1]):
                continue
            if _is_in(folder):
                entry = str(folder)
        found.append(entry)
    return found


def _is_in(folder: Path) -> bool:
    return (folder / "pyspark" / "__init__.py").is_file()


def forget_zip_finders() -> None:
    """Spare the workers reading every zip's directory again, once for each package in it.

    Spark's worker adds to its path and then invalidates all finders; for a zip's that means to read it (before Python
    3.12 at once). A finder that is not there is made when something is imported, from a directory that is known.
    """
    for path, finder in list(sys.path_importer_cache.items()):
        if isinstance(finder, zipimport.zipimporter):
            del sys.path_importer_cache[path]


def reseed() -> None:
    """Forked workers must not all draw the same numbers; Python's own `random` sees to itself."""
    if random := sys.modules.get("numpy.random"):
        random.seed()


def main() -> None:
    gc.disable()
    # Executors get the cluster's secret so. Trials need none, and programs that they start or report to even less.
    os.environ.pop(SECRET_VARIABLE, None)
    sys.path[:] = without_zipped_pyspark(sys.path)
    from pyspark.daemon import manager

    named = os.environ.get(IMPORTS_VARIABLE, "").split(",")
    import_early(Path(), ["pyspark.worker", *(name for name in named if name)])
    forget_zip_finders()
    os.register_at_fork(after_in_child=reseed)
    # What is there now is shared by the workers as long as nobody writes to it; the collector would.
    gc.freeze()
    gc.enable()
    manager()


if __name__ == "__main__":
    main()
