"""The wire models of POST /v1/chat/completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from typing_extensions import TypedDict, Unpack  # pydantic wants it before Python 3.12

from serve_app.model_settings import MAX_MESSAGES, TextSettings
from serve_app.protocol.common import Bound, Count, Whole, check_text, refuse
from serve_app.protocol.text import (
    MAX_PARTS,
    NO_LOGPROBS,
    TextAnswers,
    TextReport,
    TextRequest,
    Usage,
    fan_out,
    text_parts,
)
from serve_app.tasks import FinishReason, Message, Origin, TextResult, TextTask

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
KNOWN_ROLES: dict[Role, str] = {"developer": "system", "function": "tool"}
"""Roles that chat templates do not know, with the role to use instead."""


class TextPart(BaseModel):
    type: Literal["text"]
    text: str


Parts = Annotated[list[TextPart], Field(max_length=MAX_PARTS)]


class ChatMessage(BaseModel):
    """One message; its text parts are joined. Names and tool calls are ignored."""

    model_config = ConfigDict(extra="ignore")

    role: Role
    content: Annotated[str, BeforeValidator(text_parts, json_schema_input_type=str | Parts | None)] = ""


NoCall = Annotated[str | dict[str, Any], WithJsonSchema({"type": "string", "enum": ["none", "auto"]})]
Modalities = Annotated[
    list[str],
    Field(max_length=8, fail_fast=True),
    WithJsonSchema({"type": "array", "items": {"enum": ["text"]}, "minItems": 1, "maxItems": 1}),
]


class ChatRequest(TextRequest):
    messages: Annotated[list[ChatMessage], Bound("messages")] = Field(
        min_length=1, max_length=MAX_MESSAGES, fail_fast=True
    )
    max_completion_tokens: Annotated[Count | None, Bound("max_tokens")] = Field(
        default=None, description="Wins over max_tokens."
    )
    logprobs: Annotated[bool, WithJsonSchema({"type": "boolean", "enum": [False]})] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20), Whole, WithJsonSchema({"type": "integer", "enum": [0]})] | None = (
        None
    )
    tools: list[Any] | None = Field(default=None, max_length=1024, description="Accepted; the model calls none.")
    tool_choice: NoCall | None = None
    function_call: NoCall | None = None
    modalities: Modalities | None = None

    @property
    def most_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    def to_tasks(self, settings: TextSettings, **origin: Unpack[Origin]) -> list[TextTask]:
        """A task for each of the n choices. Raises InvalidRequest for what is beyond a limit or cannot be done."""
        self._refuse()
        # this includes the number of messages: the template adds tokens even for an empty one
        self.check_bounds(settings.limits)
        check_text("messages", [message.content for message in self.messages], settings.limits.prompt_chars)
        messages = tuple(Message(role=KNOWN_ROLES.get(m.role, m.role), content=m.content) for m in self.messages)
        task = TextTask(**origin, model=settings.id, max_tokens=1, messages=messages)
        return fan_out(self.sampled(task, settings), self.n or 1)

    def answers(self, *, id: str, created: int, model: str) -> ChatAnswers:
        """What makes the answer to this request."""
        hints = self.ignored_hints()
        return ChatAnswers(id=id, created=created, model=model, hints=hints, include_usage=self.include_usage)

    def _refuse(self) -> None:
        self.refuse_unsupported()
        if self.logprobs:
            raise refuse("logprobs", NO_LOGPROBS)
        if self.top_logprobs:
            raise refuse("top_logprobs", NO_LOGPROBS)
        if self.tool_choice not in (None, "none", "auto"):
            raise refuse("tool_choice", "the model cannot be made to call a tool; only 'none' and 'auto' are allowed.")
        if self.function_call not in (None, "none", "auto"):
            raise refuse("function_call", "the model cannot be made to call a function.")
        if self.modalities is not None and self.modalities != ["text"]:
            raise refuse("modalities", "the model writes text only; only ['text'] is allowed.")


class AnswerMessage(TypedDict):
    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(TypedDict):
    index: int
    message: AnswerMessage
    logprobs: None
    finish_reason: FinishReason


class ChatCompletion(TypedDict):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    nvext: TextReport


class Delta(TypedDict):
    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str]


class ChunkChoice(TypedDict):
    index: int
    delta: Delta
    logprobs: None
    finish_reason: FinishReason | None


class ChatAnswers(TextAnswers[ChunkChoice]):
    """A stream's choices may come in any order; the first chunk of each says the role."""

    WHOLE = "chat.completion"
    CHUNK = "chat.completion.chunk"

    def _whole_choice(self, index: int, result: TextResult) -> ChatChoice:
        message: AnswerMessage = {"role": "assistant", "content": result.text, "refusal": None}
        return {"index": index, "message": message, "logprobs": None, "finish_reason": result.end.finish_reason}

    def _choice(self, index: int, text: str | None, reason: FinishReason | None) -> ChunkChoice:
        delta: Delta = {} if text is None else {"content": text}
        if index not in self._begun:
            self._begun.add(index)
            delta = {"role": "assistant", "content": "", **delta}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
