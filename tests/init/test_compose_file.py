"""What docker-compose.yaml promises about its containers, and the secrets that `make compose-env` makes for them.

tests/compose tries the same with a real engine (make test-compose).
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from init.local.compose import SECRETS, write_environment
from init.local.digests import write_digests
from init.local.layout import REPOSITORY, Layout
from tests.support.servers import scratch_folder

COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
WORKERS = ("spark-worker", "spark-worker-gpu")
# As an older version wrote them.
OLD_PASSWORDS = (
    "DB_ROOT_PASSWORD", "DB_PASSWORD", "AIRFLOW_DB_PASSWORD", "API_SECRET", "JWT_SECRET", "FERNET_KEY",
    "ADMIN_PASSWORD", "VIEWER_PASSWORD",
)  # fmt: skip

containers = pytest.mark.attack("containers", "a compose service with more rights, secrets or routes than it needs")


def services_with(secret: str) -> set[str]:
    return {name for name, service in SERVICES.items() if secret in service.get("secrets", [])}


def variables(service: Mapping[str, Any]) -> list[str]:
    given = service.get("environment", {})
    return [f"{name}={value}" for name, value in given.items()]


@containers
@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_rights_that_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["read_only"] is True
    assert 0 < service["pids_limit"] <= 4096
    assert "privileged" not in service


@containers
def test_workers_share_no_network_with_the_database() -> None:
    database = set(SERVICES["mysql"]["networks"])
    for name in (*WORKERS, "spark-master"):
        assert database.isdisjoint(SERVICES[name]["networks"]), name
    assert COMPOSE["networks"]["database"]["internal"] is True


@containers
def test_no_secret_is_in_an_environment_or_an_argument() -> None:
    for name, service in SERVICES.items():
        for text in [*variables(service), str(service.get("command", "")), str(service.get("build", ""))]:
            # What a secret was named by when .env held it; TUNING_SECRETS names the folder.
            assert not any(f"TUNING_{secret}" in text for secret in OLD_PASSWORDS), f"{name}: {text}"


@containers
def test_a_service_is_given_the_secrets_it_uses_and_no_others() -> None:
    assert services_with("db_root_password") == {"mysql", "airflow-scheduler"}
    assert services_with("db_password") == {"airflow-scheduler", "airflow-apiserver"}
    assert services_with("jwt_secret") == {"airflow-scheduler", "airflow-apiserver"}
    assert services_with("admin_password") == services_with("viewer_password") == {"airflow-apiserver"}
    assert services_with("spark_secret") == {"airflow-scheduler", "spark-master", *WORKERS}
    for name in (*WORKERS, "spark-master"):
        assert SERVICES[name]["secrets"] == ["spark_secret"]


def test_every_image_from_elsewhere_is_named_by_an_exact_version() -> None:
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    bases = [line.split("=", 1)[1] for line in dockerfile.splitlines() if line.startswith("ARG PYTHON_IMAGE=")]
    pulled = [service["image"] for service in SERVICES.values() if not service["image"].endswith(":local")]
    for image in {*bases, *pulled}:
        version = image.partition(":")[2].split("-")[0]
        assert version.count(".") == 2, image
        assert version.replace(".", "").isdigit(), image


def test_every_image_can_be_held_to_its_digest(tmp_path: Path) -> None:
    for name in ("Dockerfile", "docker-compose.yaml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    write_digests(Layout(tmp_path), lambda image: f"{image.partition(':')[0]}@sha256:{len(image):064d}")
    override = yaml.safe_load((tmp_path / "docker-compose.digests.yaml").read_text())["services"]
    pulled = {name for name, service in SERVICES.items() if not service["image"].endswith(":local")}
    built = {name for name, service in SERVICES.items() if "build" in service}
    assert {name for name in override if "image" in override[name]} == pulled == {"mysql"}
    assert {name for name in override if "build" in override[name]} == built
    assert override["mysql"]["image"].startswith("mysql@sha256:")
    assert override["airflow-init"]["build"]["args"]["PYTHON_IMAGE"].startswith("python@sha256:")


def test_every_secret_that_is_used_is_made() -> None:
    assert set(COMPOSE["secrets"]) == set(SECRETS)
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert used == set(SECRETS)


def test_each_secret_is_a_file_of_its_own_and_no_two_are_alike(tmp_path: Path) -> None:
    write_environment(Layout(tmp_path))
    values = {name: (tmp_path / ".secrets" / name).read_text() for name in SECRETS}
    assert len(set(values.values())) == len(SECRETS)
    # 144 bits and more; Airflow takes a line end for a part of the secret.
    assert all(len(value) >= 44 and value == value.strip() for value in values.values())
    assert (tmp_path / ".env").read_text() == "TUNING_SECRETS=./.secrets\n"


def test_secrets_that_are_there_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_environment(Layout(tmp_path))
    (tmp_path / ".env").write_text("TUNING_UI_PORT=9090\nTUNING_SECRETS=./.secrets\n")
    (tmp_path / ".secrets" / "spark_secret").unlink()
    before = {file.name: file.read_text() for file in (tmp_path / ".secrets").iterdir()}
    write_environment(Layout(tmp_path))
    after = {file.name: file.read_text() for file in (tmp_path / ".secrets").iterdir()}
    assert set(after) - set(before) == {"spark_secret"}
    assert {name: after[name] for name in before} == before
    assert (tmp_path / ".env").read_text() == "TUNING_UI_PORT=9090\nTUNING_SECRETS=./.secrets\n"
    capsys.readouterr()
    write_environment(Layout(tmp_path))
    assert "every secret is in" in capsys.readouterr().out


def test_passwords_of_an_older_env_file_move_and_stay_what_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"TUNING_{name}=old-{name}" for name in OLD_PASSWORDS]
    (tmp_path / ".env").write_text("\n".join([*lines, "TUNING_UI_PORT=9090"]) + "\n")
    write_environment(Layout(tmp_path))
    for name in OLD_PASSWORDS:
        assert (tmp_path / ".secrets" / name.lower()).read_text() == f"old-{name}"
    assert (tmp_path / ".env").read_text() == "TUNING_UI_PORT=9090\nTUNING_SECRETS=./.secrets\n"
    assert f"moved {len(OLD_PASSWORDS)} secrets from .env" in capsys.readouterr().out


@pytest.mark.attack("containers", "another account of the host reads a secret's file", times=len(SECRETS) + 1)
def test_no_other_account_of_the_host_reads_a_secret() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another account")
    nobody = pwd.getpwnam("nobody").pw_uid
    with scratch_folder() as folder:
        folder.chmod(0o755)
        write_environment(Layout(folder))
        for file in [*(folder / ".secrets" / name for name in SECRETS), folder / ".env"]:
            command = ["cat", str(file)]
            done = subprocess.run(
                command, user=nobody, group=nobody, extra_groups=[], capture_output=True, env={"PATH": os.defpath}
            )
            assert b"Permission denied" in done.stderr, file
            assert done.stdout == b""
            assert file.read_text()
