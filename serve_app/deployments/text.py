"""The text deployment: a diffusion language model behind Serve. Knows no HTTP and stores nothing but ledger rows."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import cast

from serve_app.deployments.generation import COMPLETED, Turn, generation
from serve_app.deployments.replica import ModelDeployment
from serve_app.engines.base import TextEngine
from serve_app.engines.load import load_text
from serve_app.model_settings import TextSettings
from serve_app.settings import Settings
from serve_app.tasks import TextBlock, TextEnd, TextEvent, TextResult, TextTask


class TextDeployment(ModelDeployment[TextEngine]):
    """As many completions at once as the engine batches."""

    def __init__(self, settings: Settings, name: str = "text") -> None:
        super().__init__(settings, name, TextSettings, load_text)

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
            end = None
            async with self._slot.turn() as turn:
                record.timing = turn.timing(task.submitted_at)
                async with aclosing(self._events(task, turn)) as events:
                    async for event in events:
                        if isinstance(event, TextEnd):
                            end = event
                        else:
                            record.timing = turn.timing(task.submitted_at, turn.held_s)
                            yield event
            # after the engine is free, so that a slow reader of the last event blocks nobody
            if end is not None:
                record.outcome, record.timing, record.steps = COMPLETED, end.timing, end.denoising_steps
                record.prompt_tokens, record.completion_tokens = end.prompt_tokens, end.completion_tokens
                yield end

    async def _events(self, task: TextTask, turn: Turn) -> AsyncGenerator[TextEvent]:
        # the Protocol says AsyncIterator, its docstring that it is a generator which aclose() cancels
        generator = cast("AsyncGenerator[TextEvent]", self._slot.engine.generate(task))
        deadline = self._slot.deadline()
        async with aclosing(generator) as events:
            while True:
                async with self._slot.until(deadline):
                    event = await anext(events, None)
                if event is None:
                    return
                if isinstance(event, TextEnd):
                    event = replace(event, timing=turn.timing(task.submitted_at, event.timing.engine_s or turn.held_s))
                yield event
