"""What chat and completions share: sampling fields, OpenAI's fields that no diffusion language model has, and usage."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import BaseModel, BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, create_model
from pydantic_core import CoreSchema, PydanticCustomError, core_schema, to_jsonable_python
from typing_extensions import TypedDict  # pydantic wants it before Python 3.12

from serve_app.model_settings import TextSettings
from serve_app.protocol.common import Annotations, Bound, Count, Label, NvExt, Whole, Wire, optional
from serve_app.tasks import FinishReason, TextBlock, TextEnd, TextEvent, TextResult, TextTask

MAX_STOPS = 4
DENOISING = "denoising"
"""The annotation that asks for an event at each block's start and after each denoising step; also the event's name."""
NO_LOGPROBS = "a diffusion language model has no log probabilities to give."
NO_BIASES = "token biases have no effect on a diffusion language model."
NO_GRAMMAR = "blocks follow no grammar; only {'type': 'text'} is allowed."
NO_PENALTIES = "penalties have no effect on a diffusion language model; only 0 is allowed."


HINTS = (
    *("agent_context", "agent_hints", "backend_instance_id", "cache_control", "cache_salt", "decode_worker_id"),
    *("dp_rank", "extra_fields", "max_thinking_tokens", "metadata_upload", "min_p", "prefill_dp_rank"),
    *("prefill_worker_id", "repetition_penalty", "request_timestamp_ms", "router", "routing_constraints"),
    *("session_control", "token_data"),
)
"""Dynamo's keys for its router, caches and tracing: accepted, and named in `nvext.ignored` of the answer. As in Dynamo
1.6, with two of its older sampling keys."""
_ANYTHING: Any = dict.fromkeys(HINTS, (Any, None))


class Only:
    """Marks a field of OpenAI's of which only these values, which ask for nothing, can be honoured.

    Others are unsupported, and /openapi.json does not show them.
    """

    def __init__(self, *values: Any, why: str) -> None:
        self._values = values
        self._why = why

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(schema) | {"enum": to_jsonable_python(self._values)}

    def _check(self, value: Any) -> Any:
        if value not in self._values:
            raise PydanticCustomError("unsupported", "is not supported: {why}", {"why": self._why})
        return value


class TextExtension(create_model("DynamoHints", __base__=NvExt, **_ANYTHING)):
    """`nvext` of chat and completions."""

    annotations: Annotations | None = optional(
        f"'{DENOISING}' adds to a stream events: each block's start, step 0, and each step; others do nothing."
    )
    ignore_eos: bool | None = optional("Go on to max_tokens over end-of-sequence tokens.")
    top_k: Annotated[int, Field(ge=-1, le=2**31 - 1), Whole] | None = optional("-1 or 0: no limit.")
    use_raw_prompt: bool | None = optional("Take the messages without the chat template.")
    greed_sampling: bool | None = optional("Always take the likeliest token.")


class StreamOptions(BaseModel):
    """Unknown keys are ignored."""

    include_usage: bool | None = None


class ResponseFormat(BaseModel):
    type: Literal["text", "json_object", "json_schema"]


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

    model: str | None = optional("May be left out where one text model is served.")
    max_tokens: Annotated[Count | None, Bound("max_tokens", default="max_tokens")] = None
    stop: Stop | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[Count | None, Bound("n", default=1)] = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1), Whole] | None = None
    presence_penalty: Annotated[float, Only(0, why=NO_PENALTIES)] | None = None
    frequency_penalty: Annotated[float, Only(0, why=NO_PENALTIES)] | None = None
    logit_bias: Annotated[dict[str, Any], Only({}, why=NO_BIASES)] | None = None
    response_format: Annotated[ResponseFormat, Only(ResponseFormat(type="text"), why=NO_GRAMMAR)] | None = None
    user: Label | None = None
    nvext: TextExtension | None = None

    def ignored_hints(self) -> list[str]:
        """Names that were sent and do nothing here: Dynamo's keys and unknown fields."""
        ext = self.nvext
        hints = () if ext is None else (name for name in HINTS if getattr(ext, name) is not None)
        return [*hints, *self.raw.ignored]

    def make_task(self, settings: TextSettings, most_tokens: int | None, **given: Any) -> TextTask:
        """A task of `given`, with the model and the sampling fields of this request; its text may get so long."""
        ext = self.nvext or TextExtension()
        greedy = bool(ext.greed_sampling)
        return TextTask(
            **given,
            model=settings.id,
            max_tokens=most_tokens or min(settings.defaults.max_tokens, settings.limits.max_tokens),
            fewer_tokens=most_tokens is None,
            stop=tuple(self.stop or ()),
            temperature=0.0 if greedy else self.temperature,
            top_p=None if greedy else self.top_p,
            top_k=None if greedy or (ext.top_k or 0) < 1 else ext.top_k,
            seed=self.seed,
            ignore_eos=bool(ext.ignore_eos),
            show_steps=bool(self.stream) and DENOISING in (ext.annotations or ()),
        )


