from __future__ import annotations

import asyncio

import pytest

from serve_app.errors import RateLimited
from serve_app.ingress.quotas import Quotas
from serve_app.settings import AccessSettings
from tests.ingress.conftest import Running, Serving
from tests.ingress.endpoints import bearer
from tests.ingress.videos import BODY


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def use(quotas: Quotas, owner: str = "a") -> None:
    with quotas.admit(owner):
        pass


def test_never_more_than_the_rate_in_any_minute() -> None:
    clock = Clock()
    quotas = Quotas(AccessSettings(requests_per_minute=2), clock)
    use(quotas)
    clock.now += 20
    use(quotas)
    with pytest.raises(RateLimited) as refused:
        use(quotas)
    assert refused.value.retry_after_s == 40
    use(quotas, "b")
    clock.now += 40
    use(quotas)  # the first is a minute ago
    with pytest.raises(RateLimited):
        use(quotas)


def test_places_are_given_back_also_after_errors() -> None:
    quotas = Quotas(AccessSettings(concurrency=1))
    with quotas.admit("a"):
        with pytest.raises(RateLimited), quotas.admit("a"):
            pass
        use(quotas, "b")
    with pytest.raises(KeyError), quotas.admit("a"):
        raise KeyError
    use(quotas)


def test_no_limit_is_no_limit() -> None:
    quotas = Quotas(AccessSettings())
    for _ in range(1000):
        use(quotas)


async def test_a_key_above_its_rate_waits_and_others_do_not(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS", "alice:sk-alice,bob:sk-bob")
    with serving(access={"keys_env": "API_KEYS", "requests_per_minute": 3}) as running:
        async with running.client(headers=bearer("sk-alice")) as alice, running.client() as anyone:
            for _ in range(3):
                assert (await alice.get("/v1/models")).status_code == 200
            answer = await alice.get("/v1/models")
            assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limit_exceeded")
            assert 50 <= int(answer.headers["retry-after"]) <= 60
            assert (await alice.get("/health")).status_code == 200
            assert (await anyone.get("/v1/models", headers=bearer("sk-bob"))).status_code == 200


async def test_signed_urls_are_not_counted(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """They name no key; were they counted together, a stranger's guesses would lock everyone's results."""
    monkeypatch.setenv("API_KEYS", "alice:sk-alice")
    body = {"prompt": "a", "size": "64x64", "nvext": {"num_inference_steps": 1}}
    with serving(access={"keys_env": "API_KEYS", "requests_per_minute": 3}) as running:
        async with running.client() as anyone:
            answer = await anyone.post("/v1/images/generations", json=body, headers=bearer("sk-alice"))
            url = answer.json()["data"][0]["url"]
            guesses = [await anyone.get(f"{url.split('?')[0]}?expires=1&signature=0") for _ in range(5)]
            assert {guess.status_code for guess in guesses} == {403}
            assert (await anyone.get(url)).status_code == 200


async def test_a_key_has_so_many_requests_at_once(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS", "alice:sk-alice")
    with serving(access={"keys_env": "API_KEYS", "concurrency": 2}) as running:
        await _at_once(running)
        await _at_once(running)  # every place was given back


async def _at_once(running: Running) -> None:
    async with running.client(headers=bearer("sk-alice")) as alice:
        answers = await asyncio.gather(*(alice.post("/v1/videos", json={**BODY, "stream": True}) for _ in range(4)))
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [200, 200, 429, 429]
