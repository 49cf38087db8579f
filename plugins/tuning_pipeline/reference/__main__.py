"""python -m tuning_pipeline.reference FOLDER: writes a checkout's reference page and annotated study anew."""

from __future__ import annotations

import sys
from pathlib import Path

from tuning_pipeline.reference.errors_page import errors_page
from tuning_pipeline.reference.example import annotated
from tuning_pipeline.reference.page import reference_page
from tuning_pipeline.study_file.read_yaml import read_yaml
from tuning_pipeline.study_file.study_file import spelled_out

EXAMPLE = Path("dags/studies/wine_quality.yaml")
PAGE = Path("docs/study_file.md")
ERRORS = Path("docs/errors.md")


def texts(root: Path) -> dict[Path, str]:
    """What each of the three files should hold, by its path below the checkout."""
    document = spelled_out(read_yaml(root / EXAMPLE), root / EXAMPLE)
    return {EXAMPLE: annotated(EXAMPLE.stem, document), PAGE: reference_page(), ERRORS: errors_page()}


def main(root: Path) -> None:
    for path, text in texts(root).items():
        (root / path).write_text(text, encoding="utf-8")
        sys.stdout.write(f"wrote {path}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
