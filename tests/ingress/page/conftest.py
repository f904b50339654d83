"""A headless Chromium before the application of tests/ingress; `make browser` runs these tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.ingress import test_s3
from tests.ingress.conftest import Running, free_socket
from tests.ingress.page.webdriver import Browser, driver, find_programs

ROOT = Path(__file__).parents[3]
SHOTS = ROOT / "build" / "screenshots"
AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
engines = test_s3.engines
WIDE, PHONE = (1280, 900), (390, 844)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def programs() -> tuple[str, str]:
    found = find_programs()
    assert found is not None, "Chromium and chromedriver are missing: apt install chromium chromium-driver"
    return found


@pytest.fixture(scope="session")
def chromedriver(programs: tuple[str, str]) -> Iterator[httpx.Client]:
    with free_socket() as sock:
        port = sock.getsockname()[1]
    with driver(programs[1], port) as http:
        yield http


@pytest.fixture(scope="session")
def browser(
    chromedriver: httpx.Client, programs: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    one = Browser(chromedriver, programs, tmp_path_factory.mktemp("chromium"), *WIDE)
    one.devtools("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    yield one
    one.close()


@dataclass(frozen=True)
class Page:
    """The page in the browser, freshly opened at a tab."""

    browser: Browser
    url: str

    def open(self, tab: str) -> Browser:
        self.browser.open("about:blank")
        self.browser.log()
        self.browser.open(f"{self.url}/#{tab}")
        self.browser.find("main")
        return self.browser


def complaints(browser: Browser) -> list[str]:
    """Errors and warnings in the console, the refusals of its Content-Security-Policy among them."""
    return [entry["message"] for entry in browser.log() if entry["level"] in ("SEVERE", "WARNING")]


@pytest.fixture
def page(browser: Browser, running: Running) -> Iterator[Page]:
    """The page of the application that most tests talk to. Nothing may stand in the console afterwards."""
    yield Page(browser, running.url)
    assert complaints(browser) == []
