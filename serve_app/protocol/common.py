"""What request models share: strict parsing, limits that name their setting, sizes and seeds; and, for images and
videos, the quality that is asked for, and adapters (LoRA).
"""

import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from serve_app.errors import InvalidRequest, UnsupportedParameter
from serve_app.model_settings import (
    DiffusionLimits,
    DiffusionSettings,
    ImageSettings,
    PresetSettings,
    Scale,
    VideoSettings,
    models_in,
)
from serve_app.protocol.errors import SHOWN_CHARS, invalid
from serve_app.tasks import Adapter

M = TypeVar("M", bound="Wire")

MAX_SEED = 2**32 - 1
SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
MAX_EXTENSION_NAMES = 64
MAX_IGNORED_SHOWN = 32
EXTRAS = ("extra_params", "extra_body")
"""Objects that some clients send literally. Their `nvext` names count as if they stood in `nvext`."""


def _whole(value: Any) -> Any:
    """JSON has one kind of number: 4.0 is 4."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count = Annotated[int, Field(ge=1), BeforeValidator(_whole)]
Whole = BeforeValidator(_whole)
Seed = Annotated[int, Field(ge=0, le=MAX_SEED, description="The same seed gives the same result."), Whole]
Label = Annotated[str, Field(max_length=512)]
"""A caller's own label, stored unchanged."""


@dataclass(frozen=True, slots=True)
class Bound:
    """Marks a field that a model's settings bound, by `limits.<most>`, or fill in, from `defaults.<default>`.

    `Wire.check_bounds` holds requests to it and /openapi.json shows it. A `default` that is a number stands for itself.
    """

    most: str = ""
    least: str = ""
    default: str | int | None = None

    def check(self, param: str, value: Any, limits: BaseModel, shown: str = "") -> None:
        """Raises InvalidRequest that names the limit; `shown` is how the caller wrote the value."""
        most, least = getattr(limits, self.most, None), getattr(limits, self.least, None)
        if least is not None and not least <= value <= most:
            said = f"is {shown or value}; width and height must be {least} to {most} pixels here"
            raise InvalidRequest(f"'{param}' {said} (limits.{self.least}, limits.{self.most}).", param=param)
        if least is None and most is not None:
            counted = {str: "characters", list: "items"}.get(type(value), "")
            at_most(param, len(value) if counted else value, most, f"limits.{self.most}", counted)


def optional(description: str) -> Any:
    """A field that may be left out, with its description in /openapi.json."""
    return Field(default=None, description=description)


Files = dict[str, list[bytes]]
"""The uploads of each field. What a caller says of their names and types proves nothing, so it is not kept."""


class Raw(NamedTuple):
    """What a request was parsed from. In a form all values of `data` are strings, and `files` holds its uploads.

    `moved` says where fields of `nvext` stood outside of it. `ignored` names the fields that mean nothing here; only
    the first, if there are very many.
    """

    data: Mapping[str, Any] = {}
    files: Mapping[str, Sequence[bytes]] = {}
    is_form: bool = False
    moved: Mapping[str, str] = {}
    ignored: Sequence[str] = ()


Annotations = Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=16, fail_fast=True)]


