"""What requests for images and for videos share: the quality that is asked for, and adapters (LoRA)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict  # pydantic wants it before Python 3.12

from serve_app.errors import InvalidRequest
from serve_app.model_settings import DiffusionSettings, ImageSettings, PresetSettings, Scale, VideoSettings
from serve_app.protocol.common import Annotations, Bound, Count, Label, NvExt, Seed, Wire, at_most_items
from serve_app.protocol.errors import SHOWN_CHARS
from serve_app.tasks import Adapter, ImageTask, Precision, StepCaching, VideoTask

AUTO = "auto"
Quality = Literal["standard", "hd", "low", "medium", "high", "xhigh", "max", "auto"]
QUALITY = "A preset of the model; auto, and a name for which it has none, means its exact defaults."
Guidance = Annotated[float, Field(ge=0, le=100)]
SIDE = Bound("max_side", least="min_side")
STEPS = Bound("steps", default="num_inference_steps")
MAX_ADAPTERS = 16
MAX_CHOICE_KEYS = 8


class AdapterChoice(BaseModel):
    """One of the adapters that the server's settings name; it is applied with their scale where none is given."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1)
    scale: Scale | None = None


Choice = Annotated[AdapterChoice, at_most_items(MAX_CHOICE_KEYS)]


class DiffusionExtension(NvExt):
    """`nvext` of image and video requests: what both know. `OF_FAMILIES` names fields that some families alone take."""

    OF_FAMILIES: ClassVar[tuple[str, ...]] = ()

    negative_prompt: Annotated[str | None, Bound("prompt_chars")] = None
    width: Annotated[Count | None, SIDE] = Field(default=None, description="Pixels; with height it wins over size.")
    height: Annotated[Count | None, SIDE] = None
    num_inference_steps: Annotated[Count | None, STEPS] = Field(default=None, description="Denoising steps.")
    guidance_scale: Annotated[Guidance | None, Bound(default="guidance_scale")] = None
    seed: Seed | None = None
    annotations: Annotations | None = Field(default=None, description="Accepted and ignored.")
    adapters: Annotated[list[Choice], Field(max_length=MAX_ADAPTERS, fail_fast=True)] | None = Field(
        default=None, description="Adapters (LoRA) to apply, beside the one that the model id may stand for."
    )


class SharedFields(TypedDict):
    """The fields of a task that the preset and the adapters decide."""

    model: str
    num_inference_steps: int | None
    guidance_scale: float | None
    parameters: dict[str, float]
    adapters: tuple[Adapter, ...]
    quality: str | None
    step_caching: StepCaching | None
    precision: Precision | None


class DiffusionRequest(Wire):
    """What both kinds of request have at the top level; unknown fields are ignored."""

    prompt: Annotated[str, Bound("prompt_chars")] = Field(min_length=1)
    model: str | None = Field(
        default=None, description="A model's id or an adapter's; may be left out where one model of the kind is served."
    )
    user: Label | None = None
    quality: Quality | None = Field(default=None, description=QUALITY)

    def shared_fields(
        self, settings: ImageSettings | VideoSettings, extension: DiffusionExtension | None
    ) -> SharedFields:
        """What the caller says, else the preset of the quality asked for, else the settings' defaults, else None.

        Raises InvalidRequest for an adapter that the model lacks.
        """
        asked = extension or DiffusionExtension()
        id = self.model if self.model is not None and self.model in settings.ids else settings.id
        found = settings.preset(self.quality)
        preset, defaults = found or PresetSettings(), settings.defaults
        usual_steps = preset.num_inference_steps or defaults.num_inference_steps
        if usual_steps is not None:
            usual_steps = min(usual_steps, settings.limits.steps)
        scales = (asked.guidance_scale, preset.guidance_scale, defaults.guidance_scale)
        return {
            "model": id,
            "num_inference_steps": asked.num_inference_steps or usual_steps,
            "guidance_scale": next((scale for scale in scales if scale is not None), None),
            "parameters": {name: value for name in asked.OF_FAMILIES if (value := getattr(asked, name)) is not None},
            "adapters": choose_adapters(settings, id, asked.adapters or (), self.place("adapters")),
            "quality": self.quality if found else None,
            "step_caching": preset.step_caching.to_task() if preset.step_caching else None,
            "precision": preset.precision,
        }


def choose_adapters(
    settings: DiffusionSettings, id: str, asked: Sequence[AdapterChoice], param: str
) -> tuple[Adapter, ...]:
    """The adapter that the model id `id` stands for and those that are asked for, by name.

    In one order, whichever way they came: the same adapters give the same bytes. Raises InvalidRequest.
    """
    chosen = {adapter.name: adapter for adapter in settings.adapters_of(id)}
    names = [adapter.name for adapter in asked]
    for name, scale in ((adapter.name, adapter.scale) for adapter in asked):
        if names.count(name) > 1:
            raise InvalidRequest(f"'{param}' names '{name[:SHOWN_CHARS]}' twice.", param=param)
        check_adapter(settings, name, param)
        chosen[name] = Adapter(name=name, scale=settings.adapters[name].scale if scale is None else scale)
    return tuple(chosen[name] for name in sorted(chosen))


def check_adapter(settings: DiffusionSettings, name: str, param: str) -> None:
    """Raises InvalidRequest that names the adapters of the model where `name` is none of them."""
    if name not in settings.adapters:
        known = ", ".join(f"'{name}'" for name in settings.adapters)
        allowed = f"it has {known}" if known else "it has none"
        raise InvalidRequest(
            f"'{param}': the model '{settings.id}' has no adapter '{name[:SHOWN_CHARS]}'; {allowed}.", param=param
        )


def quality_used(task: ImageTask | VideoTask) -> str:
    """The name of the preset that was used, or auto."""
    return task.quality or AUTO
