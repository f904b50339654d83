"""Text by diffusers' LLaDA2Pipeline over any masked language model that takes position_ids and returns logits."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from diffusers import BlockRefinementScheduler, LLaDA2Pipeline
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from serve_app.engines.diffusers import loading
from serve_app.engines.diffusers.algorithms import BLOCK_LENGTH, Algorithm, parse_algorithm
from serve_app.engines.diffusers.detokenizer import Detokenizer, Piece
from serve_app.engines.diffusers.worker import Run, Worker
from serve_app.engines.length import fitted
from serve_app.model_settings import TextSettings
from serve_app.tasks import FinishReason, ModelCard, TextBlock, TextEnd, TextEvent, TextStep, TextTask, Timing

NAME, SINCE = "LLaDA2", "0.38"
"""In the table of families: the release of diffusers that brought its pipeline."""
MASKED = "\u2591"
Emit = Callable[[TextEvent], None]


class DiffusersTextEngine:
    """Loads model, tokenizer and scheduler one by one: LLaDA2Pipeline can't load what it saves."""

    def __init__(self, settings: TextSettings) -> None:
        loading.quiet()
        self._algorithm = parse_algorithm(settings)
        source = loading.source(settings)
        model, tokenizer = _load(source)
        self._tokenizer = tokenizer
        self._context: int = model.config.max_position_embeddings
        self._pipeline = LLaDA2Pipeline(model=model, scheduler=BlockRefinementScheduler(), tokenizer=tokenizer)
        self._pipeline.set_progress_bar_config(disable=True)
        self._device = source.device
        self._gpus = settings.gpus
        self._warm_up_tokens = min(2 * BLOCK_LENGTH, settings.limits.max_tokens)
        self._worker = Worker("text-engine", source.threads(model))
        self.card = ModelCard(
            model=settings.id,
            kind="text",
            engine="diffusers",
            capabilities=frozenset({"sampling", "steps", "progress", "cancel"}),
        )

    async def generate(self, task: TextTask) -> AsyncGenerator[TextEvent]:
        prompt = self._prompt_ids(task)
        task = fitted(task, len(prompt), self._context)

        def work(run: Run, emit: Emit) -> None:
            _Generation(self._pipeline, self._tokenizer, self._algorithm, task, prompt, run, emit).run(
                self._device, self._gpus
            )

        async with aclosing(self._worker.stream(work)) as events:
            async for event in events:
                yield event

    async def warm_up(self) -> None:
        task = TextTask(id="warm-up", model=self.card.model, prompt="warm up", max_tokens=self._warm_up_tokens)
        async for _ in self.generate(task):
            pass

    async def check_health(self) -> None:
        self._worker.check_health()

    def close(self) -> None:
        self._worker.close()

    def _prompt_ids(self, task: TextTask) -> list[int]:
        if not task.messages:
            return self._tokenizer(task.prompt)["input_ids"]
        if task.raw_prompt or not self._tokenizer.chat_template:
            return self._tokenizer("\n".join(message.content for message in task.messages))["input_ids"]
        messages = [{"role": message.role, "content": message.content} for message in task.messages]
        return self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]


@dataclass(slots=True)
class _Block:
    """The block under way: `start` is where it begins in the sequence, prompt included; `last` ends the text."""

    index: int
    start: int
    last: bool
    ids: list[int]
    steps: int = 0
    ended: bool = False


