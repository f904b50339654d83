"""The load generator against a small server of its own, and its arithmetic on plain values."""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from benchmarks.load import (
    KINDS,
    Run,
    Sample,
    arrivals,
    draw_chart,
    drive,
    is_loopback,
    percentile,
    planned,
    replica_lines,
    summary,
    table,
)


def server() -> Starlette:
    polls: dict[str, int] = {}

    async def chat(request: Request) -> Response:
        async def lines() -> AsyncIterator[str]:
            yield 'data: {"choices": []}\n\n'
            yield "data: [DONE]\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream")

    async def image(request: Request) -> Response:
        body = await request.json()
        if body["size"] == "bad":
            return JSONResponse({"error": {"code": "invalid_value"}}, 400)
        return JSONResponse({"data": []})

    async def create(request: Request) -> Response:
        return JSONResponse({"id": "video_1", "status": "queued"})

    async def video(request: Request) -> Response:
        polls["video_1"] = polls.get("video_1", 0) + 1
        return JSONResponse({"id": "video_1", "status": "completed" if polls["video_1"] > 1 else "in_progress"})

    async def models(request: Request) -> Response:
        return JSONResponse({"data": [{"id": "demo/wan-tiny"}, {"id": "x", "kind": "text"}, {"id": "demo/flux-tiny"}]})

    return Starlette(
        routes=[
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/images/generations", image, methods=["POST"]),
            Route("/v1/videos", create, methods=["POST"]),
            Route("/v1/videos/video_1", video),
            Route("/v1/models", models),
        ]
    )


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=server())
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


async def test_each_kind_is_timed_to_its_end(client: httpx.AsyncClient) -> None:
    run = await drive(
        client,
        [(0.0, "text", {"stream": True}), (0.1, "image", {"size": "64x64"}), (0.1, "image", {"size": "bad"}),
         (0.0, "video", {})],
        end_s=20.0,
    )  # fmt: skip
    outcomes = sorted((sample.kind, sample.outcome) for sample in run.samples)
    assert outcomes == [("image", "400 invalid_value"), ("image", "ok"), ("text", "ok"), ("video", "ok")]
    by_kind = {sample.kind: sample for sample in run.samples if sample.ok}
    assert by_kind["text"].first_s is not None
    assert by_kind["video"].seconds >= 1.0


async def test_a_slow_server_does_not_slow_the_arrivals() -> None:
    arrived: list[float] = []

    async def slow(request: Request) -> Response:
        arrived.append(asyncio.get_running_loop().time())
        await asyncio.sleep(30)
        return JSONResponse({})

    app = Starlette(routes=[Route("/v1/images/generations", slow, methods=["POST"])])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1") as client:
        run = await drive(client, [(at / 10, "image", {}) for at in range(5)], end_s=1.5)
    assert len(arrived) == 5
    assert arrived[-1] - arrived[0] < 1.4
    assert {sample.outcome for sample in run.samples} == {"unfinished"}
    assert len(run.samples) == 5


async def test_models_are_found_and_shapes_mixed(client: httpx.AsyncClient) -> None:
    args = argparse.Namespace(
        seed=1, seconds=10.0, requests=20, text_rate=1.0, text_model=None, text_body=[], image_rate=5.0,
        image_model=None, image_body=['{"size": "a"}', '{"size": "b"}'], video_rate=0.5, video_model="mine",
        video_body=[], in_turn=None,
    )  # fmt: skip
    plan = await planned(client, args)
    assert [at for at, _, _ in plan] == sorted(at for at, _, _ in plan)
    models = {kind: body["model"] for _, kind, body in plan}
    assert models == {"text": "x", "image": "demo/flux-tiny", "video": "mine"}
    assert {body["size"] for _, kind, body in plan if kind == "image"} == {"a", "b"}
    args.in_turn = 5.0
    turns = [(kind, at) for at, kind, _ in await planned(client, args)]
    assert all(start <= at < start + 10 for kind, at in turns for start in [15.0 * KINDS.index(kind)])


def test_poisson_arrivals_have_their_rate_and_their_bounds() -> None:
    times = arrivals(50.0, 100.0, 100_000, random.Random(3))
    assert len(times) == pytest.approx(5000, rel=0.1)
    assert times == sorted(times)
    assert times[-1] < 100.0
    assert len(arrivals(50.0, 100.0, 7, random.Random(3))) == 7
    assert arrivals(0.0, 100.0, 7, random.Random(3)) == []


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, p) for p in (1, 50, 99, 100)] == [1.0, 50.0, 99.0, 100.0]
    assert percentile([3.0], 50) == 3.0


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://localhost", True),
        ("http://[::1]:80", True),
        ("http://example.com", False),
        ("http://10.0.0.1", False),
    ],
)
def test_only_this_machine_is_loopback(url: str, expected: bool) -> None:
    assert is_loopback(url) is expected


def test_the_report_shows_failures_and_replicas(tmp_path: Path) -> None:
    samples = [
        Sample("text", 0.0, 1.0, "ok", 0.2),
        Sample("text", 1.0, 2.0, "ok", 0.4),
        Sample("text", 2.0, 9.0, "503 unavailable"),
    ]
    result = summary(samples, 10.0)
    assert (result["ok"], result["p50_s"], result["p99_s"], result["first_p50_s"]) == (2, 1.0, 2.0, 0.2)
    assert "503 unavailable" in table({"text": result})
    looks = [(0.0, {"Text": 1}), (5.0, {"Text": 3}), (10.0, {"Text": 12})]
    assert replica_lines(looks, columns=10).splitlines()[1].split() == ["Text", "111113333+"]
    chart = tmp_path / "chart.png"
    draw_chart(Run(samples, looks), chart)
    assert chart.read_bytes().startswith(b"\x89PNG")
