"""The engine without us, in a process of its own: what our answers over HTTP are compared with.

    python -m benchmarks.gpu.bare image|video|text MODEL SOCKET [--settings JSON] [--dynamo]

It loads, runs each shape it is asked for once unseen, and then answers (shape) with seconds over a Unix socket, one
caller at a time. `--settings` are the settings of our own text deployment, so that both engines are started alike;
`--dynamo` starts it instead as Dynamo's launch script does: triton attention, no CUDA graph, 8 running requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any

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

    def __init__(self, kind: str, model: str) -> None:
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
        )

    def run(self, shape: Shape) -> Answer:
        """Seconds of one `generate`; with `save` its encoded file, in the format and compression that we use."""
        shape = dict(shape)
        if shape.pop("save", True):
            output = {"save_output": True, "output_file_name": f"bare.{self._ending}"}
        else:
            output = {"save_output": False, "return_frames": True, "return_file_paths_only": False}
        started = time.monotonic()
        result = self._generator.generate(sampling_params_kwargs=shape | output)
        seconds = time.monotonic() - started
        if result is None:
            raise RuntimeError("DiffGenerator.generate returned None")
        for path in self._folder.glob("*"):
            path.unlink()
        return {"seconds": seconds}

    def close(self) -> None:
        self._generator.shutdown()
        self._folder.rmdir()


class BareText:
    def __init__(self, model: str, settings: dict[str, Any], *, dynamo: bool) -> None:
        from sglang.srt.entrypoints.engine import Engine

        from serve_app.engines.sglang.text import engine_arguments
        from serve_app.model_settings import TextSettings

        parsed = TextSettings.model_validate(settings | {"model": model})
        arguments = engine_arguments(parsed, Path(tempfile.mkdtemp(prefix="bare-")))
        if dynamo:
            arguments |= DYNAMO
        self._engine = Engine(**arguments)
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)

    def run(self, shape: Shape) -> Answer:
        """Seconds and tokens of `prompts` sent at once, `tokens` each."""
        started = time.monotonic()
        tokens = self._loop.run_until_complete(self._all(shape["prompts"], shape["tokens"]))
        return {"seconds": time.monotonic() - started, "tokens": tokens}

    def close(self) -> None:
        self._engine.shutdown()

    async def _all(self, prompts: list[str], tokens: int) -> int:
        parameters = {"max_new_tokens": tokens, "ignore_eos": True, "temperature": 0.0}
        answers = await asyncio.gather(
            *(self._engine.async_generate(prompt=prompt, sampling_params=parameters) for prompt in prompts)
        )
        return sum(answer["meta_info"]["completion_tokens"] for answer in answers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["image", "video", "text"])
    parser.add_argument("model")
    parser.add_argument("socket", type=Path)
    parser.add_argument("--settings", default="{}")
    parser.add_argument("--dynamo", action="store_true")
    args = parser.parse_args()
    started = time.monotonic()
    bare: BareDiffusion | BareText
    if args.kind == "text":
        bare = BareText(args.model, json.loads(args.settings), dynamo=args.dynamo)
    else:
        bare = BareDiffusion(args.kind, args.model)
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