class _Generation:
    """One call of the pipeline; turns its steps into events on the worker's thread.

    The pipeline tells no end of a block: without edits a block is finished as soon as no mask is left in it, with edits
    when the next block's first step comes or the call returns.
    """

    def __init__(
        self,
        pipeline: LLaDA2Pipeline,
        tokenizer: Any,
        algorithm: Algorithm,
        task: TextTask,
        prompt: list[int],
        run: Run,
        emit: Emit,
    ) -> None:
        self._pipeline = pipeline
        self._tokenizer = tokenizer
        self._algorithm = algorithm
        self._task = task
        self._prompt = prompt
        self._run = run
        self._emit = emit
        self._mask: int = tokenizer.mask_token_id
        self._eos: int | None = None if task.ignore_eos else tokenizer.eos_token_id
        self._detokenizer = Detokenizer(self._decode, task.stop)
        self._block: _Block | None = None
        self._steps = 0
        self._finish: FinishReason | None = None

    def run(self, device: torch.device, gpus: float) -> None:
        started = time.time()
        clock = time.perf_counter()
        with suppress(_Finished):
            self._pipeline(**self._arguments(device))
            self._end_block()
        self._send(self._detokenizer.finish())
        engine_s = time.perf_counter() - clock
        self._emit(
            TextEnd(
                finish_reason=self._finish or "length",
                prompt_tokens=len(self._prompt),
                completion_tokens=self._detokenizer.tokens,
                algorithm=self._algorithm.name,
                denoising_steps=self._steps,
                timing=Timing(
                    queue_s=max(0.0, started - self._task.submitted_at) if self._task.submitted_at else 0.0,
                    engine_s=engine_s,
                    gpu_s=engine_s * gpus,
                ),
            )
        )

    def _arguments(self, device: torch.device) -> dict[str, Any]:
        task = self._task
        temperature = _temperature(task)
        arguments: dict[str, Any] = {
            "input_ids": torch.tensor([self._prompt], dtype=torch.long),
            "gen_length": task.max_tokens,
            "block_length": BLOCK_LENGTH,
            "num_inference_steps": BLOCK_LENGTH,
            "temperature": temperature,
            "sampling_method": "auto",
            "threshold": self._algorithm.threshold,
            "editing_threshold": self._algorithm.editing_threshold,
            "max_post_steps": self._algorithm.max_post_steps,
            "eos_early_stop": not task.ignore_eos,
            "output_type": "seq",
            "callback_on_step_end": self._on_step,
            "callback_on_step_end_tensor_inputs": ["block_x"],
        }
        optional: dict[str, Any] = {"top_p": task.top_p, "top_k": task.top_k} if temperature > 0 else {}
        if task.seed is not None:
            optional["generator"] = torch.Generator(device).manual_seed(task.seed)
        return arguments | {key: value for key, value in optional.items() if value is not None}

    def _on_step(self, pipeline: object, step: int, timestep: int, tensors: dict[str, Any]) -> dict[str, Any]:
        self._run.check()
        sequence: torch.Tensor = tensors["block_x"]
        end = sequence.shape[1]
        start = end - BLOCK_LENGTH
        text_end = len(self._prompt) + self._task.max_tokens
        ids: list[int] = sequence[0, max(start, len(self._prompt)) : min(end, text_end)].tolist()
        block = self._block
        if block is None or block.start != start:
            self._end_block()
            block = _Block(index=block.index + 1 if block else 0, start=start, last=end >= text_end, ids=ids)
            self._block = block
        if block.ended:  # without edits the pipeline looks once more at a block that has no mask left
            return {}
        block.ids = ids
        block.steps += 1
        self._steps += 1
        if self._task.show_steps:
            self._show(block)
        if not self._algorithm.edits and self._mask not in ids:
            self._end_block()
        return {}

    def _show(self, block: _Block) -> None:
        masked = block.ids.count(self._mask)
        parts = (
            MASKED * len(run) if is_masked else self._decode(run) for is_masked, run in _runs(block.ids, self._mask)
        )
        self._emit(TextStep(block=block.index, step=block.steps, text="".join(parts), masked=masked))

    def _end_block(self) -> None:
        """Sends what the finished block adds to the text; raises _Finished where the text ends with it."""
        block = self._block
        if block is None or block.ended:
            return
        block.ended = True
        ids = block.ids
        if self._eos in ids:
            ids = ids[: ids.index(self._eos)]
            self._finish = "stop"
        piece = self._detokenizer.push(ids)
        if piece.stopped:
            self._finish = "stop"
        self._send(piece)
        if self._finish or block.last:
            raise _Finished

    def _send(self, piece: Piece) -> None:
        if piece.text and self._block is not None:
            self._emit(TextBlock(block=self._block.index, text=piece.text, tokens=piece.tokens))

    def _decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


class _Finished(Exception):
    """Unwinds the pipeline when the text has ended before the pipeline has."""


_COLDEST = 1e-6
"""Logits divided by less are infinite in float32, and what is left to choose from is the likeliest token alone."""


def _temperature(task: TextTask) -> float:
    """The scheduler's default is greedy; a caller who asks for sampling but names no temperature gets OpenAI's, 1.

    Where only the likeliest token is left to choose from, that is greedy too: sampled, it would be certain of itself
    and the whole block would be committed in one step.
    """
    if task.top_k == 1 or task.top_p == 0:
        return 0.0
    if task.temperature is not None:
        return task.temperature if task.temperature > _COLDEST else 0.0
    sampling = (task.top_p, task.top_k, task.seed)
    return 0.0 if all(value is None for value in sampling) else 1.0


def _runs(ids: list[int], mask: int) -> Iterator[tuple[bool, list[int]]]:
    for is_masked, run in groupby(ids, key=lambda each: each == mask):
        yield is_masked, list(run)


def _load(source: loading.Source) -> tuple[Any, Any]:
    arguments = source.hub_arguments | {"trust_remote_code": source.trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(source.model, **arguments)
    except (OSError, ValueError) as error:
        raise ValueError(f"'{source.model}' is no text model: {error}") from error
    architecture = (config.architectures or [""])[0]
    loader: Any = {True: AutoModelForMaskedLM, False: AutoModelForCausalLM}[architecture.endswith("ForMaskedLM")]
    model = loader.from_pretrained(source.model, dtype=source.dtype, **arguments).to(source.device).eval()
    tokenizer = AutoTokenizer.from_pretrained(source.model, **arguments)
    if tokenizer.mask_token_id is None:
        raise ValueError(f"'{source.model}' is no diffusion language model: its tokenizer has no mask token")
    return model, tokenizer
