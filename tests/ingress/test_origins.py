"""Web pages: those that are named may call, and a stranger's gets nothing from a server without keys."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from serve_app.settings import AccessSettings
from tests.ingress.conftest import Running, Serving
from tests.ingress.endpoints import error_of
from tests.ingress.images import FOX, IMAGES, opened

CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
PAGE = "https://chat.example.org"
FOREIGN = {"origin": "https://evil.example", "sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}


@pytest.fixture(scope="module")
def shared(serving: Serving) -> Iterator[Running]:
    """With a page that may call, and a name of its own, as an operator may spell them: browsers write small letters."""
    with serving(access={"cors_origins": [PAGE.replace("chat", "Chat")], "hosts": ["Gpu.LAN"]}) as one:
        yield one


def refused(answer: httpx.Response, setting: str) -> None:
    error = error_of(answer, 403)
    assert (error["type"], error["code"]) == ("permission_error", "host_not_allowed")
    assert setting in error["message"]


# --- hosts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.5", "[::2]", ""],
)
async def test_a_name_that_was_bound_to_this_address_gets_nothing(client: httpx.AsyncClient, host: str) -> None:
    for method, path in (("GET", "/v1/models"), ("POST", CHAT), ("GET", "/"), ("GET", "/openapi.json"), ("GET", "/x")):
        answer = await client.request(method, path, headers={"host": host}, json=HELLO if method == "POST" else None)
        refused(answer, "access.hosts")
        assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.8.9.1:1", "[::1]:8000", "app.localhost"]
)
async def test_loopback_has_many_names(client: httpx.AsyncClient, host: str) -> None:
    assert (await client.get("/v1/models", headers={"host": host})).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
async def test_probes_come_by_any_name(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path, headers={"host": "10.1.2.3:8000"})).status_code == 200


async def test_hosts_are_named_in_the_settings(shared: Running, serving: Serving) -> None:
    async with shared.client() as client:
        assert (await client.get("/v1/models", headers={"host": "GPU.lan:8000"})).status_code == 200
        refused(await client.get("/v1/models", headers={"host": "other.lan"}), "access.hosts")
    with serving(access={"hosts": ["*"]}) as running:
        async with running.client() as client:
            assert (await client.get("/v1/models", headers={"host": "whatever.example"})).status_code == 200


async def test_who_has_a_key_may_use_any_name(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST_KEYS", "ann:sk-ann")
    headers = {"host": "api.example.org", "authorization": "Bearer sk-ann", **FOREIGN}
    with serving(access={"keys_env": "HOST_KEYS"}) as running:
        async with running.client() as client:
            assert (await client.get("/v1/models", headers=headers)).status_code == 200


# --- pages of other sites -------------------------------------------------------------------------------------------


async def test_a_form_of_another_site_starts_nothing(client: httpx.AsyncClient) -> None:
    """It needs no preflight, and the page need not read the answer."""
    form = {"prompt": (None, "a fox")}
    before = (await client.get("/v1/videos")).json()["first_id"]
    strange = ({"origin": origin} for origin in ("https://evil.example", "null", "http://[no.address"))
    for headers in (FOREIGN, {"sec-fetch-site": "cross-site"}, *strange):
        for path in ("/v1/videos", IMAGES):
            refused(await client.post(path, files=form, headers=headers), "access.cors_origins")
        refused(await client.get("/v1/videos", headers=headers), "access.cors_origins")
    assert (await client.get("/v1/videos")).json()["first_id"] == before


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
        {"origin": "http://localhost:3000", "sec-fetch-site": "same-site"},
        {"origin": "http://127.0.0.1:3000"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
    ],
)
async def test_ones_own_pages_and_links_work(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    assert (await client.get("/v1/models", headers=headers)).status_code == 200


# --- CORS -----------------------------------------------------------------------------------------------------------

ASKS = {"access-control-request-method": "POST"}


async def test_a_preflight_is_answered_without_a_key(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORS_KEYS", "ann:sk-ann")
    with serving(access={"keys_env": "CORS_KEYS", "cors_origins": [PAGE]}) as running:
        async with running.client() as client:
            wants = {**ASKS, "origin": PAGE, "access-control-request-headers": "authorization,x-stainless-os"}
            answer = await client.options(CHAT, headers=wants)
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == PAGE
            assert answer.headers["access-control-allow-headers"] == "authorization,x-stainless-os"
            assert "POST" in answer.headers["access-control-allow-methods"]
            assert answer.headers["x-request-id"]
            error = await client.post(CHAT, json=HELLO, headers={"origin": PAGE})
            assert (error.status_code, error.headers["access-control-allow-origin"]) == (401, PAGE)
            stranger = await client.options(CHAT, headers={**ASKS, "origin": "https://evil.example"})
            assert stranger.status_code == 401
            assert "access-control-allow-origin" not in stranger.headers


async def test_headers_stand_on_answers_errors_streams_and_media(shared: Running) -> None:
    headers = {"origin": PAGE, "sec-fetch-site": "cross-site"}
    async with shared.client(headers=headers) as client:
        made = await client.post(IMAGES, json=FOX)
        media = await client.get(made.json()["data"][0]["url"])
        assert opened(media.content).size == (64, 64)
        answers = [
            made,
            media,
            await client.post(CHAT, json=HELLO),
            await client.post(CHAT, json={**HELLO, "stream": True}),
            await client.post(CHAT, json={}),
            await client.post(CHAT, content=b"x"),
            await client.get("/nothing"),
            await client.put(CHAT),
            await client.get("/v1/videos/video_00000000000000000000000000000000"),
        ]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 400, 415, 404, 405, 404]
        for answer in answers:
            assert answer.headers["access-control-allow-origin"] == PAGE
            exposed = answer.headers["access-control-expose-headers"]
            assert all(name in exposed for name in ("x-request-id", "retry-after", "openai-processing-ms"))
            assert answer.headers["vary"] == "Origin"


async def test_a_picture_in_an_allowed_page_has_no_origin(shared: Running) -> None:
    async with shared.client() as client:
        url = (await client.post(IMAGES, json=FOX)).json()["data"][0]["url"]
        site = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}
        assert (await client.get(url, headers={**site, "referer": f"{PAGE}/chat/1"})).status_code == 200
        for referer in ("https://evil.example/", f"https://evil.example/{PAGE}", f"{PAGE}.evil.example/", ""):
            assert (await client.get(url, headers={**site, "referer": referer})).status_code == 403


async def test_others_get_no_headers(shared: Running, client: httpx.AsyncClient) -> None:
    async with shared.client() as keyless:
        for origin in ("https://evil.example", f"{PAGE}.evil.example", "http://chat.example.org", f"{PAGE}:8443"):
            answer = await keyless.options(CHAT, headers={**ASKS, "origin": origin})
            refused(answer, "access.cors_origins")
            assert "access-control-allow-origin" not in answer.headers
    answer = await client.get("/v1/models", headers={"origin": "http://localhost:3000"})
    assert not [name for name in answer.headers if name.startswith("access-control") or name == "vary"]


async def test_a_star_lets_every_page_in(serving: Serving) -> None:
    with serving(access={"cors_origins": ["*"]}) as running:
        async with running.client() as client:
            answer = await client.post(
                CHAT, content=json.dumps(HELLO), headers={**FOREIGN, "content-type": "application/json"}
            )
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")


@pytest.mark.parametrize(
    "access",
    [
        {"hosts": ["http://a.example"]},
        {"hosts": ["a.example:80"]},
        {"cors_origins": ["a.example"]},
        {"cors_origins": ["https://a.example/"]},
    ],
)
def test_settings_that_could_never_match_are_refused(access: dict[str, list[str]]) -> None:
    with pytest.raises(ValueError, match="example"):
        AccessSettings.model_validate(access)
