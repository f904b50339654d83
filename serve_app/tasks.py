"""What crosses a Ray Serve handle: frozen dataclasses of plain values.

A task says everything that an engine needs: the ingress has filled the defaults of the settings, drawn the seed and
checked the limits, so that running a task again gives the same bytes. Knows no HTTP, no engine and no storage.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import (
    Any,
    ClassVar,
    Literal,
    NotRequired,  # pydantic wants these before Python 3.12
)

from typing_extensions import TypedDict

Kind = Literal["text", "image", "video"]
KINDS: tuple[Kind, ...] = ("text", "image", "video")
ImageFormat = Literal["png", "jpeg", "webp"]
Precision = Literal["exact", "lossless", "approximate"]
FinishReason = Literal["stop", "length"]
PUBLIC_CALLER = "public"
"""The caller of every request while no API keys are set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How the seconds of one generation were spent.

    `queue_s` is from the task's `submitted_at` until the engine took it; `gpu_s` is engine seconds times GPUs held.
    """

    queue_s: float = 0.0
    engine_s: float = 0.0
    encode_s: float = 0.0
    storage_s: float = 0.0
    gpu_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """An object in the store: its key below `media.root`, content type and size in bytes."""

    key: str
    content_type: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What a loaded model can do; a deployment's `describe()` gives it, the ingress caches it.

    Capabilities: `sampling` (temperature, top_p, top_k, seed change the text), `steps` (text blocks shown at each
    denoising step), `previews` (partial images), `edit` (of at most `input_images`), `mask` (inpainting),
    `image_to_video`, `last_frame`, `negative_prompt`, `two_experts` (boundary_ratio, guidance_scale_2), `progress`
    (true steps, not an estimate), `cancel` (a running generation stops). `parameters` are what `nvext` takes beside.
    """

    model: str
    kind: Kind
    engine: str
    capabilities: frozenset[str] = frozenset()
    input_images: int = 1
    parameters: frozenset[str] = frozenset()


class Origin(TypedDict):
    """Where a task comes from: the fields that every task has, whatever the request asks for."""

    id: str
    caller: str
    submitted_at: float
    traceparent: NotRequired[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What all tasks have; `submitted_at` is in Unix seconds."""

    kind: ClassVar[Kind]

    id: str
    model: str
    caller: str = PUBLIC_CALLER
    submitted_at: float = 0.0
    traceparent: str = ""


# --- text -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTask(Task):
    """One completion. `messages` for chat (the engine applies the chat template unless `raw_prompt`), else `prompt`.

    Sampling values are None where the caller left them out. `fewer_tokens`: `max_tokens` is a default of ours, which is
    cut to what the context still holds, where the caller's own number would be refused. Without `in_blocks` nobody
    reads before the end, and the engine may give the whole text as one block.
    """

    kind = "text"

    max_tokens: int
    fewer_tokens: bool = False
    messages: tuple[Message, ...] = ()
    prompt: str = ""
    raw_prompt: bool = False
    stop: tuple[str, ...] = ()
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    ignore_eos: bool = False
    show_steps: bool = False
    in_blocks: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TextStep:
    """The current block after a denoising step; step 0 shows it before the first one, all masked.

    U+2591 LIGHT SHADE stands for each masked token.
    """

    block: int
    step: int
    text: str
    masked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TextBlock:
    """A finished block: its text (never empty) and its number of tokens."""

    block: int
    text: str
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEnd:
    """The last event of a completion. `ignored` names the parameters that the engine could not honour.

    `denoising_steps` is 0 where the engine does not tell.
    """

    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    algorithm: str
    denoising_steps: int = 0
    ignored: tuple[str, ...] = ()
    timing: Timing = field(default_factory=Timing)


TextEvent = TextStep | TextBlock | TextEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class TextResult:
    text: str
    end: TextEnd

    @property
    def timing(self) -> Timing:
        return self.end.timing


# --- images and video ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A LoRA of the model by the name that its settings give it, and how strongly it is applied."""

    name: str
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCaching:
    """How denoising steps reuse what earlier ones computed; the engine knows the methods and their parameters."""

    method: str
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionTask(Task):
    """What tasks for images and videos share. `width` and `height` are pixels.

    Steps and guidance are None where caller and settings leave them to the model's family, whose own `parameters` may
    follow.
    """

    prompt: str
    width: int
    height: int
    seed: int
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    negative_prompt: str | None = None
    parameters: dict[str, float] = field(default_factory=dict[str, float])
    adapters: tuple[Adapter, ...] = ()
    quality: str | None = None
    step_caching: StepCaching | None = None
    precision: Precision | None = None


# --- images ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTask(DiffusionTask):
    """`n` images; image i is drawn with `seed + i`.

    `return_bytes`: the caller asked for base64, so the bytes come back and nothing is stored. `input_images` and `mask`
    are encoded files that have passed `media.images.check`.
    """

    kind = "image"

    n: int = 1
    output_format: ImageFormat = "png"
    output_compression: int | None = None
    return_bytes: bool = False
    partial_images: int = 0
    input_images: tuple[bytes, ...] = ()
    mask: bytes | None = None
    safety_identifier: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedImage:
    """Exactly one of `object` and `data` (encoded file) is set."""

    seed: int
    object: StoredObject | None = None
    data: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePreview:
    """An encoded preview: `index` counts from 0 to `partial_images - 1`; `step` of `total`."""

    index: int
    step: int
    total: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageResult:
    """`step_caching` is the method that was used; an edit may not know one that drawing knows.

    `prompt_tokens` is None where the engine cannot count them.
    """

    images: tuple[GeneratedImage, ...]
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    step_caching: str | None = None
    prompt_tokens: int | None = None
    timing: Timing = field(default_factory=Timing)


ImageEvent = ImagePreview | ImageResult


# --- video ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoTask(DiffusionTask):
    """One video of exactly `num_frames` frames at `fps` frames a second.

    Stored as JSON in the job's record, so it holds no bytes: `input_key` names the stored first frame, `last_frame_key`
    the last.
    """

    kind = "video"

    num_frames: int
    fps: int
    guidance_scale_2: float | None = None
    boundary_ratio: float | None = None
    input_key: str | None = None
    last_frame_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoResult:
    """Where a finished video lies. `thumbnail` is a WebP of the first frame, `spritesheet` a JPEG contact sheet.

    Steps and guidance are what was used; None in the records of releases that did not tell.
    """

    video: StoredObject
    thumbnail: StoredObject
    spritesheet: StoredObject
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    timing: Timing = field(default_factory=Timing)


AnyTask = TextTask | ImageTask | VideoTask
