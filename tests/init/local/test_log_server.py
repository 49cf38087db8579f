"""Where Airflow finds the logs of running tasks, before any service is started."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

import loopback_host
from init.local.layout import Layout
from init.local.log_server import LOG_SERVER, log_variables
from init.local.ports import LOOPBACK
from init.local.processes import Service
from init.local.ui import AirflowServices, without_proxy

SHELL = {"http_proxy": "http://proxy.example.org:3128"}


def services(folder: Path, **facts: object) -> AirflowServices:
    """Services whose API server was started with these facts and has ended."""
    found = AirflowServices(Layout(folder), {"AIRFLOW_CONN_TUNING_DB": "{}"})
    found.api_server.adopt(1, {"port": 8080, "url": "http://127.0.0.1:8080", "key": found._key(), **facts})
    return found


def test_services_of_an_earlier_version_are_outdated(tmp_path: Path) -> None:
    assert services(tmp_path).outdated()
    assert not services(tmp_path, log_port=20_001).outdated()


def test_airflow_imports_the_name_of_its_host() -> None:
    module, _, function = log_variables(20_001)["AIRFLOW__CORE__HOSTNAME_CALLABLE"].partition(".")
    assert module == loopback_host.__name__
    assert getattr(loopback_host, function)() == LOOPBACK


@pytest.mark.parametrize(
    ("given", "others_are_direct"),
    [
        ({}, False),
        ({"NO_PROXY": "example.net"}, False),
        ({"no_proxy": "example.com"}, True),
        ({"no_proxy": "example.com", "NO_PROXY": "example.net"}, True),
        ({"NO_PROXY": "*"}, True),
    ],
)
def test_what_is_asked_of_this_machine_goes_through_no_proxy(
    given: dict[str, str], others_are_direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in without_proxy(SHELL | given).items():
        monkeypatch.setenv(name, value)
    requests = pytest.importorskip("requests")
    assert requests.utils.get_environ_proxies(f"http://{LOOPBACK}:20001/log/x") == {}
    assert urllib.request.proxy_bypass(LOOPBACK)
    assert (requests.utils.get_environ_proxies("http://example.com/") == {}) == others_are_direct


def test_the_log_server_is_stopped_with_the_others(tmp_path: Path) -> None:
    assert Service(LOG_SERVER, tmp_path / ".state") in services(tmp_path).services
