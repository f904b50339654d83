from __future__ import annotations

from tests.ingress.page.conftest import Page

HELLO = "Hello! How are you?"


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
    assert "0 masked" in slider.get("ariaValueText") or browser.find(".legend").text.count("0 masked")
    browser.script("arguments[0].focus()", slider)
    browser.press("\ue011")  # Home
    browser.wait_for(lambda: "░" in browser.find(".scrubber .canvas").text, "the first step shows no mask")
    assert "Block 1, step 1" in browser.find(".legend").text
