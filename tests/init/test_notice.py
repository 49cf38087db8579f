"""LICENSE is the Apache License to the letter, and NOTICE names what `make pack` hands on."""

from __future__ import annotations

import hashlib
import re

from init.local.layout import REPOSITORY

# https://www.apache.org/licenses/LICENSE-2.0.txt
APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"


def test_the_license_is_apache_2() -> None:
    assert hashlib.sha256((REPOSITORY / "LICENSE").read_bytes()).hexdigest() == APACHE_2


def test_the_notice_names_every_package_of_the_worker_environment() -> None:
    lock = (REPOSITORY / "requirements" / "spark.txt").read_text()
    packages = re.findall(r"^([\w.-]+)==(?!\S+ ; sys_platform == 'win32')", lock, re.MULTILINE)
    assert len(packages) > 20
    notice = (REPOSITORY / "NOTICE").read_text().lower().replace("_", "-").replace("scikit learn", "scikit-learn")
    assert [name for name in packages if name.replace("_", "-") not in notice] == []
