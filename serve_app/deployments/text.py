"""The text deployment: a diffusion language model behind Serve. Knows no HTTP and stores nothing but ledger rows."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import cast

from serve_app.deployments.generation import COMPLETED, generation
from serve_app.deployments.replica import ModelDeployment
from serve_app.engines.base import TextEngine
from serve_app.tasks import TextBlock, TextEnd, TextEvent, TextResult, TextTask


class TextDeployment(ModelDeployment[TextEngine]):
    """As many completions at once as the engine batches."""

    kind = "text"

    async def generate(self, task: TextTask) -> TextResult:
        """The whole completion. Cancelling it stops the engine within a denoising step."""
        blocks: list[str] = []
        end = None
        async with aclosing(self.stream(replace(task, in_blocks=False))) as events:
            async for event in events:
                if isinstance(event, TextBlock):
                    blocks.append(event.text)
                elif isinstance(event, TextEnd):
                    end = event
        assert end is not None, "an engine ends every completion with a TextEnd"
        return TextResult(text="".join(blocks), end=end)

    async def stream(self, task: TextTask) -> AsyncGenerator[TextEvent]:
        """Blocks as they finish, and a TextEnd last. Closing it stops the engine within a denoising step."""
        with generation(self._name, task, self._ledger) as record:
            # the Protocol says AsyncIterator, its docstring that it is a generator which aclose() cancels
            generator = cast("AsyncGenerator[TextEvent]", self._slot.engine.generate(task))
            async with self._slot.turn() as turn, aclosing(generator) as events:
                record.turn = turn
                while True:
                    async with turn.work():
                        event = await anext(events)
                    if isinstance(event, TextEnd):
                        break
                    yield event
            # after the engine is free, so that a slow reader of the last event blocks nobody
            record.outcome, record.steps = COMPLETED, event.denoising_steps
            record.amounts = {"prompt_tokens": event.prompt_tokens, "completion_tokens": event.completion_tokens}
            yield replace(event, timing=record.timing)
