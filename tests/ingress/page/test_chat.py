"""The Chat tab."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import AsyncGenerator

from serve_app.ingress.services import ModelClient, Services
from serve_app.tasks import ModelCard, TextEvent, TextResult, TextStep, TextTask
from tests.ingress.conftest import Serving, client_of, with_client
from tests.ingress.page.conftest import Page, complaints
from tests.ingress.page.webdriver import Browser

HELLO = "Hello! How are you?"
HOME, RIGHT = "\ue011", "\ue014"


def test_a_chat_streams_and_its_steps_can_be_gone_through(page: Page) -> None:
    browser = page.open("chat")
    browser.find("#chat-prompt").type(HELLO)
    browser.button("Send").click()
    facts = browser.find("//li[@data-state='done']//*[contains(@class, 'facts')]").text
    assert "LowConfidence" in facts
    assert "tokens a step" in facts
    assert "tokens/s" in facts
    answer = browser.find(".answer .text").text
    assert answer

    browser.button("Go through the steps").click()
    slider = browser.find("input[type=range]")
    last = browser.find(".scrubber .canvas").text
    assert "░" not in last
    assert ": 0 masked" in slider.get("ariaValueText")
    browser.script("arguments[0].focus()", slider)
    browser.press(HOME)
    browser.wait_for(lambda: "Block 1, start" in browser.find(".legend").text, "the start is not shown")
    masks = browser.find(".scrubber .canvas").text
    assert set(masks) == {"░"}
    browser.press(RIGHT)
    browser.wait_for(lambda: "Block 1, step 1:" in browser.find(".legend").text, "the first step is not shown")
    assert browser.find(".scrubber .canvas").text.count("░") < len(masks)


class Endless:
    """A text client that shows one step and then goes on for ever; `closed` counts the streams that were ended."""

    def __init__(self, inner: ModelClient) -> None:
        self._inner = inner
        self.closed = 0

    async def describe(self) -> ModelCard:
        return await self._inner.describe()

    async def generate(self, task: TextTask) -> TextResult:
        return await self._inner.generate(task)

    async def stream(self, task: TextTask) -> AsyncGenerator[TextEvent, None]:
        del task
        try:
            yield TextStep(block=0, step=1, text="\u2591\u2591 fox", masked=2)
            await asyncio.Event().wait()
        finally:
            self.closed += 1


def test_stop_really_stops(browser: Browser, serving: Serving, services: Services) -> None:
    client = Endless(client_of(services, "text"))
    with serving(lambda own: with_client(own, "text", client)) as running:
        page = Page(browser, running.url).open("chat")
        page.find("#chat-prompt").type(HELLO)
        page.button("Send").click()
        assert page.find(".canvas").text == "\u2591\u2591 fox"
        page.button("Stop").click()
        assert "Stopped." in page.find("//li[@data-state='stopped']").text
        page.wait_for(lambda: client.closed or None, "the completion goes on")
        assert complaints(browser) == []


def messages_of(browser: Browser) -> list[tuple[str, str]]:
    """The messages of the request as the form shows it as curl."""
    words = shlex.split(browser.find("#panel-chat pre").text)
    fields = json.loads(next(word for word in words if word.startswith("{")))
    return [(message["role"], message["content"].strip()) for message in fields["messages"]]


def test_a_second_turn_sends_the_first_along(page: Page) -> None:
    browser = page.open("chat")
    browser.find("#chat-prompt").type(HELLO)
    browser.button("Send").click()
    answer = browser.find("//li[@data-state='done']//p[@class='text']").text
    browser.find("#chat-prompt").type("And you?")
    browser.button("This request as code").click()
    assert messages_of(browser) == [("user", HELLO), ("assistant", answer), ("user", "And you?")]
    browser.button("New chat").click()
    browser.wait_for(lambda: messages_of(browser) == [("user", "And you?")], "the first turn is still sent")
