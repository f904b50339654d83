"""The wire models of POST /v1/completions."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict, Unpack  # pydantic wants it before Python 3.12

from serve_app.model_settings import TextSettings
from serve_app.protocol.common import Bound, Count, at_most, check_text, refuse
from serve_app.protocol.text import (
    NO_LOGPROBS,
    Only,
    TextAnswer,
    TextAnswers,
    TextRequest,
    as_list,
    fan_out,
)
from serve_app.tasks import FinishReason, Origin, TextResult, TextTask

MAX_PROMPTS = 128


def _prompts(value: Any) -> Any:
    prompts = as_list(value)
    if prompts and isinstance(prompts[0], int | list):
        raise PydanticCustomError("unsupported", "is given as token ids: only text is allowed.")
    return prompts


Prompts = Annotated[
    list[str],
    Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True, description="A text, or several: each gets n choices."),
    BeforeValidator(_prompts, json_schema_input_type=str | Annotated[list[str], Field(max_length=MAX_PROMPTS)]),
]


class CompletionRequest(TextRequest):
    prompt: Prompts
    logprobs: Annotated[Any, Only(None, why=NO_LOGPROBS)] = None
    best_of: Annotated[Count | None, Bound("n")] = None
    echo: Annotated[bool, Only(False, why="the answer holds the completion only.")] | None = None
    suffix: Annotated[str, Only("", why="the model only goes on from a prompt.")] | None = None

    def to_tasks(self, settings: TextSettings, **origin: Unpack[Origin]) -> list[TextTask]:
        """A task for each choice of each prompt. Raises InvalidRequest for what is beyond a limit or cannot be done."""
        self.check_bounds(settings.limits)
        n = self.n or 1
        if self.best_of is not None and self.best_of > n:
            raise refuse("best_of", "completions are not ranked; it may not be above n.")
        at_most("n", n * len(self.prompt), settings.limits.n, "limits.n, over all prompts")
        tasks: list[TextTask] = []
        for i, prompt in enumerate(self.prompt):
            check_text("prompt", [prompt], settings.limits.prompt_chars)
            task = self.make_task(settings, **origin, prompt=prompt, raw_prompt=True)
            tasks += fan_out(replace(task, id=f"{task.id}-p{i}") if i else task, n)
        return tasks


class CompletionChoice(TypedDict):
    index: int
    text: str
    logprobs: None
    finish_reason: FinishReason | None


class Completion(TextAnswer):
    object: Literal["text_completion"]
    choices: list[CompletionChoice]


class CompletionAnswers(TextAnswers):
    """A chunk has the fields of a whole answer."""

    WHOLE = CHUNK = "text_completion"

    def whole_choice(self, index: int, result: TextResult) -> CompletionChoice:
        return self.choice(index, result.text, result.end.finish_reason)

    def choice(self, index: int, text: str | None, reason: FinishReason | None) -> CompletionChoice:
        return {"index": index, "text": text or "", "logprobs": None, "finish_reason": reason}
