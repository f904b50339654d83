"""The wire models of POST /v1/completions."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal, NotRequired

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict, Unpack  # pydantic wants it before Python 3.12

from serve_app.model_settings import TextSettings
from serve_app.protocol.common import Bound, Count, Whole, at_most, check_text, refuse
from serve_app.protocol.text import (
    NO_LOGPROBS,
    TextAnswers,
    TextReport,
    TextRequest,
    Usage,
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
    logprobs: Annotated[
        Annotated[int, Field(ge=0, le=5), Whole] | None,
        WithJsonSchema({"type": "null", "description": "Accepted as null only."}),
    ] = None
    best_of: Annotated[Count | None, Bound("n")] = None
    echo: Annotated[bool, WithJsonSchema({"type": "boolean", "enum": [False]})] | None = None
    suffix: Annotated[str, WithJsonSchema({"type": "string", "maxLength": 0})] | None = None

    def to_tasks(self, settings: TextSettings, **origin: Unpack[Origin]) -> list[TextTask]:
        """A task for each choice of each prompt. Raises InvalidRequest for what is beyond a limit or cannot be done."""
        self._refuse()
        self.check_bounds(settings.limits)
        n = self.n or 1
        at_most("n", n * len(self.prompt), settings.limits.n, "limits.n, over all prompts")
        tasks: list[TextTask] = []
        for i, prompt in enumerate(self.prompt):
            check_text("prompt", [prompt], settings.limits.prompt_chars)
            task = TextTask(**origin, model=settings.id, max_tokens=1, prompt=prompt, raw_prompt=True)
            task = replace(task, id=f"{task.id}-p{i}") if i else task
            tasks += fan_out(self.sampled(task, settings), n)
        return tasks

    def answers(self, *, id: str, created: int, model: str) -> CompletionAnswers:
        """What makes the answer to this request."""
        return CompletionAnswers(
            id=id,
            created=created,
            model=model,
            hints=self.ignored_hints(),
            include_usage=self.include_usage,
            prompts=len(self.prompt),
        )

    def _refuse(self) -> None:
        self.refuse_unsupported()
        if self.logprobs is not None:
            raise refuse("logprobs", NO_LOGPROBS)
        if self.suffix:
            raise refuse("suffix", "the model only goes on from a prompt.")
        if self.echo:
            raise refuse("echo", "the answer holds the completion only.")
        if self.best_of is not None and self.best_of > (self.n or 1):
            raise refuse("best_of", "completions are not ranked; it may not be above n.")


class CompletionChoice(TypedDict):
    index: int
    text: str
    logprobs: None
    finish_reason: FinishReason | None


class Completion(TypedDict):
    """The answer; a chunk of a streamed one has the same fields."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: NotRequired[Usage | None]
    nvext: NotRequired[TextReport | dict[str, Any]]


class CompletionAnswers(TextAnswers[CompletionChoice]):
    """A chunk has the fields of a whole answer."""

    WHOLE = CHUNK = "text_completion"

    def _whole_choice(self, index: int, result: TextResult) -> CompletionChoice:
        return self._choice(index, result.text, result.end.finish_reason)

    def _choice(self, index: int, text: str | None, reason: FinishReason | None) -> CompletionChoice:
        return {"index": index, "text": text or "", "logprobs": None, "finish_reason": reason}