def fan_out(task: TextTask, n: int) -> list[TextTask]:
    """`n` tasks for `n` choices: choice i has seed + i."""
    if n == 1:
        return [task]
    # seeds are 64-bit signed integers: after the largest follows the smallest
    seeds = [None if task.seed is None else (task.seed + i + 2**63) % 2**64 - 2**63 for i in range(n)]
    return [replace(task, id=f"{task.id}-{i}", seed=seed) for i, seed in enumerate(seeds)]


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


class TextAnswer(TypedDict):
    """What the answers of chat and completions share; `object` and `choices` come beside it."""

    id: str
    created: int
    model: str
    usage: Usage
    nvext: TextReport


@dataclass(kw_only=True)
class TextAnswers(ABC):
    """Makes the answer to one request, whole or in chunks: what chat and completions share."""

    WHOLE: ClassVar[str]
    CHUNK: ClassVar[str]

    asked: TextRequest
    id: str
    created: int
    model: str
    begun: set[int] = field(default_factory=set[int], init=False)

    def whole_choice(self, index: int, result: TextResult) -> Any:
        """A choice of the whole answer."""
        return self.choice(index, result.text, result.end.finish_reason)

    @abstractmethod
    def choice(self, index: int, text: str | None, reason: FinishReason | None) -> Any:
        """A choice of a chunk; `text` is None in the last one."""

    def whole(self, results: Sequence[TextResult]) -> dict[str, Any]:
        """The answer that is no stream."""
        ends = [result.end for result in results]
        choices = [self.whole_choice(index, result) for index, result in enumerate(results)]
        return self._head(self.WHOLE, choices) | {"usage": self._usage(ends), **self._report(ends)}

    def chunk(self, index: int, made: TextEvent) -> dict[str, Any]:
        """A finished block, the finish reason with `nvext`, or the content of a denoising event.

        That is a chunk without choices, so that clients that read choices skip it. Its `nvext` is the block under way,
        masked places shown as U+2591. Step 0 is its start.
        """
        if isinstance(made, TextBlock):
            return self._chunk(self.choice(index, made.text, None))
        if isinstance(made, TextEnd):
            return self._chunk(self.choice(index, None, made.finish_reason)) | self._report([made])
        return self._chunk() | {"nvext": {"denoising": {"index": index, **asdict(made)}}}

    def last(self, ends: Sequence[TextEnd]) -> list[dict[str, Any]]:
        """The chunk of usage that ends a stream, if it was asked for."""
        return [self._chunk() | {"usage": self._usage(ends)}] if self._shows_usage else []

    @property
    def _shows_usage(self) -> bool:
        return bool(self.asked.stream_options and self.asked.stream_options.include_usage)

    def _chunk(self, *choices: Any) -> dict[str, Any]:
        return self._head(self.CHUNK, choices) | ({"usage": None} if self._shows_usage else {})

    def _head(self, kind: str, choices: Sequence[Any]) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": list(choices)}

    def _usage(self, ends: Sequence[TextEnd]) -> Usage:
        """Tokens of all choices. Each prompt counts once, however many choices it has."""
        prompt_tokens = sum(end.prompt_tokens for end in ends[:: self.asked.n or 1])
        completion_tokens = sum(end.completion_tokens for end in ends)
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        }

    def _report(self, ends: Sequence[TextEnd]) -> dict[str, TextReport]:
        """`nvext`: how the text was made, over all of `ends`."""
        steps = sum(end.denoising_steps for end in ends)
        tokens = sum(end.completion_tokens for end in ends)
        ignored = dict.fromkeys([*self.asked.ignored_hints(), *(name for end in ends for name in end.ignored)])
        report: TextReport = {
            "algorithm": ends[0].algorithm,
            "denoising_steps": steps or None,
            "tokens_per_step": round(tokens / steps, 3) if steps else None,
            "ignored": list(ignored),
        }
        return {"nvext": report}
