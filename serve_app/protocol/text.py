"""What chat and completions share: sampling fields, OpenAI's fields that no diffusion language model has, and usage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict  # pydantic wants it before Python 3.12

from serve_app.model_settings import TextSettings
from serve_app.protocol.common import (
    Annotations,
    Bound,
    Count,
    Label,
    NvExt,
    Whole,
    Wire,
    at_most_items,
    refuse,
)
from serve_app.tasks import FinishReason, TextEnd, TextResult, TextStep, TextTask

C = TypeVar("C")
MAX_STOPS = 4
MAX_BIASES = 1024
MAX_PARTS = 1024
DENOISING = "denoising"
"""The annotation that asks for an event at each block's start and after each denoising step; also the event's name."""
NO_LOGPROBS = "a diffusion language model has no log probabilities to give."
TEXT_PART = "{'type': 'text', 'text': '...'}"
OTHER_PARTS = frozenset({"image_url", "input_image", "input_audio", "video_url", "file", "input_file"})


class DynamoHints(NvExt):
    """Dynamo's keys for its router, caches and tracing: accepted, and named in `nvext.ignored` of the answer.

    As in Dynamo 1.6, with two of its older sampling keys.
    """

    agent_context: Any = None
    agent_hints: Any = None
    backend_instance_id: Any = None
    cache_control: Any = None
    cache_salt: Any = None
    decode_worker_id: Any = None
    dp_rank: Any = None
    extra_fields: Any = None
    max_thinking_tokens: Any = None
    metadata_upload: Any = None
    min_p: Any = None
    prefill_dp_rank: Any = None
    prefill_worker_id: Any = None
    repetition_penalty: Any = None
    request_timestamp_ms: Any = None
    router: Any = None
    routing_constraints: Any = None
    session_control: Any = None
    token_data: Any = None


HINTS = tuple(DynamoHints.model_fields)


# What no diffusion language model can do is refused. /openapi.json shows only the value that asks for nothing.
ONLY_TEXT = WithJsonSchema({"type": "string", "enum": ["text"]})
Penalty = Annotated[float, Field(ge=-2, le=2), WithJsonSchema({"type": "number", "enum": [0]})]
Biases = Annotated[
    dict[str, float],
    Field(max_length=MAX_BIASES),
    at_most_items(MAX_BIASES),
    WithJsonSchema({"type": "object", "maxProperties": 0}),
]


class TextExtension(DynamoHints):
    """`nvext` of chat and completions."""

    annotations: Annotations | None = Field(
        default=None,
        description=f"'{DENOISING}' adds an event for each block's start and each denoising step to a stream; "
        "others do nothing.",
    )
    ignore_eos: bool | None = Field(default=None, description="Go on to max_tokens over end-of-sequence tokens.")
    top_k: Annotated[int, Field(ge=-1, le=2**31 - 1), Whole] | None = Field(
        default=None, description="-1 or 0: no limit."
    )
    use_raw_prompt: bool | None = Field(default=None, description="Take the messages without the chat template.")
    greed_sampling: bool | None = Field(default=None, description="Always take the likeliest token.")


class StreamOptions(BaseModel):
    """Unknown keys are ignored."""

    include_usage: bool | None = None


class ResponseFormat(BaseModel):
    model_config = ConfigDict(extra="ignore")

    type: Annotated[Literal["text", "json_object", "json_schema"], ONLY_TEXT]


def as_list(value: Any) -> Any:
    """Wraps a text into a list. Raises ValueError for anything but a text or a list."""
    if not isinstance(value, str | list):
        raise ValueError("must be a string or a list of strings.")
    return [value] if isinstance(value, str) else cast("Any", value)


Stop = Annotated[
    # the limits stand before the validator: pydantic applies them in this order, and would else check every item first
    list[Annotated[str, Field(min_length=1, max_length=256)]],
    Field(max_length=MAX_STOPS, fail_fast=True, description="Up to 4 strings; the text ends before the first of them."),
    BeforeValidator(as_list, json_schema_input_type=str | Annotated[list[str], Field(max_length=MAX_STOPS)]),
]


class TextRequest(Wire):
    """The fields that chat and completions have in common."""

    model: str | None = Field(default=None, description="May be left out where one text model is served.")
    max_tokens: Annotated[Count | None, Bound("max_tokens", default="max_tokens")] = None
    stop: Stop | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[Count | None, Bound("n", default=1)] = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1), Whole] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Biases | None = None
    response_format: ResponseFormat | None = None
    user: Label | None = None
    nvext: TextExtension | None = None

    @property
    def show_steps(self) -> bool:
        """Whether the caller asked for the denoising steps."""
        return DENOISING in ((self.nvext and self.nvext.annotations) or ())

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk of usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def most_tokens(self) -> int | None:
        """How long the text may get."""
        return self.max_tokens

    def ignored_hints(self) -> list[str]:
        """Names that were sent and do nothing here: Dynamo's keys and unknown fields."""
        ext = self.nvext
        hints = () if ext is None else (name for name in HINTS if getattr(ext, name) is not None)
        return [*hints, *self.ignored]

    def refuse_unsupported(self) -> None:
        """Raises UnsupportedParameter for what a diffusion language model cannot do."""
        for name in ("presence_penalty", "frequency_penalty"):
            if getattr(self, name):
                raise refuse(name, "penalties have no effect on a diffusion language model; only 0 is allowed.")
        if self.logit_bias:
            raise refuse("logit_bias", "token biases have no effect on a diffusion language model.")
        if self.response_format is not None and self.response_format.type != "text":
            raise refuse("response_format", "blocks follow no grammar; only {'type': 'text'} is allowed.")

    def sampled(self, task: TextTask, settings: TextSettings) -> TextTask:
        """`task` with the sampling fields of this request."""
        max_tokens = self.most_tokens
        ext = self.nvext or NO_EXTENSION
        return replace(
            task,
            max_tokens=max_tokens or min(settings.defaults.max_tokens, settings.limits.max_tokens),
            fewer_tokens=max_tokens is None,
            stop=tuple(self.stop or ()),
            temperature=0.0 if ext.greed_sampling else self.temperature,
            top_p=None if ext.greed_sampling else self.top_p,
            top_k=None if ext.greed_sampling or (ext.top_k or 0) < 1 else ext.top_k,
            seed=self.seed,
            ignore_eos=bool(ext.ignore_eos),
            raw_prompt=task.raw_prompt or bool(ext.use_raw_prompt),
            show_steps=self.show_steps and bool(self.stream),
        )


