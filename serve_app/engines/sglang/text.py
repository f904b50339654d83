"""A diffusion language model on `sgl.Engine`: blocks stream as they finish, and requests share each denoising step.

SGLang computes in processes of its own; its Python side lives on the replica's event loop. The step of a block is not
shown, so there are no TextStep events (`steps` is not among the capabilities), and the algorithms take the most likely
token: what would change the sampling is named in `TextEnd.ignored`.

SGLang's scheduler would tell a stream of every step, new tokens or not, which costs an eighth of the speed of a request
that runs alone: it is asked to tell of finished blocks only. The steps are therefore not counted.
"""

import asyncio
import atexit
import ctypes
import os
import signal
import sys
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

from serve_app.engines.families import algorithms_of
from serve_app.engines.imports import uncollected
from serve_app.engines.parallel import sglang_arguments
from serve_app.engines.prompts import fitted, name_ignored, read_prompt
from serve_app.engines.sglang import algorithms, mixed_batches
from serve_app.engines.sglang.blocks import Blocks, first_end
from serve_app.engines.sglang.processes import WATCH_S, Processes, free_ports
from serve_app.errors import ContextLengthExceeded, GenerationFailed, InvalidRequest
from serve_app.model_settings import TextSettings
from serve_app.scratch import Scratch
from serve_app.tasks import FinishReason, ModelCard, TextEnd, TextEvent, TextTask
from serve_app.waiting import follow, wait_out

ABORT_S = 5.0
"""How long an aborted request may take to leave the engine: it does so at the next denoising step."""
UNSENT_TOKENS = 2
"""How many a stream's next answer has at least: at 1, SGLang answers every step; a block brings all of its own."""
WARM_UP_TOKENS = 64

Chunk = dict[str, Any]
"""SGLang's answer after a block: text and output_ids so far, and meta_info."""


class SGLangTextEngine:
    """LLaDA2 and DiffusionGemma. Every option of `sgl.Engine` can be set over ours through `engine_args`."""

    def __init__(self, settings: TextSettings) -> None:
        self._algorithm = settings.algorithm or algorithms_of(settings)[0]
        algorithms.check(self._algorithm, settings.algorithm_config, algorithms.installed())
        with uncollected():
            from sglang.srt.entrypoints.engine import Engine

        # a child that breaks sends us SIGQUIT, which would end the replica without a word: we watch them instead
        ctypes.CDLL(None).signal(int(signal.SIGQUIT), int(signal.SIG_IGN))
        # a leak is a warning to us, not a reason to end every request there is
        os.environ.setdefault("SGLANG_ENABLE_STRICT_MEM_CHECK_DURING_IDLE", "0")
        os.environ.setdefault(mixed_batches.SWITCH, "1")
        self._scratch = Scratch()
        try:
            self._engine = Engine(**engine_arguments(settings, self._scratch.path))
        except BaseException:
            self._scratch.close()
            raise
        self._engine.tokenizer_manager._subprocess_watchdog.stop()  # it, too, would send SIGQUIT
        self._processes = Processes((pid, "of the text engine") for pid in self._engine.get_all_child_pids())
        self._tokenizer = self._engine.tokenizer_manager.tokenizer
        self._ends = _end_tokens(self._engine.tokenizer_manager)
        self._context = min(
            self._engine.tokenizer_manager.model_config.context_len, settings.max_total_tokens or sys.maxsize
        )
        self._warm_up_tokens = min(WARM_UP_TOKENS, settings.limits.max_tokens)
        self._most_at_once = settings.max_running_requests
        self.card = ModelCard(model=settings.id, kind="text", engine="sglang", capabilities=frozenset({"cancel"}))

    async def generate(self, task: TextTask) -> AsyncGenerator[TextEvent]:
        """Finished blocks, then a TextEnd. Closing it takes the request out of the engine at its next step."""
        self._processes.check()
        prompt = read_prompt(task, self._tokenizer)
        task = fitted(task, len(prompt), self._context)
        blocks = Blocks(task.stop)
        async with aclosing(follow(lambda emit: self._ask(task, prompt, emit))) as chunks:
            async for chunk in chunks:
                finish = _finish_reason(chunk)
                text, tokens = chunk["text"], len(chunk["output_ids"])
                if finish == "length" and not task.ignore_eos:
                    text, tokens, finish = self._up_to_end(chunk)
                block = blocks.take(text, tokens)
                if block is not None:
                    yield block
                if finish is not None or blocks.stopped:
                    yield TextEnd(
                        finish_reason="stop" if blocks.stopped else finish or "stop",
                        prompt_tokens=chunk["meta_info"]["prompt_tokens"],
                        completion_tokens=tokens,
                        algorithm=self._algorithm,
                        ignored=name_ignored(task),
                    )
                    return
        raise GenerationFailed("The text engine ended the request without an answer.")

    async def warm_up(self) -> None:
        """One request alone, then as many as run together: the kernels for both are compiled on first use."""
        for count in dict.fromkeys((1, self._most_at_once)):
            await asyncio.gather(*(self._warm(f"warm-up {i}") for i in range(count)))

    async def check_health(self) -> None:
        self._processes.check()

    def close(self) -> None:
        """Ends the engine's processes at once."""
        self._processes.kill()
        # its own end kills every child of this process, ours or not
        atexit.unregister(self._engine.shutdown)
        self._scratch.close()

    async def _warm(self, prompt: str) -> None:
        task = TextTask(
            id=prompt, model=self.card.model, prompt=prompt, max_tokens=self._warm_up_tokens, ignore_eos=True
        )
        async for _ in self.generate(task):
            pass

    async def _ask(self, task: TextTask, prompt: list[int], emit: Callable[[Chunk], None]) -> None:
        """Emits SGLang's answers. EngineDied when a process ends meanwhile: SGLang itself would wait for ever."""
        request_id = uuid.uuid4().hex
        asking = asyncio.create_task(self._pump(task, prompt, request_id, emit))
        try:
            await self._processes.watch(asking)
        finally:
            given_up = time.monotonic() + ABORT_S
            while not asking.done() and self._processes.died is None and time.monotonic() < given_up:
                # a request that was never handed on cannot be aborted yet, and the scheduler is asked once only
                state = self._engine.tokenizer_manager.rid_to_state.get(request_id)
                if getattr(state, "dispatched", True):
                    self._engine.tokenizer_manager.abort_request(request_id)
                await asyncio.wait({asking}, timeout=WATCH_S)
            asking.cancel()
            await wait_out(asking)

    async def _pump(self, task: TextTask, prompt: list[int], request_id: str, emit: Callable[[Chunk], None]) -> None:
        # SGLang takes no empty list
        asked: dict[str, Any] = {"input_ids": prompt} if prompt else {"prompt": ""}
        try:
            answer = await self._engine.async_generate(
                **asked, sampling_params=_sampling_parameters(task), stream=task.in_blocks, rid=request_id
            )
            if not task.in_blocks:
                emit(cast(Chunk, answer))
            else:
                async for chunk in cast(AsyncIterator[Chunk], answer):
                    emit(chunk)
        except ValueError as error:
            # the prompt and max_tokens do not fit, in SGLang's words: it keeps some tokens for itself
            raise ContextLengthExceeded.of(self._context, f"the engine says: {error}", "max_tokens") from error
        except Exception as error:
            raise GenerationFailed(f"The text engine failed: {error}") from error

    def _up_to_end(self, chunk: Chunk) -> tuple[str, int, FinishReason]:
        """The text before an end-of-sequence token that SGLang did not look for in the block of the last token."""
        ids = list(chunk["output_ids"])
        end = first_end(ids, self._ends)
        if end is None:
            return chunk["text"], len(ids), "length"
        return self._tokenizer.decode(ids[:end], skip_special_tokens=True), end + 1, "stop"


