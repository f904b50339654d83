"""API keys, and that one caller sees nothing of another's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.errors import Unauthorized
from serve_app.ingress.auth import Keys, owner_of
from serve_app.settings import AccessSettings
from tests.ingress.conftest import Running, Serving
from tests.ingress.endpoints import bearer
from tests.ingress.videos import BODY, FORM, ended

SHA = hashlib.sha256(b"sk-bob").hexdigest()


# --- keys -----------------------------------------------------------------------------------------------------------


def test_no_keys_are_asked_for_where_none_are_named() -> None:
    assert Keys.load(AccessSettings()) is None


def test_keys_come_from_a_variable_and_from_a_file_of_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "alice:sk-alice, alice:sk-alice-new ,")
    (tmp_path / "keys").write_text(f"# people\nbob:{SHA}\n\n")
    keys = Keys.load(AccessSettings(keys_env="KEYS", keys_file=str(tmp_path / "keys")))
    assert keys is not None
    assert keys.caller("Bearer sk-alice") == keys.caller("bearer  sk-alice-new ")
    assert (keys.caller("Bearer sk-bob").name, keys.caller("Bearer sk-bob").owner) == ("bob", owner_of("bob"))
    for header in (
        None,
        "",
        "Bearer",
        "Bearer ",
        "sk-bob",
        "Basic sk-bob",
        "Bearer sk-bo",
        f"Bearer {SHA}",
        "Bearer é",
    ):
        with pytest.raises(Unauthorized):
            keys.caller(header)


@pytest.mark.parametrize(
    ("variable", "file", "says"),
    [
        ("", None, "KEYS: holds no API key"),
        ("sk-alice", None, "'name:key'"),
        (":sk-a", None, "'name:key'"),
        ("a:b", "", "holds no API key"),
        ("a:b", "bob:sk-bob", "not a SHA-256"),
        ("a:b", "bob:abcd", "not a SHA-256"),
    ],
)
def test_a_server_told_to_ask_for_keys_does_not_start_without(
    variable: str, file: str | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYS", variable)
    (tmp_path / "keys").write_text(file or "")
    access = AccessSettings(keys_env="KEYS", keys_file=None if file is None else str(tmp_path / "keys"))
    with pytest.raises(ValueError, match=says) as refused:
        Keys.load(access)
    assert "sk-" not in str(refused.value)


def test_an_owner_is_safe_in_a_key() -> None:
    assert owner_of("../../etc") != owner_of("..")
    assert set(owner_of("../../etc")) <= set("0123456789abcdef")


# --- over HTTP ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def locked(serving: Serving) -> Iterator[Running]:
    """An application that knows alice and bob."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("API_KEYS", "alice:sk-alice,bob:sk-bob")
        patch.setenv("DIFFUSION_SERVE_SIGNING_KEY", "a secret for tests")
        with serving(access={"keys_env": "API_KEYS"}) as running:
            yield running


@pytest.mark.parametrize(
    "headers", [{}, bearer("sk-eve"), {"Authorization": "Basic sk-alice"}, {"api-key": "sk-alice"}]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/videos"),
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/nothing"),
        ("GET", "/v1/media/media/public/x.png"),
        ("GET", "/nothing"),
    ],
)
async def test_without_a_key_nothing_is_told(locked: Running, method: str, path: str, headers: dict[str, str]) -> None:
    async with locked.client() as client:
        answer = await client.request(method, path, headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        error = answer.json()["error"]
        assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
        assert "sk-" not in answer.text


async def test_some_paths_are_open(locked: Running) -> None:
    async with locked.client() as client:
        for path in ("/health", "/ready", "/openapi.json", "/docs"):
            assert (await client.get(path)).status_code == 200, path


async def test_a_callers_videos_are_hidden_from_others(locked: Running) -> None:
    async with locked.client(headers=bearer("sk-alice")) as alice, locked.client(headers=bearer("sk-bob")) as bob:
        form: Any = {name: (None, value) for name, value in FORM.items()}
        video = await ended(alice, (await alice.post("/v1/videos", files=form)).json())
        one = f"/v1/videos/{video['id']}"
        # other tests of the session may have left videos of theirs
        assert video["id"] in [each["id"] for each in (await alice.get("/v1/videos")).json()["data"]]
        assert video["id"] not in [each["id"] for each in (await bob.get("/v1/videos")).json()["data"]]
        for method, path in (
            ("GET", one),
            ("GET", f"{one}/content"),
            ("GET", f"{one}/events"),
            ("POST", f"{one}/cancel"),
            ("DELETE", one),
        ):
            assert (await bob.request(method, path)).status_code == 404, (method, path)
        assert (await bob.post(f"{one}/remix", json={"prompt": "mine"})).status_code == 404
        # a page that begins after another's video gives nothing of it either
        after = {"after": video["id"], "order": "desc"}
        theirs = [each["id"] for each in (await alice.get("/v1/videos", params=after)).json()["data"]]
        seen = [each["id"] for each in (await bob.get("/v1/videos", params=after)).json()["data"]]
        assert not {video["id"], *theirs}.intersection(seen)
        assert (await alice.get(one)).json()["status"] == "completed"


async def test_media_urls_are_signed_and_open_nothing_else(locked: Running) -> None:
    async with locked.client(headers=bearer("sk-alice")) as alice, locked.client(headers=bearer("sk-bob")) as bob:
        video = (await alice.post("/v1/videos", json=BODY)).json()
        url = httpx.URL(video["data"][0]["url"])
        bare = url.copy_with(query=None)
        async with locked.client() as anyone:
            assert (await anyone.get(url)).headers["content-type"] == "video/mp4"
            assert (await anyone.get(bare)).status_code == 401
            for change in ({"signature": "0" * 64}, {"expires": "99999999999"}):
                assert (await anyone.get(url.copy_merge_params(change))).status_code == 403
            other = url.copy_with(path=url.path.replace("-0.mp4", "-1.webp"))
            assert (await anyone.get(other)).status_code == 403
        assert (await alice.get(bare)).status_code == 200
        assert (await bob.get(bare)).status_code == 403


async def test_the_same_idempotency_key_of_two_callers_is_two_jobs(locked: Running) -> None:
    headers = {"Idempotency-Key": "shared"}
    async with locked.client(headers=bearer("sk-alice")) as alice, locked.client(headers=bearer("sk-bob")) as bob:
        first = (await alice.post("/v1/videos", json=BODY, headers=headers)).json()
        second = (await bob.post("/v1/videos", json=BODY, headers=headers)).json()
        assert first["id"] != second["id"]
        assert (await bob.get(f"/v1/videos/{first['id']}")).status_code == 404


async def test_user_says_nothing_of_ownership(locked: Running) -> None:
    async with locked.client(headers=bearer("sk-alice")) as alice, locked.client(headers=bearer("sk-bob")) as bob:
        video = (await alice.post("/v1/videos", json={**BODY, "user": "bob"})).json()
        assert (await bob.get(f"/v1/videos/{video['id']}")).status_code == 404
