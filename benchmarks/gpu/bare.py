"""The engine without us, in a process of its own: what our answers over HTTP are compared with.

    python -m benchmarks.gpu.bare image|video|text MODEL SOCKET [--home FOLDER] [--arguments JSON] [--settings JSON] ...

It loads and then answers (shape) with seconds over a Unix socket, one caller at a time. `--arguments` are added to
those of SGLang's own class; `--settings` are those of our own text deployment, so that both engines are started alike;
`--dynamo` starts that one instead as Dynamo's launch script does: triton attention, no CUDA graph, 8 running requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any

from benchmarks.gpu.measure import SPREAD_S, Asked
from serve_app.environment import keep_compiled

Shape = dict[str, Any]
Answer = dict[str, Any]
DYNAMO = {
    "attention_backend": "triton",
    "disable_cuda_graph": True,
    "max_running_requests": 8,
    "max_total_tokens": 65536,
}


class Bare:
    """A client of a running bare engine."""

    def __init__(self, socket: Path, wait_s: float) -> None:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                self._connection = Client(str(socket))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no bare engine at {socket} after {wait_s:.0f} s") from None
                time.sleep(0.5)

    def run(self, shape: Shape) -> Answer:
        self._connection.send(shape)
        answer: Answer = self._connection.recv()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def close(self) -> None:
        self._connection.send(None)
        self._connection.close()


class BareDiffusion:
    """DiffGenerator as its own documentation uses it, all weights resident, output written to memory."""

    def __init__(self, kind: str, model: str, arguments: dict[str, Any]) -> None:
        from sglang.multimodal_gen.runtime.entrypoints.diffusion_generator import DiffGenerator

        from serve_app.engines.sglang.processes import free_ports

        http, scheduler, master = free_ports(3)
        self._folder = Path(tempfile.mkdtemp(prefix="bare-", dir="/dev/shm"))
        self._ending = "png" if kind == "image" else "mp4"
        self._generator = DiffGenerator.from_pretrained(
            model_path=model,
            port=http,
            scheduler_port=scheduler,
            master_port=master,
            dit_cpu_offload=False,
            text_encoder_cpu_offload=False,
            image_encoder_cpu_offload=False,
            vae_cpu_offload=False,
            output_path=str(self._folder),
            log_level="warning",
            **arguments,
        )

    def run(self, shape: Shape) -> Answer:
        """Seconds of one `generate` with its encoded file, in the format and compression that we use."""
        if "together" in shape:
            return self._together(dict(shape))
        output = {"save_output": True, "output_file_name": f"bare.{self._ending}"}
        started = time.monotonic()
        result = self._generator.generate(sampling_params_kwargs=shape | output)
        seconds = time.monotonic() - started
        if result is None:
            raise RuntimeError("DiffGenerator.generate returned None")
        for path in self._folder.glob("*"):
            path.unlink()
        peak = result[0].peak_memory_mb if isinstance(result, list) else result.peak_memory_mb
        return {"seconds": seconds, "peak_memory_mb": peak}

    def _together(self, shape: Shape) -> Answer:
        """Seconds of `count` images of which `together` are sent at once, and how far the first of a batch is from its
        seed's own picture: the mean of all pixels, of 255. SGLang merges requests that wait while it is busy.
        """
        count, together, alone = shape.pop("count"), shape.pop("together"), shape.pop("alone", None)
        started, pictures = time.monotonic(), []
        with ThreadPoolExecutor(together) as pool:
            for first in range(0, count, together):
                seeds = range(first, min(first + together, count))
                pictures += pool.map(lambda seed: self._draw(shape | {"seed": seed}), seeds)
        seconds = time.monotonic() - started
        if alone is None:
            return {"seconds": seconds}
        own = [self._draw(shape | {"seed": seed}) for seed in range(2)]
        return {"seconds": seconds, "away": [_away(a, b) for a, b in zip(pictures, own, strict=False)]}

    def _draw(self, shape: Shape) -> Any:
        from sglang.multimodal_gen.configs.sample.sampling_params import SamplingParams
        from sglang.multimodal_gen.runtime.entrypoints.utils import prepare_request
        from sglang.multimodal_gen.runtime.scheduler_client import sync_scheduler_client

        arguments = self._generator.server_args
        pixels = {"save_output": False, "return_frames": True, "return_file_paths_only": False}
        made = SamplingParams.from_user_sampling_params_args(
            arguments.model_path, server_args=arguments, **shape, **pixels
        )
        # a bare request, not a list of one: only such are merged
        output = sync_scheduler_client.forward(prepare_request(server_args=arguments, sampling_params=made))
        if output.error:
            raise RuntimeError(output.error)
        return output.output[0]

    def close(self) -> None:
        self._generator.shutdown()
        self._folder.rmdir()


class BareText:
    def __init__(self, model: str, settings: dict[str, Any], *, dynamo: bool) -> None:
        from sglang.srt.entrypoints.engine import Engine

        from serve_app.engines.sglang.text import UNSENT_TOKENS, engine_arguments
        from serve_app.model_settings import TextSettings

        parsed = TextSettings.model_validate(settings | {"model": model})
        arguments = engine_arguments(parsed, Path(tempfile.mkdtemp(prefix="bare-")))
        if dynamo:
            arguments |= DYNAMO
        self._interval = UNSENT_TOKENS
        self._engine = Engine(**arguments)
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)

    def run(self, shape: Shape) -> Answer:
        """Tokens per second of what is `asked`, and the median time to the first block; clients as in text_speed."""
        started = time.monotonic()
        made = self._loop.run_until_complete(self._all(shape["asked"], shape["clients"], bool(shape.get("stream"))))
        tokens = sum(count for count, _ in made)
        first = statistics.median(seconds for _, seconds in made)
        return {"tokens_per_s": tokens / (time.monotonic() - started), "first_s": first}

    def close(self) -> None:
        self._engine.shutdown()

    async def _all(self, asked: Asked, clients: int, stream: bool) -> list[tuple[int, float]]:
        parameters: dict[str, Any] = {"ignore_eos": True, "temperature": 0.0}
        if stream:
            parameters["stream_interval"] = self._interval  # as ours: else it tells of every step

        async def one(prompt: str, tokens: int) -> tuple[int, float]:
            started, first, last = time.monotonic(), 0.0, dict[str, Any]()
            wanted = parameters | {"max_new_tokens": tokens}
            answer: Any = await self._engine.async_generate(prompt=prompt, sampling_params=wanted, stream=stream)
            if stream:
                async for chunk in answer:
                    first = first or time.monotonic() - started
                    last = chunk
                answer = last
            return answer["meta_info"]["completion_tokens"], first or time.monotonic() - started

        async def several(i: int) -> list[tuple[int, float]]:
            await asyncio.sleep(i * SPREAD_S / clients)
            return [await one(prompt, tokens) for prompt, tokens in asked[i::clients]]

        shares = await asyncio.gather(*(several(i) for i in range(clients)))
        return [each for share in shares for each in share]


def _away(one: Any, other: Any) -> float:
    import numpy as np

    return round(float(np.abs(np.asarray(one, dtype=float) - np.asarray(other, dtype=float)).mean()), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["image", "video", "text"])
    parser.add_argument("model")
    parser.add_argument("socket", type=Path)
    parser.add_argument("--home", type=Path, help="of the application, whose compiled kernels are used again")
    parser.add_argument("--arguments", default="{}")
    parser.add_argument("--settings", default="{}")
    parser.add_argument("--dynamo", action="store_true")
    args = parser.parse_args()
    if args.home:
        keep_compiled(args.home)
    started = time.monotonic()
    bare: BareDiffusion | BareText
    if args.kind == "text":
        bare = BareText(args.model, json.loads(args.settings), dynamo=args.dynamo)
    else:
        bare = BareDiffusion(args.kind, args.model, json.loads(args.arguments))
    print(f"loaded in {time.monotonic() - started:.1f} s", flush=True)
    with Listener(str(args.socket)) as listener, listener.accept() as connection:
        while (shape := connection.recv()) is not None:
            try:
                answer: Answer = bare.run(shape)
            except Exception as error:  # noqa: BLE001 - the caller decides what it means
                answer = {"error": repr(error)}
            print(json.dumps({"shape": shape, "answer": answer}, default=str)[:300], flush=True)
            connection.send(answer)
    bare.close()


if __name__ == "__main__":
    main()
