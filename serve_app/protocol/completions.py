"""The wire models of POST /v1/chat/completions and POST /v1/completions."""

from dataclasses import replace
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict, Unpack  # pydantic wants it before Python 3.12

from serve_app.model_settings import MAX_MESSAGES, TextSettings
from serve_app.protocol.common import Bound, Count, at_most, check_text, optional, refuse
from serve_app.protocol.text import NO_LOGPROBS, Only, TextAnswer, TextAnswers, TextRequest, as_list, fan_out
from serve_app.tasks import FinishReason, Message, Origin, TextResult, TextTask

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
KNOWN_ROLES: dict[Role, str] = {"developer": "system", "function": "tool"}
"""Roles that chat templates do not know, with the role to use instead."""
MAX_PARTS = 1024
TEXT_PART = "{'type': 'text', 'text': '...'}"
OTHER_PARTS = frozenset({"image_url", "input_image", "input_audio", "video_url", "file", "input_file"})
MAX_PROMPTS = 128


# --- chat -----------------------------------------------------------------------------------------------------------


def text_parts(value: Any) -> Any:
    """Message content as one string: a list of text parts is joined by line breaks, None is empty."""
    if value is None or isinstance(value, str):
        return value or ""
    if not isinstance(value, list):
        raise ValueError(f"must be a string or a list of parts like {TEXT_PART}.")
    parts = cast("list[Any]", value)
    if len(parts) > MAX_PARTS:
        raise ValueError(f"has {len(parts)} parts; at most {MAX_PARTS} are allowed.")
    return "\n".join(_part_text(part, i) for i, part in enumerate(parts))


def _part_text(part: Any, i: int) -> str:
    fields = cast("dict[str, Any]", part) if isinstance(part, dict) else {}
    kind, text = fields.get("type"), fields.get("text")
    if kind == "text" and isinstance(text, str):
        return text
    if isinstance(kind, str) and kind in OTHER_PARTS:
        raise PydanticCustomError(
            "unsupported", "has a part of type '{kind}' at [{i}]: the model reads text only.", {"kind": kind, "i": i}
        )
    raise ValueError(f"must be a string or a list of parts like {TEXT_PART}; that at [{i}] is not.")


class TextPart(BaseModel):
    type: Literal["text"]
    text: str


Parts = Annotated[list[TextPart], Field(max_length=MAX_PARTS)]


class ChatMessage(BaseModel):
    """One message; its text parts are joined. Names and tool calls are ignored."""

    role: Role
    content: Annotated[str, BeforeValidator(text_parts, json_schema_input_type=str | Parts | None)] = ""


NO_CALL = "the model cannot be made to call a tool; only 'none' and 'auto' are allowed."
TEXT_ONLY = "the model writes text only; only ['text'] is allowed."
NoCall = Annotated[Any, Only("none", "auto", why=NO_CALL)]
Messages = Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]


class ChatRequest(TextRequest):
    messages: Annotated[Messages, Bound("messages")]
    max_completion_tokens: Annotated[Count | None, Bound("max_tokens")] = optional("Wins over max_tokens.")
    logprobs: Annotated[bool, Only(False, why=NO_LOGPROBS)] | None = None
    top_logprobs: Annotated[float, Only(0, why=NO_LOGPROBS)] | None = None
    tools: Annotated[list[Any], Field(max_length=1024)] | None = optional("Accepted; the model calls none.")
    tool_choice: NoCall | None = None
    function_call: NoCall | None = None
    modalities: Annotated[list[Any], Only(["text"], why=TEXT_ONLY)] | None = None

    def to_tasks(self, settings: TextSettings, **origin: Unpack[Origin]) -> list[TextTask]:
        """A task for each of the n choices. Raises InvalidRequest for what is beyond a limit or cannot be done."""
        # this includes the number of messages: the template adds tokens even for an empty one
        self.check_bounds(settings.limits)
        check_text("messages", [message.content for message in self.messages], settings.limits.prompt_chars)
        messages = tuple(Message(role=KNOWN_ROLES.get(m.role, m.role), content=m.content) for m in self.messages)
        raw = bool(self.nvext and self.nvext.use_raw_prompt)
        most = self.max_completion_tokens or self.max_tokens
        return fan_out(self.make_task(settings, most, **origin, messages=messages, raw_prompt=raw), self.n or 1)


class AnswerMessage(TypedDict):
    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(TypedDict):
    index: int
    message: AnswerMessage
    logprobs: None
    finish_reason: FinishReason


class ChatCompletion(TextAnswer):
    object: Literal["chat.completion"]
    choices: list[ChatChoice]


class ChatAnswers(TextAnswers):
    """A stream's choices may come in any order; the first chunk of each says the role."""

    WHOLE = "chat.completion"
    CHUNK = "chat.completion.chunk"

    def whole_choice(self, index: int, result: TextResult) -> ChatChoice:
        message: AnswerMessage = {"role": "assistant", "content": result.text, "refusal": None}
        return {"index": index, "message": message, "logprobs": None, "finish_reason": result.end.finish_reason}

    def choice(self, index: int, text: str | None, reason: FinishReason | None) -> dict[str, Any]:
        delta = {} if text is None else {"content": text}
        if index not in self.begun:
            self.begun.add(index)
            delta = {"role": "assistant", "content": "", **delta}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}


# --- completions ----------------------------------------------------------------------------------------------------


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
            task = self.make_task(settings, self.max_tokens, **origin, prompt=prompt, raw_prompt=True)
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
    """A choice of a chunk has the fields of a whole one."""

    WHOLE = CHUNK = "text_completion"

    def choice(self, index: int, text: str | None, reason: FinishReason | None) -> CompletionChoice:
        return {"index": index, "text": text or "", "logprobs": None, "finish_reason": reason}
