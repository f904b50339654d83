"""The settings of one model: what text, image and video models share, and what each kind has of its own."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from serve_app.tasks import ImageFormat, ImageTask, Precision, StepCaching, VideoTask

EngineName = Literal["auto", "diffusers", "sglang"]
Parallel = Literal["auto", "tensor", "cfg", "sequence"]
Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
Guidance = Annotated[float, Field(ge=0)]
Scale = Annotated[float, Field(ge=-10, le=10)]
AdapterName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,119}$")]
PresetName = Literal["low", "medium", "high", "standard", "hd", "xhigh", "max"]
"""The words of OpenAI's clients for `quality`, but `auto`."""


class Strict(BaseModel):
    # a file of Serve's travels as JSON, which has no infinity, and no job can expire at one
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


S = TypeVar("S", bound=Strict)


def parse(model: type[S], values: Any, what: str) -> S:
    """The `values` of `what` that an engine knows by this model; ValueError that lists what is wrong and allowed."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors()]
        allowed = ", ".join(model.model_fields) or "none"
        raise ValueError(f"{what}: {'; '.join(wrong)}. Allowed: {allowed}") from error


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The pydantic models inside an annotation such as `dict[str, Model] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)


class Replicas(Strict):
    """Autoscaling bounds and delays."""

    min: Annotated[int, Field(ge=0)] = 1
    """0 stops the last replica when idle; the next request then waits for a start"""
    max: Positive = 1
    target_wait_s: Seconds = 30.0
    """a replica is added when requests would wait longer"""
    upscale_delay_s: Annotated[float, Field(ge=0)] = 10.0
    downscale_delay_s: Annotated[float, Field(ge=0)] = 300.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) is above max ({self.max})")
        return self


class ModelSettings(Strict):
    """What text, image and video models share."""

    model: str = ""
    """a hub id, a local folder or a demo name"""
    served_name: str | None = None
    """what callers ask for; null: as `model`"""
    model_id: str | None = None
    """for a local folder: the hub id of a model like it, by which SGLang knows it; FLUX is known by its files"""
    revision: str | None = None
    """commit, tag or branch of a hub id"""
    trust_remote_code: bool = False
    """run code that the checkpoint brings; the gpu profile: its own LLaDA2's only"""
    engine: EngineName = "auto"
    """auto: sglang where it is installed and the model has GPUs"""
    gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs per replica; a fraction shares one GPU, without limiting its memory"""
    cpus: Annotated[float, Field(ge=0)] = 0.1
    """CPUs that each replica reserves"""
    parallel: Parallel = "auto"
    """how several GPUs share one generation; cfg: guided families on an even number; text: tensor; auto: the fastest"""
    replicas: Replicas = Replicas()
    max_queued: Positive = 64
    """waiting requests; further ones get a 429"""
    time_limit_s: Seconds = 600.0
    """of one generation"""
    engine_args: dict[str, Any] = {}
    """passed to the engine unchanged, such as SGLang's {quantization: fp8}"""
    resources: dict[str, float] = {}
    """custom Ray resources that each replica takes"""
    labels: dict[str, str] = {}
    """labels of the Ray nodes it may run on"""

    @field_validator("gpus")
    @classmethod
    def _whole_above_one(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"{gpus} GPUs: a fraction must be below 1, and more than one GPU a whole number")
        return gpus

    @model_validator(mode="before")
    @classmethod
    def _refuse_enabled(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and "enabled" in raw:
            raise ValueError("'enabled' is gone: a model that is not to be served is null, such as image: null")
        return raw

    @property
    def id(self) -> str:
        """The model id that callers ask for."""
        return self.served_name or self.model

    @property
    def ids(self) -> tuple[str, ...]:
        """Everything that callers may ask this model for: `id` comes first."""
        return (self.id,)


MAX_MESSAGES = 4096
"""The largest allowed `limits.messages`."""


class TextLimits(Strict):
    prompt_chars: Positive = 32768
    messages: Annotated[int, Field(ge=1, le=MAX_MESSAGES)] = 1024
    max_tokens: Positive = 4096
    n: Positive = 8


class TextDefaults(Strict):
    max_tokens: Positive = 512


class TextSettings(ModelSettings):
    """A diffusion language model."""

    kind: Literal["text"] = "text"
    algorithm: str | None = None
    """LowConfidence or JointThreshold of LLaDA2, Gemma4Renoise of DiffusionGemma, another of SGLang; null: the first"""
    algorithm_config: dict[str, float | int | bool | str] = {}
    """its parameters, such as {threshold: 0.95}"""
    max_running_requests: Positive = 64
    """requests that a replica generates at once; with more of them it makes more tokens a second, and fewer of each"""
    max_total_tokens: Positive | None = None
    """size of the KV cache in tokens; set it if models share a GPU"""
    limits: TextLimits = TextLimits()
    defaults: TextDefaults = TextDefaults()


class AdapterSettings(Strict):
    """A LoRA: a small file of changes to a model's weights."""

    path: str
    """a .safetensors file: a path, or owner/repository/file on the hub"""
    scale: Scale = 1.0
    """its strength where a caller names none"""

    @field_validator("path")
    @classmethod
    def _is_safetensors(cls, path: str) -> str:
        if not path.endswith(".safetensors"):
            raise ValueError(f"'{path}': an adapter is a .safetensors file")
        return path


class StepCachingSettings(BaseModel):
    """How denoising steps reuse what earlier ones computed; every key but `method` is a parameter of the method."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    method: str
    """diffusers: first_block; sglang: cache_dit or teacache"""

    def to_task(self) -> StepCaching:
        return StepCaching(method=self.method, parameters=self.model_extra or {})


class PresetSettings(Strict):
    """What a `quality` of callers stands for; the model's default where a key is null."""

    num_inference_steps: Positive | None = None
    guidance_scale: Guidance | None = None
    step_caching: StepCachingSettings | None = None
    """skips work that hardly changes from step to step, at some loss"""
    precision: Precision | None = None
    """of SGLang's kernels; the diffusers engine is always exact"""


class DiffusionLimits(Strict):
    prompt_chars: Positive = 32000
    min_side: Positive = 64
    max_side: Positive = 2048
    steps: Positive = 100


class DiffusionDefaults(Strict):
    width: Positive = 1024
    height: Positive = 1024
    num_inference_steps: Positive | None = None
    """null: what the model's family takes"""
    guidance_scale: Guidance | None = None
    """null: what the model's family takes"""


class DiffusionSettings(ModelSettings):
    """What image and video models share."""

    adapters: dict[AdapterName, AdapterSettings] = {}
    """LoRA by the model id that callers ask for, such as {pixel-art: {path: /loras/pixel.safetensors, scale: 0.9}}"""
    quality: dict[PresetName, PresetSettings | None] = {}
    """presets of `quality`: low, medium, high, standard, hd, xhigh, max; null or not here: as auto"""
    allow_fallback: bool = False
    """SGLang without a native pipeline for the model: false stops, true runs it slowly"""

    @property
    def ids(self) -> tuple[str, ...]:
        """Each adapter is asked for by its own name."""
        return (self.id, *self.adapters)

    def preset(self, quality: str | None) -> PresetSettings | None:
        """The preset of that name; None where the model has none, whose exact defaults then count."""
        return next((preset for name, preset in self.quality.items() if name == quality), None)

    def _warm_up(self, steps: int, default: DiffusionDefaults) -> dict[str, Any]:
        """What the tasks of a warm-up have alike."""
        task: dict[str, Any] = {"id": "warm-up", "model": self.id, "prompt": "warm up", "seed": 0}
        return task | {"num_inference_steps": steps, "guidance_scale": default.guidance_scale}


class ImageLimits(DiffusionLimits):
    n: Annotated[int, Field(ge=1, le=10)] = 10


class ImageDefaults(DiffusionDefaults):
    """Used for what a caller leaves out, cut to the limits."""

    output_format: ImageFormat = "png"
    response_format: Literal["url", "b64_json"] | None = None
    """null: as OpenAI does"""


class ImageSettings(DiffusionSettings):
    """A model of images."""

    kind: Literal["image"] = "image"
    limits: ImageLimits = ImageLimits()
    defaults: ImageDefaults = ImageDefaults()
    warm_up_sizes: tuple[tuple[Positive, Positive], ...] = ()
    """[width, height] pairs that run once before a replica is ready; empty: the default size"""

    def warm_up_tasks(self, steps: int) -> list[ImageTask]:
        """One for each of these sizes."""
        sizes = self.warm_up_sizes or ((self.defaults.width, self.defaults.height),)
        alike = self._warm_up(steps, self.defaults)
        return [ImageTask(width=width, height=height, **alike) for width, height in sizes]


class VideoLimits(DiffusionLimits):
    max_side: Positive = 1280
    frames: Positive = 161
    fps: Positive = 60
    seconds: Seconds = 20.0


class VideoDefaults(DiffusionDefaults):
    """Used for what a caller leaves out, cut to the limits."""

    width: Positive = 832
    height: Positive = 480
    num_frames: Positive = 81
    fps: Positive = 16
    negative_prompt: str | None = None


class VideoSettings(DiffusionSettings):
    """A model of videos."""

    kind: Literal["video"] = "video"
    limits: VideoLimits = VideoLimits()
    defaults: VideoDefaults = VideoDefaults()
    warm_up_sizes: tuple[tuple[Positive, Positive, Positive], ...] = ()
    """[width, height, frames] triples; empty: the default size"""
    time_limit_s: Seconds = 1800.0
    """of one generation"""

    def warm_up_tasks(self, steps: int) -> list[VideoTask]:
        """One for each of these sizes."""
        default = self.defaults
        sizes = self.warm_up_sizes or ((default.width, default.height, default.num_frames),)
        alike = self._warm_up(steps, default)
        alike |= {"fps": default.fps, "negative_prompt": default.negative_prompt}
        return [VideoTask(width=width, height=height, num_frames=frames, **alike) for width, height, frames in sizes]


def _kind_of(model: Any) -> Any:
    """The `kind`, by which the union below picks the class."""
    return model.get("kind") if isinstance(model, dict) else getattr(model, "kind", None)


AnyModel = TextSettings | ImageSettings | VideoSettings
WrittenModel = Annotated[
    Annotated[TextSettings, Tag("text")]
    | Annotated[ImageSettings, Tag("image")]
    | Annotated[VideoSettings, Tag("video")],
    Discriminator(_kind_of, custom_error_type="kind", custom_error_message="state its kind: text, image or video"),
]
ModelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
