"""Text by diffusers' pipelines, block by block, in a thread. A family says which pipeline, and how it is called."""

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from itertools import groupby

from serve_app.engines.diffusers import loading
from serve_app.engines.diffusers.arguments import Algorithm, parse_algorithm
from serve_app.engines.diffusers.detokenizer import Detokenizer, Piece
from serve_app.engines.diffusers.families import find_family
from serve_app.engines.diffusers.families.text import TextFamily
from serve_app.engines.diffusers.worker import Run, Worker
from serve_app.engines.prompts import fitted, name_ignored, read_prompt
from serve_app.model_settings import TextSettings
from serve_app.tasks import FinishReason, ModelCard, TextBlock, TextEnd, TextEvent, TextStep, TextTask

MASKED = "\u2591"
Emit = Callable[[TextEvent], None]


class DiffusersTextEngine:
    """One family's pipeline over one set of weights."""

    def __init__(self, settings: TextSettings) -> None:
        loading.quiet()
        source = loading.Source(settings)
        family, class_name = find_family(TextFamily, source, "text")
        self._algorithm = parse_algorithm(settings, family.algorithms)
        self._family = family(source, class_name)
        self._warm_up_tokens = min(2 * self._family.block_length, settings.limits.max_tokens)
        self._worker = Worker("text-engine", source.threads(self._family.model))
        sampling = {"sampling"} if "temperature" in family.samples else set[str]()
        self.card = ModelCard(
            model=settings.id,
            kind="text",
            engine="diffusers",
            capabilities=frozenset(sampling | {"steps", "progress", "cancel"}),
        )

    async def generate(self, task: TextTask) -> AsyncGenerator[TextEvent]:
        prompt = read_prompt(task, self._family.tokenizer)
        task = fitted(task, len(prompt), self._family.context)

        def work(run: Run, emit: Emit) -> None:
            _Generation(self._family, self._algorithm, task, prompt, run, emit).run()

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


@dataclass(slots=True)
class _Block:
    """The block under way: `place` tells it from others; `last` ends the text."""

    index: int
    place: int
    last: bool
    ids: list[int]
    steps: int = 0
    ended: bool = False


@dataclass
class _Generation:
    """One call of a family; turns what it tells into events, on the worker's thread."""

    _family: TextFamily
    _algorithm: Algorithm
    _task: TextTask
    _prompt: list[int]
    _run: Run
    _emit: Emit
    _block: _Block | None = None
    _steps: int = 0
    _finish: FinishReason | None = None

    def __post_init__(self) -> None:
        self._ends: frozenset[int] = frozenset() if self._task.ignore_eos else self._family.ends
        self._detokenizer = Detokenizer(self._decode, self._task.stop)

    def run(self) -> None:
        with suppress(_Finished):
            self._family.generate(self._task, self._prompt, self._algorithm, self)
        self._send(self._detokenizer.finish())
        self._emit(
            TextEnd(
                finish_reason=self._finish or "length",
                prompt_tokens=len(self._prompt),
                completion_tokens=self._detokenizer.tokens,
                algorithm=self._algorithm.name,
                denoising_steps=self._steps,
                ignored=name_ignored(self._task, self._family.samples),
            )
        )

    def see_step(self, place: int, ids: list[int], masked: Sequence[bool], *, last: bool) -> None:
        self._run.check()
        block = self._block
        if block is None or block.place != place:
            self.end_block()
            self._block = block = _Block(index=block.index + 1 if block else 0, place=place, last=last, ids=ids)
            self._show(block, [True] * len(ids))
        block.ids = ids
        block.steps += 1
        self._steps += 1
        self._show(block, masked)

    def end_block(self, ids: Sequence[int] | None = None) -> None:
        """Sends what the finished block adds to the text; raises _Finished where the text ends with it."""
        block = self._block
        if block is None or block.ended:
            return
        block.ended = True
        text = block.ids if ids is None else ids
        end = next((place for place, token in enumerate(text) if token in self._ends), None)
        piece = self._detokenizer.push(text[:end])
        if end is not None or piece.stopped:
            self._finish = "stop"
        self._send(piece)
        if self._finish or block.last:
            raise _Finished

    def _show(self, block: _Block, masked: Sequence[bool]) -> None:
        if not self._task.show_steps:
            return
        parts = (MASKED * len(run) if is_masked else self._decode(run) for is_masked, run in _runs(block.ids, masked))
        self._emit(TextStep(block=block.index, step=block.steps, text="".join(parts), masked=sum(masked)))

    def _send(self, piece: Piece) -> None:
        if piece.text and self._block is not None:
            self._emit(TextBlock(block=self._block.index, text=piece.text, tokens=piece.tokens))

    def _decode(self, ids: Sequence[int]) -> str:
        return self._family.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


class _Finished(Exception):
    """Unwinds the pipeline when the text has ended before the pipeline has."""


def _runs(ids: list[int], masked: Sequence[bool]) -> Iterator[tuple[bool, list[int]]]:
    pairs = zip(masked, ids, strict=True)
    for is_masked, run in groupby(pairs, key=lambda pair: pair[0]):
        yield is_masked, [token for _, token in run]
