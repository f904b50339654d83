"""Time one answer over HTTP, and the same work by a bare engine, in turns. Knows no models and starts nothing."""

from __future__ import annotations

import asyncio
import importlib.metadata
import io
import json
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
from PIL import Image

Timed = Callable[[], float]
Body = dict[str, Any]


@dataclass
class Row:
    """Ours and theirs, in seconds or in tokens per second; the medians are what counts, all are kept."""

    work: str
    preset: str = "exact"
    gpus: int = 1
    parallel: str = "single"
    unit: str = "s"
    ours: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """`ratio` is above 1 where the bare engine is faster, in either unit."""
        line: dict[str, Any] = {"work": self.work, "preset": self.preset, "gpus": self.gpus, "parallel": self.parallel}
        line["card"] = card()
        for name, values in {"ours": self.ours, "bare": self.bare}.items():
            if values:
                line[f"{name}_{self.unit}"] = round(statistics.median(values), 4)
                line[f"{name}_all"] = [round(value, 4) for value in values]
        if self.ours and self.bare:
            ratio = statistics.median(self.ours) / statistics.median(self.bare)
            line["ratio"] = round(ratio if self.unit == "s" else 1 / ratio, 4)
        return line | self.notes | {"date": datetime.now(UTC).date().isoformat(), "versions": versions()}


def in_turns(row: Row, rounds: int, ours: Timed, bare: Timed) -> None:
    """Never both at once, and the one that begins changes from round to round."""
    for i in range(rounds):
        for mine in (True, False) if i % 2 == 0 else (False, True):
            if mine:
                row.ours.append(ours())
            else:
                row.bare.append(bare())


def post(client: httpx.Client, path: str, body: Body) -> tuple[float, dict[str, Any]]:
    """Seconds until the whole answer is here, and the answer; raises on an error status, with its text."""
    started = time.monotonic()
    answer = client.post(path, json=body)
    seconds = time.monotonic() - started
    if answer.status_code >= 400:
        raise RuntimeError(f"{path}: {answer.status_code} {answer.text[:500]}")
    return seconds, answer.json()


def give_up(client: httpx.Client, path: str, body: Body, *, after_s: float) -> None:
    """A caller who hangs up: the connection is closed while the work runs."""
    with suppress(httpx.ReadTimeout):
        answer = client.post(path, json=body, timeout=httpx.Timeout(10, read=after_s))
        raise RuntimeError(f"{path} was answered before the caller gave up: {answer.status_code} {answer.text[:300]}")


@dataclass(frozen=True)
class Speed:
    tokens_per_s: float
    first_s: float
    """until the first block, the median of the requests; of the whole text where it is not streamed"""


Asked = list[tuple[str, int]]
"""Prompts, each with the number of tokens that are wanted."""
SPREAD_S = 1.0
"""In which the clients begin, one after another: not even those of a busy server begin at one moment."""


def text_speed(
    base: str, model: str, asked: Asked, *, clients: int, stream: bool = False, spread_s: float = SPREAD_S
) -> Speed:
    """Plain completions of exactly so many tokens. Each client asks for its share of them one after another, so that
    requests join a running batch at any time, as in service.
    """
    body: Body = {"model": model, "stream": stream, "nvext": {"ignore_eos": True}}
    if stream:
        body["stream_options"] = {"include_usage": True}

    async def one(client: httpx.AsyncClient, prompt: str, tokens: int) -> tuple[int, float]:
        started, first, made = time.monotonic(), 0.0, 0
        wanted = body | {"prompt": prompt, "max_tokens": tokens}
        async with client.stream("POST", "/v1/completions", json=wanted) as answer:
            if answer.status_code >= 400:
                raise RuntimeError(f"{answer.status_code} {(await answer.aread())[:500]!r}")
            if not stream:
                await answer.aread()
                return answer.json()["usage"]["completion_tokens"], time.monotonic() - started
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    first = first or time.monotonic() - started
                    made = (json.loads(line[6:]).get("usage") or {}).get("completion_tokens", made)
        return made, first

    async def several(client: httpx.AsyncClient, i: int) -> list[tuple[int, float]]:
        await asyncio.sleep(i * spread_s / clients)
        return [await one(client, prompt, tokens) for prompt, tokens in asked[i::clients]]

    async def every() -> Speed:
        limits = httpx.Limits(max_connections=clients)
        async with httpx.AsyncClient(base_url=base, timeout=600, limits=limits) as client:
            await client.get("/health")
            started = time.monotonic()
            shares = await asyncio.gather(*(several(client, i) for i in range(clients)))
            seconds, made = time.monotonic() - started, [each for share in shares for each in share]
            return Speed(sum(count for count, _ in made) / seconds, statistics.median(first for _, first in made))

    return asyncio.run(every())


def ask(count: int, salt: str, tokens: int) -> Asked:
    """Different prompts for every request and round, so that no engine answers from its prefix cache, and half to one
    and a half of `tokens`: requests of one length would end together and come together again.
    """
    step = tokens // 8
    return [(f"{salt} {i}: describe a harbour at dawn in plain words.", (4 + i * 7 % 9) * step) for i in range(count)]


def difference(first: bytes, second: bytes) -> dict[str, float | None]:
    """PSNR in dB, None where they are the same, and SSIM of two encoded pictures of one size."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    a, b = (np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in (first, second))
    if np.array_equal(a, b):
        return {"psnr_db": None, "ssim": 1.0}
    ssim = float(structural_similarity(a, b, channel_axis=2))  # pyright: ignore[reportUnknownArgumentType]
    return {"psnr_db": round(float(peak_signal_noise_ratio(a, b)), 2), "ssim": round(ssim, 4)}


def gpu_count() -> int:
    import torch

    return torch.cuda.device_count()


def card() -> str:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"


def versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ("sglang", "torch", "ray", "flashinfer-python", "transformers", "diffusers", "cache-dit"):
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def table(lines: list[dict[str, Any]]) -> str:
    """The rows for reading: work, preset, ours, bare, ratio."""
    out = [f"{'work':58} {'preset':10} {'ours':>10} {'bare':>10} {'ratio':>7}"]
    for line in lines:
        cells = [next((line[key] for key in (f"{who}_s", f"{who}_tok_s") if key in line), None) for who in WHO]
        shown = " ".join(f"{cell:>10.3f}" if cell is not None else f"{'':>10}" for cell in cells)
        ratio = f"{line['ratio']:>7.3f}" if "ratio" in line else ""
        out.append(f"{line['work']:58} {line['preset']:10} {shown} {ratio}")
    return "\n".join(out)


WHO = ("ours", "bare")