NO_EXTENSION = TextExtension()


def fan_out(task: TextTask, n: int) -> list[TextTask]:
    """`n` tasks for `n` choices: choice i has seed + i."""
    if n == 1:
        return [task]
    return [replace(task, id=f"{task.id}-{i}", seed=_seed(task.seed, i)) for i in range(n)]


def _seed(first: int | None, i: int) -> int | None:
    if first is None:
        return None
    # seeds are 64-bit signed integers: after the largest follows the smallest
    return first + i if first + i < 2**63 else first + i - 2**64


# --- answers: plain dicts, typed here; building a model for each would cost more than the rest of a handler --------


class Usage(TypedDict):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TextReport(TypedDict):
    """`nvext` of an answer. `ignored` names what was sent and could not be honoured.

    The steps are None where the engine does not tell them: SGLang does in a stream only.
    """

    algorithm: str
    denoising_steps: int | None
    tokens_per_step: float | None
    ignored: list[str]


def usage(ends: Sequence[TextEnd], prompts: int = 1) -> Usage:
    """Tokens of all choices. Each of the `prompts` counts once, however many choices it has."""
    per_prompt = len(ends) // prompts
    prompt_tokens = sum(end.prompt_tokens for end in ends[::per_prompt])
    completion_tokens = sum(end.completion_tokens for end in ends)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def report(ends: Sequence[TextEnd], hints: Sequence[str]) -> TextReport:
    """How the text was made, over all of `ends`."""
    steps = sum(end.denoising_steps for end in ends)
    tokens = sum(end.completion_tokens for end in ends)
    ignored = dict.fromkeys([*hints, *(name for end in ends for name in end.ignored)])
    return {
        "algorithm": ends[0].algorithm,
        "denoising_steps": steps or None,
        "tokens_per_step": round(tokens / steps, 3) if steps else None,
        "ignored": list(ignored),
    }


def denoising(step: TextStep, index: int) -> dict[str, Any]:
    """The `nvext` of a denoising event: the block under way, masked places shown as U+2591. Step 0 is its start."""
    return {
        "denoising": {
            "index": index,
            "block": step.block,
            "step": step.step,
            "masked": step.masked,
            "text": step.text,
        }
    }


class TextAnswers(ABC, Generic[C]):
    """Makes the answer to one request, whole or in chunks: what chat and completions share.

    `hints` are the request's `ignored_hints`, `prompts` how many texts it goes on from.
    """

    WHOLE: ClassVar[str]
    CHUNK: ClassVar[str]

    def __init__(
        self,
        *,
        id: str,
        created: int,
        model: str,
        hints: Sequence[str] = (),
        include_usage: bool = False,
        prompts: int = 1,
    ) -> None:
        self._id = id
        self._rest = {"created": created, "model": model}
        self._hints = hints
        self._include_usage = include_usage
        self._prompts = prompts
        self._begun: set[int] = set()

    def whole(self, results: Sequence[TextResult]) -> dict[str, Any]:
        """The answer that is no stream."""
        ends = [result.end for result in results]
        choices = [self._whole_choice(index, result) for index, result in enumerate(results)]
        about = {"usage": usage(ends, self._prompts), "nvext": report(ends, self._hints)}
        return {"id": self._id, "object": self.WHOLE, **self._rest, "choices": choices, **about}

    def block(self, index: int, text: str) -> dict[str, Any]:
        """A finished block."""
        return self._chunk(self._choice(index, text, None))

    def end(self, index: int, end: TextEnd) -> dict[str, Any]:
        """The chunk with the finish reason, and `nvext`."""
        return self._chunk(self._choice(index, None, end.finish_reason)) | {"nvext": report([end], self._hints)}

    def step(self, index: int, step: TextStep) -> dict[str, Any]:
        """The content of a denoising event: a chunk without choices, so that clients that read choices skip it."""
        return self._chunk() | {"nvext": denoising(step, index)}

    def usage(self, ends: Sequence[TextEnd]) -> dict[str, Any]:
        """The last chunk, if usage was asked for."""
        return self._chunk() | {"usage": usage(ends, self._prompts)}

    @abstractmethod
    def _whole_choice(self, index: int, result: TextResult) -> Any:
        """A choice of the whole answer."""

    @abstractmethod
    def _choice(self, index: int, text: str | None, reason: FinishReason | None) -> C:
        """A choice of a chunk; `text` is None in the last one."""

    def _chunk(self, *choices: C) -> dict[str, Any]:
        head = {"id": self._id, "object": self.CHUNK, **self._rest, "choices": list(choices)}
        return head | ({"usage": None} if self._include_usage else {})


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
