"""A small client of the W3C WebDriver protocol: drives a headless Chromium through chromedriver.

https://www.w3.org/TR/webdriver2/ . Elements are found by CSS selector, by XPath or by what they say.
"""

from __future__ import annotations

import base64
import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

T = TypeVar("T")

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The protocol's name for a reference to an element."""
PATIENCE_S = 60.0
POLL_S = 0.05
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # containers' kernels often lack what the sandbox needs; the pages are our own
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
)


class WebDriverError(Exception):
    """What the browser or its driver refused, in their words."""


def find_programs() -> tuple[str, str] | None:
    """The paths of Chromium and chromedriver; None where one is missing."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    return (chromium, driver) if chromium and driver else None


@dataclass(frozen=True)
class Element:
    browser: Browser
    id: str

    def click(self) -> None:
        self.browser.command("POST", f"/element/{self.id}/click", {})

    def type(self, text: str) -> None:
        self.browser.command("POST", f"/element/{self.id}/value", {"text": text})

    def clear(self) -> None:
        """Empties a field as a keyboard would: WebDriver's own command sends no input event."""
        body = "arguments[0].value = ''; arguments[0].dispatchEvent(new Event('input', { bubbles: true }))"
        self.browser.script(body, self)

    @property
    def text(self) -> str:
        return self.browser.command("GET", f"/element/{self.id}/text")

    @property
    def displayed(self) -> bool:
        return self.browser.script("return arguments[0].checkVisibility()", self)

    def get(self, name: str) -> Any:
        """A property of the DOM object."""
        return self.browser.command("GET", f"/element/{self.id}/property/{name}")

    def find(self, selector: str) -> Element:
        return self.browser.element(self.browser.command("POST", f"/element/{self.id}/element", by(selector)))


class Browser:
    """One browsing session."""

    def __init__(self, http: httpx.Client, programs: tuple[str, str], folder: Path, width: int, height: int) -> None:
        self._http = http
        arguments = [*ARGUMENTS, f"--user-data-dir={folder}", f"--window-size={width},{height}"]
        options = {"binary": programs[0], "args": arguments}
        wanted = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
            "unhandledPromptBehavior": "ignore",
        }
        made = self._send("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{made['sessionId']}"

    def close(self) -> None:
        self.command("DELETE", "", None)

    def open(self, url: str) -> None:
        self.command("POST", "/url", {"url": url})

    def find(self, selector: str) -> Element:
        """The first displayed element of a CSS selector or an XPath, waited for."""

        def look() -> Element | None:
            return next((element for element in self.find_all(selector) if element.displayed), None)

        return self.wait_for(look, f"no element {selector}")

    def find_all(self, selector: str) -> list[Element]:
        return [self.element(found) for found in self.command("POST", "/elements", by(selector))]

    def button(self, text: str, within: str = "") -> Element:
        return self.find(
            f"//{within or '*'}/descendant-or-self::*[self::button or self::summary or self::a]"
            f"[contains(normalize-space(.), '{text}')]"
        )

    def field(self, label: str) -> Element:
        """The field whose label reads so."""
        of = self.find(f"//label[normalize-space(.)='{label}']").get("htmlFor")
        return self.find(f"#{of}")

    def wait_for(self, condition: Callable[[], T | None], otherwise: str, patience_s: float = PATIENCE_S) -> T:
        """What `condition` gives as soon as it gives something; an element that went away meanwhile is no failure."""
        deadline = time.monotonic() + patience_s
        while True:
            with contextlib.suppress(WebDriverError):
                if found := condition():
                    return found
            if time.monotonic() > deadline:
                raise TimeoutError(f"{otherwise}; the page says: {self.script('return document.body.innerText')}")
            time.sleep(POLL_S)

    def script(self, body: str, *arguments: Any) -> Any:
        """What a script returns; one that returns a promise is awaited."""
        sent = [{ELEMENT: a.id} if isinstance(a, Element) else a for a in arguments]
        return self.command("POST", "/execute/sync", {"script": body, "args": sent})

    def devtools(self, command: str, **parameters: Any) -> Any:
        """A command of the Chrome DevTools protocol."""
        return self.command("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def drag(self, element: Element, path: list[tuple[int, int]]) -> None:
        """Moves the pressed pointer along points that are offsets from the element's centre."""
        origin = {ELEMENT: element.id}
        moves = [{"type": "pointerMove", "origin": origin, "x": x, "y": y, "duration": 10} for x, y in path]
        actions = [moves[0], {"type": "pointerDown", "button": 0}, *moves[1:], {"type": "pointerUp", "button": 0}]
        self.command("POST", "/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": actions}]})

    def press(self, *keys: str) -> None:
        """Presses keys one after the other where the focus is."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.command("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def log(self) -> list[dict[str, Any]]:
        """What came to the console since the last call."""
        return self.command("POST", "/se/log", {"type": "browser"})

    def screenshot(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.command("GET", "/screenshot")))

    def element(self, found: dict[str, str]) -> Element:
        return Element(self, found[ELEMENT])

    def command(self, method: str, path: str, body: Any = None) -> Any:
        return self._send(method, self._session + path, body)

    def _send(self, method: str, path: str, body: Any) -> Any:
        answer = self._http.request(method, path, json=body) if body is not None else self._http.request(method, path)
        value = answer.json()["value"]
        if answer.is_error:
            raise WebDriverError(f"{value['error']}: {value['message']}")
        return value


def by(selector: str) -> dict[str, str]:
    return {"using": "xpath" if selector.startswith(("/", "(", "./")) else "css selector", "value": selector}


@contextlib.contextmanager
def driver(program: str, port: int) -> Generator[httpx.Client]:
    """A chromedriver on that port, and a client that speaks to it."""
    process = subprocess.Popen([program, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as http:
            deadline = time.monotonic() + 30
            while True:
                try:
                    if http.get("/status").json()["value"]["ready"]:
                        break
                except httpx.TransportError:
                    if time.monotonic() > deadline or process.poll() is not None:
                        raise
                time.sleep(POLL_S)
            yield http
    finally:
        process.terminate()
        process.wait(30)
