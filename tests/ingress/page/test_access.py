"""The page before a server that asks for keys, one whose media lie in S3, and one that cannot do what was asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from serve_app.ingress.services import ModelState, Services
from tests.ingress.conftest import Running, Serving
from tests.ingress.page.conftest import Page, complaints
from tests.ingress.page.test_videos import card
from tests.ingress.page.test_videos import make as make_film
from tests.ingress.page.webdriver import Browser
from tests.ingress.test_s3 import Engines

KEY = "sk-alice"


@pytest.fixture
def locked(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setenv("KEYS", f"alice:{KEY}")
    with serving(access={"keys_env": "KEYS"}) as running:
        yield running


def give_key(browser: Browser, key: str) -> None:
    field = browser.field("API key")
    field.clear()
    field.type(key)
    browser.button("Use this key").click()


def test_a_wrong_key_is_told_and_the_right_one_opens_everything(browser: Browser, locked: Running) -> None:
    page = Page(browser, locked.url).open("video")
    assert "asks for an API key" in page.find("form.key").text
    give_key(page, "sk-wrong")
    assert page.find("[role=alert]").text == "401 invalid_api_key The API key is not valid."
    assert all("401" in line for line in complaints(browser))

    give_key(page, KEY)
    page.wait_for(lambda: not page.find_all("form.key"), "the key is still asked for")
    make_film(page, "A raccoon")
    player = page.find(card(page, "A raccoon", "completed") + "//video")
    page.wait_for(lambda: player.get("readyState"), "the film does not load: its URL is not signed")
    assert page.script("return fetch(arguments[0].poster).then(answer => answer.status)", player) == 200
    page.script("location.hash = 'images'")
    page.find("#image-prompt").type("A red fox")
    page.button("Make the picture").click()
    page.button("This request as code", "*[@id='panel-images']").click()
    code = page.find("#panel-images pre").text
    assert "$OPENAI_API_KEY" in code
    assert KEY not in code
    page.find("#panel-images li[data-state='done'] img")
    assert complaints(browser) == []

    # the key was kept in memory only
    assert page.script("return JSON.stringify([localStorage, sessionStorage, document.cookie])") == '[{},{},""]'
    page.command("POST", "/refresh", {})
    assert "asks for an API key" in page.find("form.key").text
    browser.log()


def test_films_come_from_s3(serving: Serving, engines: Engines, browser: Browser) -> None:
    with serving(engines.use, media=engines.media, text=None) as running:
        page = Page(browser, running.url).open("video")
        make_film(page, "A raccoon")
        player = page.find(card(page, "A raccoon", "completed") + "//video")
        page.wait_for(lambda: player.get("readyState"), "the film does not load")
        assert not str(player.get("currentSrc")).startswith(running.url)
        assert page.script(
            "const image = new Image(); image.src = arguments[0].poster; return image.decode().then(() => image.width)",
            player,
        )
        # no model writes text here
        assert [tab.text for tab in page.find_all("[role=tab]")] == ["Images", "Video", "Server"]
        assert complaints(browser) == []


def test_an_error_is_told_in_the_apis_own_words(browser: Browser, running: Running) -> None:
    page = Page(browser, running.url).open("images")
    page.find("#image-prompt").type("A red fox")
    page.button("More settings", "*[@id='panel-images']").click()
    page.field("Size").type("999x64")
    page.button("Make the picture").click()
    said = page.find("#panel-images [role=alert]").text
    assert said == (
        "400 invalid_value 'size' is 999x64; width and height must be 64 to 256 pixels here "
        "(limits.min_side, limits.max_side)."
    )
    assert all("400" in line for line in complaints(browser))


def test_the_server_tab_shows_every_model_and_what_waits(browser: Browser, serving: Serving) -> None:
    async def readiness() -> dict[str, ModelState]:
        return {"text": ModelState("ready", 2), "image": ModelState("starting", 0), "video": ModelState("asleep", 0)}

    def start(own: Services) -> Services:
        return replace(own, readiness=readiness)

    with serving(start) as running:
        page = Page(browser, running.url).open("server")
        page.find("//td[.='starting']")
        rows = [" ".join(row.text.split()) for row in page.find_all("#panel-server tbody tr")]
        assert rows == [
            "demo/llada2-tiny Text ready 2 0 under 1 s",
            "demo/flux-tiny Images starting 0 0 –",
            "demo/wan-tiny Video asleep 0 0 –",
        ]
        assert (
            page.find("main > .note").text == "Not ready yet: image. Loading: requests wait until their model is ready."
        )
        assert all("503" in line for line in complaints(browser))
