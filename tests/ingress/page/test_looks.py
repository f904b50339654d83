"""A picture of each tab in both schemes, to be looked at, and what axe-core finds in each."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.ingress.conftest import Running
from tests.ingress.page.conftest import AXE, PHONE, SHOTS, WIDE, Page, complaints
from tests.ingress.page.webdriver import Browser

SERIOUS = ("serious", "critical")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def fill_chat(browser: Browser) -> None:
    browser.find("#chat-prompt").type("Tell me a story about a fox.")
    browser.button("Send").click()
    browser.button("Go through the steps").click()
    middle = "const [slider] = arguments; slider.value = slider.max / 2;"
    browser.script(
        middle + "slider.dispatchEvent(new Event('input', {bubbles: true}))", browser.find("input[type=range]")
    )


def fill_images(browser: Browser) -> None:
    browser.find("#image-prompt").type("A red fox")
    browser.button("Make the picture").click()
    browser.button("Edit").click()
    browser.drag(browser.find(".easel canvas"), [(-60, -60), (-60, 60), (0, 0)])
    browser.button("Change the picture").click()
    browser.wait_for(lambda: len(browser.find_all("li[data-state='done']")) == 2, "no second picture")
    browser.button("More settings", "*[@id='panel-images']").click()


def fill_video(browser: Browser) -> None:
    browser.find("#video-prompt").type("A curious raccoon exploring a garden")
    browser.button("Make the film").click()
    browser.find("#panel-video li[data-state='completed'] video")
    browser.button("This request as code", "*[@id='panel-video']").click()


TABS: dict[str, Callable[[Browser], object]] = {
    "chat": fill_chat,
    "images": fill_images,
    "video": fill_video,
    "server": lambda browser: browser.find("tbody tr"),
}


def show(browser: Browser, *, scheme: str = "light", size: tuple[int, int] = WIDE) -> None:
    browser.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    width, height = size
    browser.devtools(
        "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=size == PHONE
    )


def axe(browser: Browser) -> list[dict[str, Any]]:
    """What axe-core finds on the page as it stands."""
    # as a tool of the test, it is not held to the page's Content-Security-Policy
    browser.script(AXE.read_text() + ";return null")
    found = browser.script(
        "return axe.run({runOnly: arguments[0]}).then(found => JSON.stringify(found.violations))", RULES
    )
    return json.loads(found)


def test_the_reference_of_the_api(browser: Browser, running: Running) -> None:
    browser.open(f"{running.url}/docs")
    browser.find("details.operation")
    browser.button("/v1/models").click()
    browser.button("Send").click()
    browser.find("//pre[contains(., 'demo/flux-tiny')]")
    assert [one["id"] for one in axe(browser) if one["impact"] in SERIOUS] == []
    assert complaints(browser) == []


@pytest.mark.parametrize("tab", TABS)
def test_a_tab_in_both_schemes_and_on_a_phone(page: Page, tab: str) -> None:
    browser = page.open(tab)
    TABS[tab](browser)
    try:
        for scheme in ("light", "dark"):
            for device, size in (("", WIDE), ("-phone", PHONE)):
                show(browser, scheme=scheme, size=size)
                browser.script("scrollTo(0, 0)")
                browser.screenshot(SHOTS / f"{tab}-{scheme}{device}.png")
                assert browser.script("return document.documentElement.scrollWidth") <= size[0]
                found = axe(browser)
                assert [
                    (one["id"], one["impact"], [node["target"] for node in one["nodes"]])
                    for one in found
                    if one["impact"] in SERIOUS
                ] == []
                print(f"axe {tab} {scheme}{device}: {len(found)}", [one["id"] for one in found])
    finally:
        browser.devtools("Emulation.clearDeviceMetricsOverride")
        browser.devtools("Emulation.setEmulatedMedia", features=[])
