"""A real browser without a window, which notes what pages ask for and complain about."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from .waiting import until

_OPTIONS = (
    "--headless",
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1400,1000",
)
#: Where nothing leaves the browser or this machine; its own pages are among them.
_HERE = frozenset({"file", "data", "blob", "chrome", "chrome-untrusted"})


class Browser:
    """Chromium.

    Attributes
    ----------
    driver
        Selenium's driver of it.
    """

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self._asked: list[str] = []

    def open(self, address: str | Path) -> None:
        """Load a page, or a file."""
        self.driver.get(address.as_uri() if isinstance(address, Path) else address)

    def renew(self) -> None:
        """Go on as another reader, whose tab has seen no page yet."""
        self.open("about:blank")  # what is there now may load itself again and again
        self.driver.switch_to.new_window("tab")

    def all(self, selector: str) -> list[Any]:
        """Elements of the page."""
        return self.driver.find_elements("css selector", selector)

    def text(self, selector: str) -> str:
        """What the first such element says, as it is seen; empty if there is none."""
        script = """
            const found = document.querySelector(arguments[0]);
            return found?.innerText ?? found?.textContent ?? '';
        """  # what is drawn as SVG has no innerText
        return self.driver.execute_script(script, selector)

    def wait(self, condition: Callable[[], Any]) -> None:
        """Wait until something is so."""
        until(condition, lambda: f"it did not come to that: {self.text('body')}", pause=0.1)

    def complaints(self) -> list[str]:
        """Messages in the console since the last call: errors, and what a policy forbade."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def elsewhere(self) -> list[str]:
        """Addresses asked for so far that are neither files nor on this machine."""
        for entry in self.driver.get_log("performance"):
            event = json.loads(entry["message"])["message"]
            if event["method"] == "Network.requestWillBeSent":
                self._asked.append(event["params"]["request"]["url"])
        assert self._asked
        parts = [(address, urlsplit(address)) for address in self._asked]
        return [
            address
            for address, part in parts
            if part.scheme not in _HERE and part.hostname != "127.0.0.1"
        ]


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Run Chromium with a profile in a folder; where it is missing skip, but not in CI."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        missing = "needs the programs chromium and chromedriver"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for option in (*_OPTIONS, f"--user-data-dir={folder}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(executable_path=driver))
    try:
        yield Browser(started)
    finally:
        started.quit()
