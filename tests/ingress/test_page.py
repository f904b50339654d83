"""The page's files as anybody gets them; what the page does is tested in a real browser, in tests/ingress/page."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import httpx
import pytest

from tests.ingress.conftest import Running, Serving

MOST_BYTES = 150 * 1024
MOST_LINES = 300
FOLDER = Path(str(files("serve_app.ingress") / "page"))
FILES = {
    str(path.relative_to(FOLDER)): path.read_bytes()
    for path in FOLDER.rglob("*")
    if path.suffix in (".css", ".html", ".js", ".svg")
}
OURS = {name: content for name, content in FILES.items() if not name.startswith("vendor/")}
IMPORT = re.compile(r"""^(?:import|export) .*?from "([^"]+)";$|^import "([^"]+)";$""", re.MULTILINE | re.DOTALL)


def test_the_page_is_small_and_its_files_are_short() -> None:
    assert sum(map(len, FILES.values())) <= MOST_BYTES
    assert {name: n for name, content in OURS.items() if (n := content.count(b"\n")) > MOST_LINES} == {}


def test_modules_import_only_what_is_served() -> None:
    for name, content in FILES.items():
        if name.endswith(".js"):
            folder = name.rpartition("/")[0]
            for found in IMPORT.findall(content.decode()):
                path = "".join(found)
                assert path.startswith("./"), f"{name}: {path}"
                assert f"{folder}/{path[2:]}".lstrip("/") in FILES, f"{name}: {path}"


def test_the_libraries_go_along_with_their_licences() -> None:
    vendor = files("serve_app.ingress") / "page" / "vendor"
    assert "MIT License" in (vendor / "LICENSE-preact").read_text()
    assert "Apache License" in (vendor / "LICENSE-htm").read_text()


async def test_the_page_runs_only_its_own_files(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'" in policy
    assert "unsafe" not in policy
    assert not re.findall(r"<script(?![^>]*src=)|<style|style=|\son\w+=", page.text)
    for path in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        answer = await client.get("/" + path)
        assert (answer.status_code, answer.headers["x-content-type-options"]) == (200, "nosniff")


@pytest.mark.parametrize("name", sorted(OURS))
async def test_nothing_comes_from_elsewhere(client: httpx.AsyncClient, name: str) -> None:
    text = (await client.get(f"/page/{name}")).text
    assert not re.findall(r"""(?:src|href|url|from|import)\s*[=(]?\s*["']?(?:https?:)?//""", text)


async def test_a_browser_keeps_a_file_until_it_changes(client: httpx.AsyncClient) -> None:
    first = await client.get("/page/main.js")
    assert "javascript" in first.headers["content-type"]
    assert first.headers["cache-control"] == "no-cache"
    again = await client.get("/page/main.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for path in (
        "/page/",
        "/page/missing.js",
        "/page/../auth.py",
        "/page/%2e%2e/auth.py",
        "/page//etc/passwd",
        "/page/vendor",
    ):
        assert (await client.get(path)).status_code == 404


async def test_pictures_may_come_from_where_the_media_lie(serving: Serving) -> None:
    with serving(media={"public_url": "https://cdn.example.org/files"}) as running:
        async with running.client() as client:
            policy = (await client.get("/")).headers["content-security-policy"]
    assert "img-src 'self' blob: data: https://cdn.example.org;" in policy
    assert "media-src 'self' blob: data: https://cdn.example.org;" in policy


async def test_the_page_needs_no_key(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "alice:sk-alice")
    with serving(access={"keys_env": "KEYS"}) as running:
        async with running.client() as client:
            for path in ("/", "/page/main.js", "/page/vendor/preact.js"):
                assert (await client.get(path)).status_code == 200
            assert (await client.get("/v1/models")).status_code == 401


@pytest.mark.parametrize("page", [True, False])
async def test_the_page_can_be_turned_off(serving: Serving, page: bool) -> None:
    with serving(lambda own: replace(own), ingress={"page": page}) as running:
        assert await statuses(running) == ([200, 200] if page else [404, 404])


async def statuses(running: Running) -> list[int]:
    async with running.client() as client:
        return [(await client.get(path)).status_code for path in ("/", "/page/main.js")]
