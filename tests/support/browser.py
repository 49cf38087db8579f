"""A headless Chromium that reaches nothing but this machine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from init.local.layout import REPOSITORY
from init.local.machine import BROWSERS, find

T = TypeVar("T")
WAIT_S = 180
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--force-prefers-reduced-motion",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--proxy-server=direct://",
    "--window-size=1400,1000",
)


@dataclass(frozen=True)
class Browser:
    """A browser on one site."""

    driver: webdriver.Chrome
    base: str
    pictures: Path

    def open(self, path: str) -> None:
        self.driver.get(self.base + path)

    def log_in(self, user: str, password: str) -> None:
        self.open("/")
        self.find("input[name=username]").send_keys(user)
        self.find("input[name=password]").send_keys(password)
        self.find("button[type=submit]").click()
        self.see("Dags")

    def find(self, selector: str) -> WebElement:
        return self.until(lambda: self.driver.find_element(By.CSS_SELECTOR, selector), selector)

    def link(self, text: str) -> WebElement:
        return self.until(lambda: self.driver.find_element(By.PARTIAL_LINK_TEXT, text), text)

    def button(self, text: str) -> WebElement:
        path = f"//button[contains(normalize-space(.), '{text}')]"
        return self.until(lambda: self.driver.find_elements(By.XPATH, path)[-1], text)

    def see(self, text: str) -> None:
        """Wait until the page (or the frame the browser is in) shows a text."""
        self.until(lambda: text in self.text(), text)

    def text(self) -> str:
        return self.driver.find_element(By.TAG_NAME, "body").text

    @contextmanager
    def frame(self) -> Iterator[None]:
        """Inside the page's only frame."""
        self.driver.switch_to.frame(self.find("iframe"))
        try:
            yield
        finally:
            self.driver.switch_to.default_content()

    def until(self, condition: Callable[[], T], what: str) -> T:
        """The first true answer of a condition; while the page changes, elements may be missing or stale."""
        waiting = WebDriverWait(self.driver, WAIT_S, ignored_exceptions=(WebDriverException, IndexError))
        try:
            return waiting.until(lambda _: condition())
        except WebDriverException:
            self.picture("failed")
            pytest.fail(f"no {what!r} at {self.driver.current_url} within {WAIT_S} s: {self.text()[:500]}")

    def errors(self) -> list[str]:
        """What the browser's console told as errors since the last call."""
        lines = self.driver.get_log("browser")  # type: ignore[no-untyped-call]  # selenium left it without
        return [str(line["message"]) for line in lines if line["level"] == "SEVERE"]

    def picture(self, name: str) -> None:
        self.pictures.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(self.pictures / f"{name}.png"))


@contextmanager
def browser(base: str) -> Iterator[Browser]:
    """A browser with an empty profile; its pictures go to .state/test/screenshots."""
    chromium, chromedriver = find(*BROWSERS), find("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("no browser: install chromium and chromium-driver (`make test` does)")
    pictures = Path(os.environ.get("TUNING_SCREENSHOTS", REPOSITORY / ".state" / "test" / "screenshots"))
    with tempfile.TemporaryDirectory(prefix="browser-") as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(chromedriver))
        try:
            yield Browser(driver, base, pictures)
        finally:
            driver.quit()