def engine_arguments(settings: TextSettings, folder: Path) -> dict[str, Any]:
    """What `sgl.Engine` is started with; `folder` takes the algorithm's parameters, which SGLang reads from a file."""
    algorithm = settings.algorithm or algorithms_of(settings)[0]
    arguments: dict[str, Any] = {
        "model_path": settings.model,
        "trust_remote_code": settings.trust_remote_code,
        "dllm_algorithm": algorithm,
        # unset, SGLang runs one request at a time
        "max_running_requests": settings.max_running_requests,
        # CUDA graphs of masked models need flashinfer; those for the prefill take minutes and gain nothing here
        "attention_backend": algorithms.ATTENTION.get(algorithm, "flashinfer"),
        "cuda_graph_backend_prefill": "disabled",
        "grammar_backend": "none",
        "skip_server_warmup": True,
        "port": free_ports(1)[0],
        "log_level": "warning",
        **sglang_arguments(settings),
    }
    if settings.revision is not None:
        arguments["revision"] = settings.revision
    if settings.algorithm_config:
        arguments["dllm_algorithm_config"] = str(algorithms.write(algorithm, settings.algorithm_config, folder))
    if settings.max_total_tokens is not None:
        arguments["max_total_tokens"] = settings.max_total_tokens
        if settings.gpus < 1:
            # SGLang counts what its neighbours on the GPU take while it loads as its own: the cap alone must bind
            arguments["mem_fraction_static"] = 0.97
    return arguments | settings.engine_args


def _end_tokens(manager: Any) -> frozenset[int]:
    ends = set(manager.model_config.hf_eos_token_id or ())
    if manager.tokenizer.eos_token_id is not None:
        ends.add(manager.tokenizer.eos_token_id)
    return frozenset(ends)


def _sampling_parameters(task: TextTask) -> dict[str, Any]:
    return {
        "max_new_tokens": task.max_tokens,
        "stop": list(task.stop) or None,
        "ignore_eos": task.ignore_eos,
        "temperature": 0.0,
        "stream_interval": UNSENT_TOKENS,
    }


def _finish_reason(chunk: Chunk) -> FinishReason | None:
    """None while it goes on. Raises what an abort by the engine means."""
    reason = chunk["meta_info"]["finish_reason"]
    if reason is None:
        return None
    if reason["type"] == "abort":
        message = reason.get("message") or "The text engine ended the request."
        raise InvalidRequest(message) if reason.get("status_code") == 400 else GenerationFailed(message)
    return "length" if reason["type"] == "length" else "stop"
