"""/v1/media: the files that images leave, who may fetch them and how much of them."""

from __future__ import annotations

import httpx
import pytest

from tests.ingress.conftest import Serving
from tests.ingress.images import FOX, IMAGES


async def made(client: httpx.AsyncClient) -> tuple[str, bytes]:
    url = (await client.post(IMAGES, json=FOX)).json()["data"][0]["url"]
    return url, (await client.get(url)).content


async def test_media_has_safe_headers_and_ranges(client: httpx.AsyncClient) -> None:
    url, whole = await made(client)
    answer = await client.get(url)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-disposition"].startswith('inline; filename="img_')
    assert int(answer.headers["content-length"]) == len(whole)
    head = await client.head(url)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(whole)))
    for asked, expected in (("bytes=0-9", whole[:10]), ("bytes=-5", whole[-5:]), ("bytes=10-", whole[10:])):
        part = await client.get(url, headers={"range": asked})
        assert (part.status_code, part.content) == (206, expected)
        assert part.headers["content-range"].endswith(f"/{len(whole)}")
    beyond = await client.get(url, headers={"range": f"bytes={len(whole)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(whole)}")
    assert beyond.json()["error"]["param"] == "Range"


async def test_media_is_validated_by_its_etag(client: httpx.AsyncClient) -> None:
    url, whole = await made(client)
    head = (await client.head(url)).headers
    etag = head["etag"]
    assert (await client.get(url, headers={"if-none-match": etag})).status_code == 304
    for fresh in (etag, head["last-modified"]):
        answer = await client.get(url, headers={"range": "bytes=0-4", "if-range": fresh})
        assert (answer.status_code, answer.content) == (206, whole[:5])
    for stale in ('"other"', f"W/{etag}"):
        answer = await client.get(url, headers={"range": "bytes=0-4", "if-range": stale})
        assert (answer.status_code, answer.content) == (200, whole)


@pytest.mark.parametrize(
    "key",
    [
        "public/none.png",
        "%2e%2e/jobs/public/x/request.json",
        "..%2f..%2fetc/passwd",
        "media/public/none.png",
        "media/../jobs/public/x/request.json",
        "media/%2e%2e/%2e%2e/etc/passwd",
        "media/..%2f..%2fetc/passwd",
        "jobs/public/x/request.json",
        "ledger/day=2026-01-01/a.parquet",
        "idempotency/public/x",
        "dispatchers/x",
        "media/",
        "media",
        "media//x",
        "/etc/passwd",
        "media/a%00b",
        "media/.hidden",
        "media/" + "x/" * 600 + "y",
        "media/%0d%0aSet-Cookie:a=b",
    ],
)
async def test_nothing_but_media_is_reachable(client: httpx.AsyncClient, key: str) -> None:
    answer = await client.get(f"/v1/media/{key}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] in ("media_not_found", "not_found")
    assert "set-cookie" not in answer.headers


async def test_with_keys_on_urls_are_signed_and_callers_parted(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEYS", "ann:key-of-ann,bob:key-of-bob")
    monkeypatch.setenv("DIFFUSION_SERVE_SIGNING_KEY", "s" * 32)
    ann, bob = ({"authorization": f"Bearer key-of-{name}"} for name in ("ann", "bob"))
    with serving(access={"keys_env": "TEST_KEYS"}) as running:
        async with running.client() as client:
            assert (await client.post(IMAGES, json=FOX)).status_code == 401
            url = (await client.post(IMAGES, json=FOX, headers=ann)).json()["data"][0]["url"]
            assert "signature=" in url
            signed = await client.get(url)
            assert signed.status_code == 200
            plain = url.split("?")[0]
            assert (await client.get(plain)).status_code == 401
            assert (await client.get(plain, headers=ann)).status_code == 200
            assert (await client.get(plain, headers=bob)).status_code == 403
            assert (await client.get(f"{url}0")).status_code == 403
            assert (await client.get(url.replace("expires=", "expires=9"))).status_code == 403
            assert (await client.get(f"{plain}?signature=x")).status_code == 403
