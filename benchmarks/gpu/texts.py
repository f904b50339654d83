"""LLaDA2.0 beside the bare engine, by the number of clients."""

from __future__ import annotations

import json
import statistics
import time
from contextlib import ExitStack
from typing import Any

from benchmarks.gpu.bare import Bare
from benchmarks.gpu.lane import LLADA, Lane, memory
from benchmarks.gpu.measure import Row, ask, in_turns, post, text_speed

TOKENS = 256
LENGTHS = "128 to 384 tokens"
"""Of the requests in a row, TOKENS on average."""
TEXT: dict[str, Any] = {
    "trust_remote_code": True,  # the checkpoint that we make brings its configuration as code, as LLaDA2's own does
    "max_running_requests": 128,
    "max_total_tokens": 131072,
    "engine_args": {"load_format": "dummy"},
}
CLIENTS = ((1, 5), (8, 5), (128, 2), (32, 2), (64, 2))
"""Clients at once, and the rounds in which both sides take turns."""
EACH = 2
"""Requests of each client in a round, one after another; 4 of one client alone."""


def measure_texts(lane: Lane) -> None:
    settings = TEXT | {"gpus": 0.4}
    with ExitStack() as stack:
        app = stack.enter_context(lane.app("text-cold", {"text": settings}, row=Row("llada start to ready, cold")))
        client = stack.enter_context(lane.client(app))
        body = {"model": LLADA, "prompt": "first", "max_tokens": TOKENS, "nvext": {"ignore_eos": True}}
        lane.write(Row(f"llada {TOKENS} tokens, first after ready", ours=[post(client, "/v1/completions", body)[0]]))
        more = ("--settings", json.dumps(settings))
        with lane.bare("bare-text", "text", lane.folder / LLADA, *more) as bare:
            for clients, _ in CLIENTS:  # as our own replica has warmed up its engine
                bare.run({"asked": ask(clients, "warm", 64), "clients": clients})
            with lane.alone():
                for clients, rounds in CLIENTS:
                    time_clients(lane, app.base, bare, clients, rounds)
        share_a_prefix(lane, app.base)
    with lane.app("text-warm", {"text": settings}, row=Row("llada start to ready, warm")):
        pass


def time_clients(lane: Lane, base: str, bare: Bare, clients: int, rounds: int) -> None:
    """In a round both are asked for the same texts: a text says which experts its steps read, and so their time."""
    count = clients * (EACH if clients > 1 else 2 * EACH)
    for stream in (False, True):
        how = "streamed" if stream else "whole"
        row = Row(f"llada {clients} clients, {LENGTHS}, {how}", unit="tok_s", notes={"clients": clients})
        firsts: dict[str, list[float]] = {"ours": [], "bare": []}

        def ours(*, stream: bool = stream, how: str = how, row: Row = row, firsts: Any = firsts) -> float:
            asked = ask(count, f"{clients} {how} {len(row.ours)}", TOKENS)
            speed = text_speed(base, LLADA, asked, clients=clients, stream=stream)
            firsts["ours"].append(speed.first_s)
            return speed.tokens_per_s

        def theirs(*, stream: bool = stream, how: str = how, row: Row = row, firsts: Any = firsts) -> float:
            asked = ask(count, f"{clients} {how} {len(row.bare)}", TOKENS)
            answer = bare.run({"asked": asked, "clients": clients, "stream": stream})
            firsts["bare"].append(answer["first_s"])
            return answer["tokens_per_s"]

        in_turns(row, rounds, ours, theirs)
        row.notes["first_s"] = {who: round(statistics.median(found), 4) for who, found in firsts.items()}
        lane.write(row)


def share_a_prefix(lane: Lane, base: str) -> None:
    """32 prompts of 1,000 tokens (the tokenizer knows bytes alone) that share their beginning or do not; one block."""
    for shared in (False, True, False, True):
        start = "One long tale of boats and harbours. " * 27
        asked = [f"{'' if shared else i}{start}"[:996] + f" {i:03}" for i in range(32)]
        if not shared:
            asked = [f"{time.monotonic_ns()} {prompt}"[:1000] for prompt in asked]
        started = time.monotonic()
        text_speed(base, LLADA, [(prompt, 32) for prompt in asked], clients=len(asked), spread_s=0)
        name = "shared" if shared else "of its own"
        lane.write(
            Row(f"llada 32 clients, prompts of 1,000 tokens, beginning {name}", ours=[time.monotonic() - started])
        )


def vary_texts(lane: Lane) -> None:
    """Other numbers of running requests with 128 clients, and fp8."""
    fp8 = {"engine_args": TEXT["engine_args"] | {"quantization": "fp8"}}
    varied: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
        str(most): ({"max_running_requests": most, "max_queued": 128}, (128,)) for most in (64, 32, 128)
    } | {"fp8": (fp8, (1, 32, 128))}
    for name, (changes, several) in varied.items():
        settings = TEXT | {"gpus": 0.4} | changes
        try:
            with lane.app(f"text-{name}", {"text": settings}) as app, lane.alone():
                for clients in several:
                    row = Row(f"llada {clients} clients, {LENGTHS}, whole", unit="tok_s")
                    row.preset = "fp8" if name == "fp8" else "exact"
                    row.notes = {"clients": clients, "gpu_memory": memory(lane.gpus)}
                    row.notes["max_running_requests"] = settings["max_running_requests"]
                    waits: list[float] = []
                    for i in range(2):
                        asked = ask(EACH * clients, f"{clients} {i}", TOKENS)
                        speed = text_speed(app.base, LLADA, asked, clients=clients)
                        row.ours.append(speed.tokens_per_s)
                        waits.append(speed.first_s)
                    row.notes["first_s"] = {"ours": round(statistics.median(waits), 4)}
                    lane.write(row)
        except RuntimeError as error:
            print(f"text {name} FAILED: {error!r}", flush=True)


def measure_dynamo(lane: Lane) -> None:
    """The bare text engine as Dynamo's launch script starts it, beside ours."""
    settings = TEXT | {"gpus": 0.4}
    with ExitStack() as stack:
        app = stack.enter_context(lane.app("text-dynamo", {"text": settings}))
        more = ("--settings", json.dumps(settings), "--dynamo")
        bare = stack.enter_context(lane.bare("bare-dynamo", "text", lane.folder / LLADA, *more))
        stack.enter_context(lane.alone())
        for clients in (1, 8, 32):
            bare.run({"asked": ask(clients, "warm", 64), "clients": clients})
        for clients in (1, 8, 32):
            row = Row(f"llada {clients} clients, {LENGTHS}, bare as Dynamo starts it", unit="tok_s")
            row.notes["clients"] = clients
            for i in range(2):
                asked = ask(EACH * clients, f"{clients} {i}", TOKENS)
                row.ours.append(text_speed(app.base, LLADA, asked, clients=clients).tokens_per_s)
                row.bare.append(bare.run({"asked": asked, "clients": clients})["tokens_per_s"])
            lane.write(row)
