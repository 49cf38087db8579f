"""A Python daemon for Spark's executors that imports what a worker needs before it forks workers.

Spark 4.3's own daemon leaves all imports to the forked processes, even that of Spark's worker module, from a zip
without bytecode. With Optuna and this package that takes more than half a second of CPU in each worker. Importing once
for each executor lets 32 workers on two cores begin seconds earlier, and they share the memory.

spark_session.py ships this file to the executors as a module of its own. There the executor's folder is on the import
path, but the packages in it are not yet. So this file imports the standard library only. What it imports for the
workers, spark_session.py decides: nothing that starts CUDA or threads, which do not survive a fork.
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
# The cluster's secret in the environment of an executor (Spark's SecurityManager.ENV_AUTH_SECRET).
SECRET_VARIABLE = "_SPARK_AUTH_SECRET"  # noqa: S105 - a name


def import_early(folder: Path, modules: list[str]) -> None:
    """Import modules before the fork.

    Args:
        folder: Its zips (shipped by --py-files) are added to the import path first.
        modules: Names of modules; `module:function` also calls the function. A failure is only logged here: the worker
            imports the module again, and its error reaches the user.
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
    """The import path with pyspark's folder in place of its zip: modules in a folder have compiled bytecode.

    Args:
        path: The import path. A Spark installed by pip has pyspark.zip inside the package itself; a downloaded Spark
            has the package beside the zip's folder.
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
    """Drop Python's cached importers of zip files, so that the workers need not read each zip's directory again.

    Spark's worker extends its import path and then invalidates all importers. An invalidated zip importer reads its
    zip's directory again, once for each package in the zip (before Python 3.12 at once). A dropped importer is made
    anew when it is needed, from a directory that Python has cached.
    """
    for path, finder in list(sys.path_importer_cache.items()):
        if isinstance(finder, zipimport.zipimporter):
            del sys.path_importer_cache[path]


def reseed() -> None:
    """Seed NumPy's random numbers anew after a fork, so that workers do not draw the same. `random` does so itself."""
    if random := sys.modules.get("numpy.random"):
        random.seed()


def main() -> None:
    """Import early, then be Spark's own daemon."""
    gc.disable()  # until `freeze`: a collection now would only leave holes in the memory to be shared
    # Executors get the cluster's secret in this variable. Trials, and programs that they start, must not see it.
    os.environ.pop(SECRET_VARIABLE, None)
    sys.path[:] = without_zipped_pyspark(sys.path)
    from pyspark.daemon import manager

    named = os.environ.get(IMPORTS_VARIABLE, "").split(",")
    import_early(Path(), ["pyspark.worker", *(name for name in named if name)])
    forget_zip_finders()
    os.register_at_fork(after_in_child=reseed)
    # Forked workers share memory until one writes to it. The collector writes to each object that it looks at.
    gc.freeze()
    gc.enable()
    manager()


if __name__ == "__main__":
    main()
