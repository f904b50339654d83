"""The text deployment: a diffusion language model behind Serve. Knows no HTTP and stores nothing but ledger rows."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from serve_app.deployments.generation import COMPLETED, Record, generation
from serve_app.deployments.replica import ModelDeployment
from serve_app.engines.base import TextEngine
from serve_app.tasks import TextBlock, TextEnd, TextEvent, TextResult, TextTask
from serve_app.waiting import follow


class TextDeployment(ModelDeployment[TextEngine]):
    """As many completions at once as the engine batches."""

    kind = "text"

    async def generate(self, task: TextTask) -> TextResult:
        """The whole completion. Cancelling it stops the engine within a denoising step."""
        *events, end = [event async for event in self.stream(replace(task, in_blocks=False))]
        assert isinstance(end, TextEnd)
        return TextResult(text="".join(event.text for event in events if isinstance(event, TextBlock)), end=end)

    async def stream(self, task: TextTask) -> AsyncGenerator[TextEvent]:
        """Blocks as they finish, and a TextEnd last. Closing it stops the engine within a denoising step."""
        with generation(self._name, task, self._ledger) as record:
            end: TextEnd | None = None
            # the engine is timed and left by itself: a slow reader of its events holds up nobody
            async with aclosing(follow(lambda emit: self._run(task, record, emit))) as events:
                async for event in events:
                    if isinstance(event, TextEnd):
                        end = event
                    else:
                        yield event
            assert end is not None, "an engine ends every completion with a TextEnd"
            record.outcome, record.steps = COMPLETED, end.denoising_steps
            record.amounts = {"prompt_tokens": end.prompt_tokens, "completion_tokens": end.completion_tokens}
            yield replace(end, timing=record.timing)

    async def _run(self, task: TextTask, record: Record, emit: Callable[[TextEvent], None]) -> None:
        async with self._slot.turn() as turn:
            record.turn = turn
            async with turn.work():
                async for event in self._slot.engine.generate(task):
                    emit(event)