class Wire(BaseModel):
    """A request's body: unknown fields are ignored, numbers are finite, and nothing is coerced but in forms.

    `FILES` names the uploads that a form may hold. `ELSEWHERE` names fields that mean something at other endpoints and
    would be missed here, with what to do instead.
    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    FILES: ClassVar[tuple[str, ...]] = ()
    ELSEWHERE: ClassVar[Mapping[str, str]] = {}

    _raw: Raw = PrivateAttr(default_factory=Raw)

    @property
    def raw(self) -> Raw:
        """What this was parsed from."""
        return self._raw

    def place(self, name: str) -> str:
        """Where the caller wrote the `nvext` field of this name, for the `param` of an error."""
        return self._raw.moved.get(name, f"nvext.{name}")

    def check_bounds(self, limits: BaseModel) -> None:
        """Raises InvalidRequest that names the first field beyond its limit, and the limit."""
        check_bounds(type(self), self, limits, str)
        extension = getattr(self, "nvext", None)
        if extension is not None:
            check_bounds(type(extension), extension, limits, self.place)


class NvExt(BaseModel):
    """NVIDIA Dynamo's extension object, or one in it.

    Unknown keys are refused: a misspelt one would change the result silently.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _has_few_names(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(cast("dict[str, Any]", value)) > MAX_EXTENSION_NAMES:
            raise ValueError(f"has more than {MAX_EXTENSION_NAMES} names.")
        return value


def parse(model: type[M], data: dict[str, Any], *, form: bool = False, files: Files | None = None) -> M:
    """`data` as a `model`; with `form` its strings are coerced. `files` are the uploads beside it.

    Raises InvalidRequest that names the field.
    """
    files = files or {}
    for name in (*data, *files):
        if name in model.ELSEWHERE and (name in files or data[name] is not None):
            raise refuse(name, model.ELSEWHERE[name])
        if name in files and name not in model.FILES:
            raise refuse(name[:SHOWN_CHARS], "no file is read in this field.")
    if form:  # an empty text in place of a file counts as absent
        data = {name: value for name, value in data.items() if value != "" or name not in model.FILES}
    fields, moved, ignored = _gather(model, data)
    try:
        asked = model.__pydantic_validator__.validate_python(fields, strict=not form)
    except ValidationError as error:
        raise invalid(error, model, fields, moved) from None
    asked._raw = Raw(data, files, form, moved, ignored)  # pyright: ignore[reportPrivateUsage]
    return asked


def _gather(model: type[Wire], data: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """The fields with all that `nvext` knows in `nvext`; where each that was moved there stood; and what is ignored."""
    extension = extension_of(model)
    inside = extension.model_fields if extension else {}
    fields: dict[str, Any] = {}
    found: dict[str, tuple[str, Any]] = {}
    ignored: list[str] = []
    for place, name, value in _places(data):
        if name in model.model_fields and (value is not None or name not in fields):
            fields[name] = value
        elif value is None:
            continue  # null means left out, so it does not override a value
        elif name in inside:
            found[name] = place, value
        else:
            ignored.append(place)
    given = fields.get("nvext")
    moved: dict[str, str] = {}
    if given is None or isinstance(given, dict):  # else it will be refused for its type
        own = cast("dict[str, Any]", given or {})
        moved = {name: place for name, (place, _) in found.items() if own.get(name) is None}
        if moved:
            fields["nvext"] = {**own, **{name: found[name][1] for name in moved}}
    rest = ["..."] if len(ignored) > MAX_IGNORED_SHOWN else []
    return fields, moved, [*(place[:SHOWN_CHARS] for place in ignored[:MAX_IGNORED_SHOWN]), *rest]


def _places(data: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Every field as (place, name, value). Fields of the body itself come last and win."""
    for container in EXTRAS:
        extra = data.get(container)
        for name, value in cast("dict[str, Any]", extra).items() if isinstance(extra, dict) else ():
            yield f"{container}.{name}", name, value
    for name, value in data.items():
        if name not in EXTRAS or not isinstance(value, dict):
            yield name, name, value


def extension_of(model: type[BaseModel]) -> type[NvExt] | None:
    """The class of a model's `nvext`; None where it has none."""
    field = model.model_fields.get("nvext")
    found = models_in(field.annotation) if field else ()
    return next((inner for inner in found if issubclass(inner, NvExt)), None)


def at_most(param: str, value: int, limit: float, name: str, counted: str = "") -> None:
    """Raises InvalidRequest that names the limit (such as `limits.n`) if `value` is above it.

    `counted` says of what there are so many, such as characters.
    """
    if value > limit:
        # not as a float: a whole number in a request may have hundreds of digits
        shown = str(value) if value < 10**15 else "too large"
        said = f"has {shown} {counted}; at most {limit} are" if counted else f"is {shown}; at most {limit:.15g} is"
        raise InvalidRequest(f"'{param}' {said} allowed here ({name}).", param=param)


def check_text(param: str, texts: Sequence[str], limit: int) -> None:
    """Raises InvalidRequest where the texts are all blank, or together longer than `limit` characters."""
    at_most(param, sum(map(len, texts)), limit, "limits.prompt_chars", "characters")
    check_not_blank(param, *texts)


def check_not_blank(param: str, *texts: str) -> None:
    """Raises InvalidRequest where none of the texts holds more than white space."""
    if not any(text.strip() for text in texts):
        raise InvalidRequest(f"'{param}' holds no text.", param=param)


def check_bounds(model: type[BaseModel], values: object, limits: BaseModel, place: Callable[[str], str]) -> None:
    """Holds the attributes of `values` to the bounds of the model's fields of these names."""
    for name, field in model.model_fields.items():
        value = getattr(values, name, None)
        for bound in field.metadata:
            if isinstance(bound, Bound) and value is not None:
                bound.check(place(name), value, limits)


def choose_seed(asked: int | None, n: int, param: str) -> int:
    """The seed asked for, or a new one; the last of `n` results has this seed + n - 1. Raises InvalidRequest."""
    if asked is None:
        return secrets.randbelow(MAX_SEED - n + 2)
    if asked + n - 1 > MAX_SEED:
        raise InvalidRequest(f"'{param}' is {asked}: the last of {n} seeds would be above {MAX_SEED}.", param=param)
    return asked


def refuse(param: str, why: str) -> UnsupportedParameter:
    """The error for a field that OpenAI defines and that cannot be honoured here."""
    return UnsupportedParameter(f"'{param}' is not supported: {why}", param=param)


# --- images and videos ----------------------------------------------------------------------------------------------

AUTO = "auto"
Quality = Literal["standard", "hd", "low", "medium", "high", "xhigh", "max", "auto"]
QUALITY = "A preset of the model; auto, and a name for which it has none, means its exact defaults."
Guidance = Annotated[float, Field(ge=0, le=100)]
SIDE = Bound("max_side", least="min_side")
STEPS = Bound("steps", default="num_inference_steps")
MAX_ADAPTERS = 16


class AdapterChoice(NvExt):
    """One of the adapters that the server's settings name; it is applied with their scale where none is given."""

    name: str = Field(min_length=1)
    scale: Scale | None = None


class DiffusionExtension(NvExt):
    """`nvext` of image and video requests: what both know. `OF_FAMILIES` names fields that some families alone take."""

    OF_FAMILIES: ClassVar[tuple[str, ...]] = ()

    negative_prompt: Annotated[str | None, Bound("prompt_chars")] = None
    width: Annotated[Count | None, SIDE] = optional("Pixels; with height it wins over size.")
    height: Annotated[Count | None, SIDE] = None
    num_inference_steps: Annotated[Count | None, STEPS] = optional("Denoising steps.")
    guidance_scale: Annotated[Guidance | None, Bound(default="guidance_scale")] = None
    seed: Seed | None = None
    annotations: Annotations | None = optional("Accepted and ignored.")
    adapters: Annotated[list[AdapterChoice], Field(max_length=MAX_ADAPTERS, fail_fast=True)] | None = optional(
        "Adapters (LoRA) to apply, beside the one that the model id may stand for."
    )


class DiffusionRequest(Wire):
    """What both kinds of request have at the top level; unknown fields are ignored."""

    prompt: Annotated[str, Bound("prompt_chars")] = Field(min_length=1)
    model: str | None = optional("A model's id or an adapter's; may be left out where one model of the kind is served.")
    user: Label | None = None
    quality: Quality | None = optional(QUALITY)
    size: str | None = optional("WIDTHxHEIGHT in pixels, or auto.")
    stream: bool | None = None

    def asked_size(self, limits: DiffusionLimits) -> tuple[int, int] | None:
        """Width and height of `size`, where the caller gave one. Raises InvalidRequest."""
        if self.size is None or self.size == AUTO:
            return None
        match = SIZE.fullmatch(self.size)
        if match is None:
            said = f"'size' must be WIDTHxHEIGHT in pixels (such as 512x512) or auto, not '{self.size[:32]}'."
            raise InvalidRequest(said, param="size")
        width, height = int(match[1]), int(match[2])
        for side in (width, height):
            SIDE.check("size", side, limits, self.size)
        return width, height

    def shared_fields(
        self, settings: ImageSettings | VideoSettings, asked: DiffusionExtension, size: tuple[int, int], n: int = 1
    ) -> dict[str, Any]:
        """The fields that tasks for images and videos share, `n` of them; `size` is for a side that `asked` leaves out.

        Each is what the caller says, else the preset of the quality asked for, else the settings' defaults, else None.
        Raises InvalidRequest that names a limit, and for an adapter that the model lacks.
        """
        self.check_bounds(settings.limits)
        check_not_blank("prompt", self.prompt)
        id = self.model if self.model is not None and self.model in settings.ids else settings.id
        found = settings.preset(self.quality)
        preset, defaults = found or PresetSettings(), settings.defaults
        usual_steps = preset.num_inference_steps or defaults.num_inference_steps
        if usual_steps is not None:
            usual_steps = min(usual_steps, settings.limits.steps)
        scales = (asked.guidance_scale, preset.guidance_scale, defaults.guidance_scale)
        return {
            "model": id,
            "prompt": self.prompt,
            "width": asked.width or size[0],
            "height": asked.height or size[1],
            "seed": choose_seed(asked.seed, n, self.place("seed")),
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
    own = settings.adapters.get(id)
    chosen = {} if own is None else {id: Adapter(name=id, scale=own.scale)}
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
        said = f"'{param}': the model '{settings.id}' has no adapter '{name[:SHOWN_CHARS]}'; {allowed}."
        raise InvalidRequest(said, param=param)
