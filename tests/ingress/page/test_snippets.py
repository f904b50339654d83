"""What each form shows as curl and as Python, run as it was copied."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.ingress.page.conftest import Page
from tests.ingress.page.webdriver import Browser
from tests.probing import probe

PROMPT = 'A fox\'s "den" in $HOME'


def copied(browser: Browser, tab: str, language: str) -> str:
    """The code that the tab's button copies."""
    fold = browser.find(f"//*[@id='panel-{tab}']//details[summary[.='This request as code']]")
    if not fold.get("open"):
        fold.find("summary").click()
    fold.find(f".//button[.='{language}']").click()
    fold.find(".//button[.='Copy']").click()
    shown = fold.find("pre").get("textContent")
    browser.wait_for(
        lambda: browser.script("return navigator.clipboard.readText()") == shown, "the code is not in the clipboard"
    )
    return shown


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_chat(page: Page, tmp_path: Path) -> None:
    browser = page.open("chat")
    browser.find("#chat-prompt").type(PROMPT)
    events = run(tmp_path, "bash", "-c", copied(browser, "chat", "curl"))
    assert "event: denoising" in events
    assert events.endswith("data: [DONE]\n\n")
    assert run(tmp_path, sys.executable, "-c", copied(browser, "chat", "Python"))


def test_an_image_and_an_edit(page: Page, tmp_path: Path) -> None:
    browser = page.open("images")
    browser.find("#image-prompt").type(PROMPT)
    assert "image_generation.completed" in run(tmp_path, "bash", "-c", copied(browser, "images", "curl"))
    run(tmp_path, sys.executable, "-c", copied(browser, "images", "Python"))
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.size == (64, 64)

    browser.button("Make the picture").click()
    browser.button("Edit").click()
    browser.drag(browser.find(".easel canvas"), [(0, 0), (20, 20)])
    Image.new("RGBA", (64, 64), "#0000").save(tmp_path / "mask.png")
    code = copied(browser, "images", "curl")
    assert "mask=@mask.png" in code
    assert "image_edit.completed" in run(tmp_path, "bash", "-c", code)
    run(tmp_path, sys.executable, "-c", copied(browser, "images", "Python"))


@pytest.mark.parametrize("language", ["curl", "Python"])
def test_a_video(page: Page, tmp_path: Path, language: str) -> None:
    browser = page.open("video")
    browser.find("#video-prompt").type(PROMPT)
    code = copied(browser, "video", language)
    if language == "curl":
        assert '"status":"queued"' in run(tmp_path, "bash", "-c", code)
    else:
        run(tmp_path, sys.executable, "-c", code)
        assert probe((tmp_path / "film.mp4").read_bytes()).frames == 5
