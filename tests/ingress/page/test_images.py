from __future__ import annotations

import pytest
from PIL import Image

from tests.ingress.page.conftest import Page
from tests.ingress.page.webdriver import Browser

PIXELS = """
return (async image => {
  await image.decode();
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return [...context.getImageData(0, 0, canvas.width, canvas.height).data];
})(arguments[0])
"""

WATCH_PREVIEWS = """
window.seen = [];
const look = () => document.querySelectorAll(".developing img").forEach(image => window.seen.push(image.alt));
new MutationObserver(look).observe(document.body, { subtree: true, childList: true, attributes: true });
"""

# a picture that no model makes: noise of the same value each time
HAND_OVER = """
const canvas = new OffscreenCanvas(96, 64);
const noise = new Uint8ClampedArray(96 * 64 * 4).map((_, i) => i % 4 === 3 ? 255 : (i * 7919) % 251);
canvas.getContext("2d").putImageData(new ImageData(noise, 96), 0, 0);
return canvas.convertToBlob().then(blob => {
  const data = new DataTransfer();
  data.items.add(new File([blob], "mine.png", { type: "image/png" }));
  const well = document.querySelector(`#panel-${arguments[1]} .well`);
  if (arguments[0] === "paste") dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
  else well.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
});
"""
RIGHT, DOWN = "\ue014", "\ue015"


def pixels(browser: Browser, selector: str) -> Image.Image:
    """The picture that an img element shows."""
    element = browser.find(selector)
    data = browser.script(PIXELS, element)
    return Image.frombytes("RGBA", (element.get("naturalWidth"), element.get("naturalHeight")), bytes(data))


def hand_over(browser: Browser, way: str, tab: str = "images") -> None:
    """Pastes or drops a picture of 96x64 pixels."""
    browser.find(f"#panel-{tab} .well")
    browser.script(HAND_OVER, way, tab)


def make(browser: Browser, prompt: str) -> None:
    browser.find("#image-prompt").clear()
    browser.find("#image-prompt").type(prompt)
    browser.button("Make the picture").click()


def test_a_picture_comes_out_of_its_previews(page: Page) -> None:
    browser = page.open("images")
    browser.script(WATCH_PREVIEWS)
    make(browser, "A red fox")
    facts = browser.find("//li[@data-state='done']//*[@class='facts']").text
    assert "64x64" in facts
    assert "seed" in facts
    assert "8 steps" in facts
    assert browser.script("return window.seen.some(alt => alt.startsWith('Preview'))")
    assert pixels(browser, ".card img").size == (64, 64)


def test_the_same_seed_again_gives_the_same_picture(page: Page) -> None:
    browser = page.open("images")
    make(browser, "A red fox")
    first = pixels(browser, "li[data-state='done'] img")
    browser.button("Again with this seed").click()
    browser.button("Make the picture").click()
    browser.wait_for(lambda: len(browser.find_all("li[data-state='done']")) == 2, "no second picture")
    assert pixels(browser, "li[data-state='done'] img").tobytes() == first.tobytes()


def test_an_edit_with_a_mask_leaves_the_rest_alone(page: Page) -> None:
    browser = page.open("images")
    hand_over(browser, "paste")
    before = pixels(browser, ".easel img")
    easel = browser.find(".easel canvas")
    width = round(browser.script("return arguments[0].getBoundingClientRect().width", easel))
    left, far = -width // 4, width // 8
    browser.drag(easel, [(left, -far), (left, 0), (left, far)])
    browser.find("#image-prompt").type("A blue sea")
    browser.button("More settings", "*[@id='panel-images']").click()
    browser.field("Strength of the change").type("0.9")
    browser.button("Change the picture").click()
    after = pixels(browser, "li[data-state='done'] img")
    right = (40, 0, 96, 64)
    assert after.crop(right).tobytes() == before.crop(right).tobytes()
    painted = [(x, y) for x in range(20, 28) for y in range(22, 42)]
    changed = [place for place in painted if after.getpixel(place) != before.getpixel(place)]
    assert len(changed) > len(painted) / 2

    browser.field("Strength of the change").clear()
    browser.button("Again with this seed").click()
    browser.wait_for(lambda: browser.field("Strength of the change").get("value") == "0.9", "the strength is forgotten")
    browser.button("Edit").click()
    browser.wait_for(lambda: pixels(browser, ".easel img") == after, "the edited picture is not the next to be changed")


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_a_picture_of_ones_own_is_changed(page: Page, way: str) -> None:
    browser = page.open("images")
    hand_over(browser, way)
    assert browser.find(".easel img").get("naturalWidth") == 96
    browser.find("#image-prompt").type("A red fox")
    browser.button("Change the picture").click()
    assert pixels(browser, "li[data-state='done'] img").size == (96, 64)


def test_a_mask_is_painted_with_the_keyboard(page: Page) -> None:
    browser = page.open("images")
    hand_over(browser, "paste")
    canvas = browser.find(".easel canvas")
    browser.script("arguments[0].focus()", canvas)
    blank = browser.script("return arguments[0].toDataURL()", canvas)
    browser.press(" ", RIGHT, DOWN, " ")
    browser.wait_for(lambda: browser.script("return arguments[0].toDataURL()", canvas) != blank, "nothing is painted")
    browser.button("This request as code", "*[@id='panel-images']").click()
    assert "mask=@mask.png" in browser.find("#panel-images pre").text
    browser.button("Undo").click()
    browser.button("Undo").click()
    assert "mask" not in browser.find("#panel-images pre").text
