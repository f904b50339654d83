"""The wire models of POST /v1/chat/completions."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field
from typing_extensions import TypedDict, Unpack  # pydantic wants it before Python 3.12

from serve_app.model_settings import MAX_MESSAGES, TextSettings
from serve_app.protocol.common import Bound, Count, check_text, optional
from serve_app.protocol.text import (
    MAX_PARTS,
    NO_LOGPROBS,
    Only,
    TextAnswer,
    TextAnswers,
    TextRequest,
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

    role: Role
    content: Annotated[str, BeforeValidator(text_parts, json_schema_input_type=str | Parts | None)] = ""


NO_CALL = "the model cannot be made to call a tool; only 'none' and 'auto' are allowed."
TEXT_ONLY = "the model writes text only; only ['text'] is allowed."
NoCall = Annotated[Any, Only("none", "auto", why=NO_CALL)]


class ChatRequest(TextRequest):
    messages: Annotated[list[ChatMessage], Bound("messages")] = Field(
        min_length=1, max_length=MAX_MESSAGES, fail_fast=True
    )
    max_completion_tokens: Annotated[Count | None, Bound("max_tokens")] = optional("Wins over max_tokens.")
    logprobs: Annotated[bool, Only(False, why=NO_LOGPROBS)] | None = None
    top_logprobs: Annotated[float, Only(0, why=NO_LOGPROBS)] | None = None
    tools: Annotated[list[Any], Field(max_length=1024)] | None = optional("Accepted; the model calls none.")
    tool_choice: NoCall | None = None
    function_call: NoCall | None = None
    modalities: Annotated[list[Any], Only(["text"], why=TEXT_ONLY)] | None = None

    @property
    def most_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    def to_tasks(self, settings: TextSettings, **origin: Unpack[Origin]) -> list[TextTask]:
        """A task for each of the n choices. Raises InvalidRequest for what is beyond a limit or cannot be done."""
        # this includes the number of messages: the template adds tokens even for an empty one
        self.check_bounds(settings.limits)
        check_text("messages", [message.content for message in self.messages], settings.limits.prompt_chars)
        messages = tuple(Message(role=KNOWN_ROLES.get(m.role, m.role), content=m.content) for m in self.messages)
        raw = bool(self.nvext and self.nvext.use_raw_prompt)
        return fan_out(self.make_task(settings, **origin, messages=messages, raw_prompt=raw), self.n or 1)


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
