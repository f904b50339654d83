"""Time one answer over HTTP, and the same work by a bare engine, in turns. Knows no models and starts nothing."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

Timed = Callable[[], float]


@dataclass
class Row:
    """Ours and theirs, in seconds or in tokens per second; the medians are what counts, all are kept."""

    work: str
    unit: str = "s"
    ours: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    other: list[float] = field(default_factory=list)
    bare_unsaved: list[float] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        line: dict[str, Any] = {"work": self.work}
        named = {"ours": self.ours, "bare": self.bare, "other": self.other, "bare_unsaved": self.bare_unsaved}
        for name, values in named.items():
            if values:
                line[f"{name}_{self.unit}"] = round(statistics.median(values), 4)
                line[f"{name}_all"] = [round(value, 4) for value in values]
        if self.ours and self.bare:
            line["ratio"] = round(statistics.median(self.ours) / statistics.median(self.bare), 4)
        elif self.ours and self.other:
            line["ratio"] = round(statistics.median(self.ours) / statistics.median(self.other), 4)
        return line | self.notes | {"date": datetime.now(UTC).date().isoformat(), "versions": versions()}


def in_turns(row: Row, rounds: int, ours: Timed, bare: Timed | None, unsaved: Timed | None = None) -> None:
    """Never both at once, and the one that begins changes from round to round."""
    for i in range(rounds):
        for mine in (True, False) if i % 2 == 0 else (False, True):
            if mine:
                row.ours.append(ours())
            elif bare is not None:
                row.bare.append(bare())
        if unsaved is not None:
            row.bare_unsaved.append(unsaved())


def post(client: httpx.Client, path: str, body: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """Seconds until the whole answer is here, and the answer; raises on an error status, with its text."""
    started = time.monotonic()
    answer = client.post(path, json=body)
    seconds = time.monotonic() - started
    if answer.status_code >= 400:
        raise RuntimeError(f"{path}: {answer.status_code} {answer.text[:500]}")
    return seconds, answer.json()


def tokens_per_second(base: str, model: str, prompts: list[str], tokens: int) -> float:
    """All prompts at once as plain completions of exactly `tokens` tokens."""

    async def one(client: httpx.AsyncClient, prompt: str) -> int:
        body = {"model": model, "prompt": prompt, "max_tokens": tokens, "nvext": {"ignore_eos": True}}
        answer = await client.post("/v1/completions", json=body)
        if answer.status_code >= 400:
            raise RuntimeError(f"{answer.status_code} {answer.text[:500]}")
        return int(answer.json()["usage"]["completion_tokens"])

    async def every() -> float:
        limits = httpx.Limits(max_connections=len(prompts))
        async with httpx.AsyncClient(base_url=base, timeout=600, limits=limits) as client:
            await client.get("/health")
            started = time.monotonic()
            made = await asyncio.gather(*(one(client, prompt) for prompt in prompts))
            return sum(made) / (time.monotonic() - started)

    return asyncio.run(every())


def prompts(count: int, salt: str) -> list[str]:
    """Different for every request and round, so that no engine answers from its prefix cache."""
    return [f"{salt} {i}: describe a harbour at dawn in plain words." for i in range(count)]


def versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ("sglang", "torch", "ray", "flashinfer-python", "transformers", "diffusers"):
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def table(lines: list[dict[str, Any]]) -> str:
    """The rows for reading: work, ours, bare, ratio, and what else a row has."""
    out = [f"{'work':44} {'ours':>10} {'bare':>10} {'other':>10} {'ratio':>7}"]
    for line in lines:
        cells = [next((line[key] for key in (f"{who}_s", f"{who}_tok_s") if key in line), None) for who in WHO]
        shown = " ".join(f"{cell:>10.3f}" if cell is not None else f"{'':>10}" for cell in cells)
        ratio = f"{line['ratio']:>7.3f}" if "ratio" in line else ""
        out.append(f"{line['work']:44} {shown} {ratio}")
    return "\n".join(out)


WHO = ("ours", "bare", "other")


def dump(lines: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)
