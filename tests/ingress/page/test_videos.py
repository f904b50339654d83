from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from serve_app.ingress.services import Services
from tests.ingress.conftest import Held, Loop, Running, Serving, client_of, with_client
from tests.ingress.page.conftest import PHONE, SHOTS, Page, complaints
from tests.ingress.page.test_images import hand_over
from tests.ingress.page.webdriver import Browser

ENTER = "\ue007"


def make(browser: Browser, prompt: str) -> None:
    browser.find("#video-prompt").clear()
    browser.find("#video-prompt").type(prompt)
    browser.button("Make the film").click()


def card(browser: Browser, prompt: str, status: str) -> str:
    """The XPath of the card of a film in that state, once it is there."""
    path = f"//li[@data-state='{status}'][.//p[@class='prompt'][.='{prompt}']]"
    browser.find(path)
    return path


def test_a_film_plays_and_is_there_again_later(page: Page) -> None:
    browser = page.open("video")
    prompt = f"A raccoon at {time.time_ns()}"
    make(browser, prompt)
    film = card(browser, prompt, "completed")
    player = browser.find(f"{film}//video")
    browser.wait_for(lambda: player.get("readyState"), "the film does not load")
    assert player.get("duration") == pytest.approx(5 / 8, abs=0.01)
    assert "64x64 · 0.6 s · seed" in browser.find(film).text
    browser.script("return arguments[0].play()", player)
    browser.wait_for(lambda: player.get("currentTime"), "the film does not play")
    assert (
        browser.script("return fetch(arguments[0].poster).then(answer => answer.headers.get('content-type'))", player)
        == "image/webp"
    )

    browser = page.open("video")
    film = card(browser, prompt, "completed")
    browser.find(f"{film}//button[.='Delete']").click()
    browser.wait_for(lambda: not browser.find_all(film), "the film is still there")


def comes_in_sight(browser: Browser, selector: str) -> bool:
    """Whether an element is in the window, or gets there: the page scrolls after it has drawn."""
    look = "const { top, bottom } = arguments[0].getBoundingClientRect(); return top < innerHeight && bottom > 0"
    return browser.wait_for(lambda: browser.script(look, browser.find(selector)), f"{selector} is out of sight")


def test_on_a_phone_what_came_of_a_button_is_in_sight(page: Page) -> None:
    width, height = PHONE
    page.browser.devtools(
        "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=True
    )
    try:
        browser = page.open("video")
        prompt = f"A raccoon at {time.time_ns()}"
        make(browser, prompt)
        assert comes_in_sight(browser, card(browser, prompt, "completed"))

        browser.find("#tab-images").click()
        browser.find("#image-prompt").type("A red fox")
        browser.button("Make the picture").click()
        browser.button("Animate").click()
        assert comes_in_sight(browser, "#video-prompt")
        browser.button("More settings", "*[@id='panel-video']").click()
        browser.find("//*[@id='panel-video']//input[@name='size']").type("999x64" + ENTER)
        assert comes_in_sight(browser, "#panel-video [role=alert]")
        assert all("400" in line for line in complaints(browser))
    finally:
        page.browser.devtools("Emulation.clearDeviceMetricsOverride")


def test_a_film_is_remixed(page: Page) -> None:
    browser = page.open("video")
    name = str(time.time_ns())
    make(browser, f"One {name}")
    film = card(browser, f"One {name}", "completed")
    browser.find(f"{film}//button[.='Remix']").click()
    box = browser.find(f"{film}//textarea")
    box.clear()
    box.type(f"Other {name}")
    browser.button("Make it again with this prompt").click()
    remix = card(browser, f"Other {name}", "completed")
    assert "a remix" in browser.find(remix).text


def test_a_picture_begins_to_move(page: Page) -> None:
    browser = page.open("images")
    prompt = f"A balloon {time.time_ns()}"
    browser.find("#image-prompt").type(prompt)
    browser.button("Make the picture").click()
    browser.button("Animate").click()
    assert browser.find("#panel-video .still").get("naturalWidth") == 64
    browser.button("Make the film", "*[@id='panel-video']").click()
    card(browser, prompt, "completed")


def test_a_dropped_picture_begins_to_move(page: Page) -> None:
    browser = page.open("video")
    hand_over(browser, "drop", "video")
    assert browser.find("#panel-video .still").get("naturalWidth") == 96
    prompt = f"A balloon {time.time_ns()}"
    make(browser, prompt)
    card(browser, prompt, "completed")


@pytest.fixture
def busy(serving: Serving, services: Services, server_loop: Loop) -> Iterator[Running]:
    """An application whose one video replica is busy for ever."""
    client = Held(client_of(services, "video"), server_loop)
    with serving(lambda own: with_client(own, "video", client)) as running:
        yield running
        client.release()


def test_a_waiting_film_is_cancelled(browser: Browser, busy: Running) -> None:
    page = Page(browser, busy.url).open("video")
    prompt = f"Never {time.time_ns()}"
    make(page, prompt)
    film = card(page, prompt, "queued")
    page.screenshot(SHOTS / "video-waiting.png")
    page.find(f"{film}//button[.='Cancel']").click()
    assert "Cancelled" in page.find(card(page, prompt, "failed")).text
    assert complaints(browser) == []
