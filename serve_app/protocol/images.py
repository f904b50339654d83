"""The wire models of POST /v1/images/generations and /v1/images/edits: OpenAI's, with Dynamo's `nvext`."""

import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NotRequired, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict, Unpack  # pydantic wants it before Python 3.12

from serve_app.errors import InvalidRequest
from serve_app.media.images import ImageInfo
from serve_app.model_settings import ImageLimits, ImageSettings
from serve_app.protocol.common import (
    AUTO,
    Bound,
    DiffusionExtension,
    DiffusionRequest,
    Guidance,
    Label,
    Seed,
    Whole,
    optional,
)
from serve_app.tasks import (
    Adapter,
    GeneratedImage,
    ImageEvent,
    ImageFormat,
    ImagePreview,
    ImageResult,
    ImageTask,
    Origin,
    Precision,
    StoredObject,
)

PATCH = 16
"""Pixels of a side of what FLUX calls an image token; `usage` counts these."""
MAX_INPUT_IMAGES = 16
"""As many as OpenAI takes; a model may take fewer."""
GPT_IMAGE = ("gpt-image-", "chatgpt-image-")
"""Prefixes of model names whose clients read only base64."""
GPT_IMAGE_FIELDS = ("output_format", "output_compression", "background", "moderation", "input_fidelity", "images")
"""Fields that only those models have."""
URLOf = Callable[[StoredObject], str]


class ImageExtension(DiffusionExtension):
    """`nvext` of image requests."""

    OF_FAMILIES = ("true_cfg_scale", "strength")

    seed: Seed | None = optional("Image i is drawn with seed + i.")
    true_cfg_scale: Guidance | None = optional("Strength of a negative prompt with FLUX.1 and Kontext; 400 for others.")
    strength: Annotated[float, Field(gt=0, le=1)] | None = optional(
        "How far an edit may go from its image, 0.75 by default; 400 for models that do not begin with it."
    )


class ImageReference(BaseModel):
    """OpenAI's reference object, of which `image_url` is served."""

    image_url: str = Field(min_length=1)


def _reference(value: Any) -> Any:
    if isinstance(value, str):
        return {"image_url": value}
    if not isinstance(value, dict):
        raise ValueError("must be an https or data URL, or an object that holds it as image_url.")
    if cast("dict[str, Any]", value).get("file_id") is not None:
        raise PydanticCustomError("unsupported", "names a file_id: there are no files here, send image_url.")
    return cast("Any", value)


Reference = Annotated[ImageReference, BeforeValidator(_reference, json_schema_input_type=str | ImageReference)]


def _listed(value: Any) -> Any:
    return cast("Any", value) if isinstance(value, list) else [value]


References = Annotated[list[Reference], Field(min_length=1, max_length=MAX_INPUT_IMAGES, fail_fast=True)]
EditImage = Annotated[References, BeforeValidator(_listed, json_schema_input_type=str | ImageReference | References)]


class ImageRequest(DiffusionRequest):
    """What generations and edits have in common; unknown top-level fields are ignored."""

    n: Annotated[Annotated[int, Field(ge=1, le=10), Whole] | None, Bound("n", default=1)] = None
    response_format: Literal["url", "b64_json"] | None = optional(
        "url by default, but b64_json in a stream and in requests that use a field only gpt-image has."
    )
    output_format: Annotated[ImageFormat | None, Bound(default="output_format")] = None
    output_compression: Annotated[int, Field(ge=0, le=100), Whole] | None = optional(
        "Quality of JPEG and WebP, 100 by default; PNG is lossless."
    )
    partial_images: Annotated[int, Field(ge=0, le=3), Whole] | None = optional("Previews in a stream.")
    safety_identifier: Label | None = None
    style: Literal["vivid", "natural"] | None = optional("Accepted and ignored.")
    background: Literal["transparent", "opaque", "auto"] | None = optional("Accepted; images are opaque.")
    moderation: Literal["low", "auto"] | None = optional("Accepted and ignored.")
    nvext: ImageExtension | None = None

    def wants_bytes(self, settings: ImageSettings) -> bool:
        """Whether the answer holds the images themselves, not URLs."""
        asked = self.response_format or ("b64_json" if self.stream else settings.defaults.response_format)
        if asked is not None:
            return asked == "b64_json"
        return (self.model or settings.id).startswith(GPT_IMAGE) or any(
            getattr(self, name, None) is not None for name in GPT_IMAGE_FIELDS
        )

    def to_task(
        self,
        settings: ImageSettings,
        *,
        images: Sequence[ImageInfo] = (),
        mask: ImageInfo | None = None,
        **origin: Unpack[Origin],
    ) -> ImageTask:
        """The task with every default filled and the seed drawn. Raises InvalidRequest that names the limit.

        `images` and `mask` are the checked files of an edit.
        """
        limits, defaults = settings.limits, settings.defaults
        ext, n = self.nvext or ImageExtension(), self.n or 1
        size = self.asked_size(limits) or (_fitted(images[0], limits) if images else (defaults.width, defaults.height))
        shared = self.shared_fields(settings, ext, size, n)
        negative = ext.negative_prompt or ""
        output_format = self.output_format or defaults.output_format
        return ImageTask(
            **origin,
            **shared,
            n=n,
            negative_prompt=negative if negative.strip() else None,
            output_format=output_format,
            output_compression=None if output_format == "png" else self.output_compression,
            return_bytes=self.wants_bytes(settings),
            partial_images=(self.partial_images or 0) if self.stream else 0,
            input_images=tuple(image.data for image in images),
            mask=None if mask is None else mask.data,
            safety_identifier=self.safety_identifier,
        )


class GenerationRequest(ImageRequest):
    FILES = ("input_reference",)
    ELSEWHERE: ClassVar = dict.fromkeys(
        ("image", "images", "image_url", "mask"),
        "an image is edited at POST /v1/images/edits, or given here as input_reference to start from.",
    )

    input_reference: Reference | None = optional("An image to start from: an https or data URL, or in forms an upload.")


class EditRequest(ImageRequest):
    """In multipart `image` (or `image[]`) and `mask` are uploads; in JSON they are https or data URLs."""

    # one of the two is required in JSON; in a form it is a file
    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["image"]}, {"required": ["images"]}]})

    FILES = ("image", "mask")
    ELSEWHERE: ClassVar = {"input_reference": "the image to edit is 'image'."}

    image: EditImage | SkipJsonSchema[None] = None
    images: References | SkipJsonSchema[None] = optional("The same as image, as newer clients send it.")
    mask: Reference | None = optional("Its transparent parts are drawn anew.")
    input_fidelity: Literal["high", "low"] | None = optional("Accepted and ignored.")

    @property
    def input_urls(self) -> tuple[str, list[str]]:
        """The field that holds the images to edit, and their URLs. InvalidRequest where two fields do."""
        if self.image and self.images:
            raise InvalidRequest("'images' is given beside 'image'; send one of them.", param="images")
        field, given = ("images", self.images) if self.images else ("image", self.image)
        return field, [reference.image_url for reference in given or ()]


def _fitted(image: ImageInfo, limits: ImageLimits) -> tuple[int, int]:
    """The size of an input image, scaled so that both sides are within the limits. A very long one loses its shape."""
    least, most = limits.min_side, limits.max_side
    scale = min(1.0, most / max(image.width, image.height))
    scale = max(scale, least / min(image.width, image.height))
    return min(round(image.width * scale), most), min(round(image.height * scale), most)


# --- answers --------------------------------------------------------------------------------------------------------


class TokenDetails(TypedDict):
    text_tokens: int
    image_tokens: int


class ImageUsage(TypedDict):
    """An image token is a patch of 16 x 16 pixels, a text token one of the model's own tokenizer."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: TokenDetails
    output_tokens_details: TokenDetails


class ImageData(TypedDict):
    url: NotRequired[str]
    b64_json: NotRequired[str]
    revised_prompt: None


class ImageReport(TypedDict):
    """`nvext` of an answer: what made the images. Image i was drawn with seeds[i]; `ignored` names unknown fields."""

    id: str
    seeds: list[int]
    num_inference_steps: int
    guidance_scale: float
    step_caching: str | None
    precision: Precision | None
    adapters: tuple[Adapter, ...]
    inference_time_s: float
    queue_time_s: float
    ignored: list[str]


class ImagesResponse(TypedDict):
    """`usage` is left out where the engine cannot count the prompt."""

    created: int
    data: list[ImageData]
    size: str
    quality: str
    background: Literal["opaque"]
    output_format: ImageFormat
    safety_identifier: NotRequired[str]
    usage: NotRequired[ImageUsage]
    nvext: ImageReport


@dataclass(frozen=True, kw_only=True)
class ImageAnswers:
    """Makes the answer to one request, whole or as events; `url_of` says where a stored object can be fetched."""

    asked: ImageRequest
    task: ImageTask
    created: int
    url_of: URLOf

    def whole(self, result: ImageResult) -> dict[str, Any]:
        """An ImagesResponse."""
        data = [self._data(image) for image in result.images]
        return {"created": self.created, "data": data, **self._describe(), **self._report(result, result.images)}

    def events(self, made: ImageEvent) -> list[dict[str, Any]]:
        """OpenAI's image_generation.partial_image, or one .completed for each image; image_edit of an edit."""
        family = "image_edit" if isinstance(self.asked, EditRequest) else "image_generation"
        about = {"created_at": self.created, **self._describe()}
        if isinstance(made, ImagePreview):
            shown = {"b64_json": base64.b64encode(made.data).decode(), "partial_image_index": made.index}
            return [{"type": f"{family}.partial_image", **shown, **about}]
        return [
            {"type": f"{family}.completed", **self._data(image), **about, **self._report(made, (image,))}
            for image in made.images
        ]

    def _describe(self) -> dict[str, Any]:
        identifier = self.task.safety_identifier
        return {
            "size": f"{self.task.width}x{self.task.height}",
            "quality": self.task.quality or AUTO,
            "background": "opaque",
            "output_format": self.task.output_format,
            **({} if identifier is None else {"safety_identifier": identifier}),
        }

    def _data(self, image: GeneratedImage) -> ImageData:
        if image.object is not None:
            return {"url": self.url_of(image.object), "revised_prompt": None}
        return {"b64_json": base64.b64encode(image.data or b"").decode(), "revised_prompt": None}

    def _report(self, result: ImageResult, images: tuple[GeneratedImage, ...]) -> dict[str, Any]:
        """`usage` and `nvext`."""
        report: ImageReport = {
            "id": self.task.id,
            "seeds": [image.seed for image in images],
            "num_inference_steps": result.num_inference_steps,
            "guidance_scale": result.guidance_scale,
            "step_caching": result.step_caching,
            "precision": self.task.precision,
            "adapters": self.task.adapters,
            "inference_time_s": round(result.timing.engine_s, 4),
            "queue_time_s": round(result.timing.queue_s, 4),
            "ignored": list(self.asked.raw.ignored),
        }
        counted = {} if result.prompt_tokens is None else {"usage": self._usage(result.prompt_tokens, len(images))}
        return {**counted, "nvext": report}

    def _usage(self, prompt_tokens: int, images: int) -> ImageUsage:
        patches = math.ceil(self.task.width / PATCH) * math.ceil(self.task.height / PATCH)
        seen, drawn = patches * len(self.task.input_images), patches * images
        return {
            "input_tokens": prompt_tokens + seen,
            "output_tokens": drawn,
            "total_tokens": prompt_tokens + seen + drawn,
            "input_tokens_details": {"text_tokens": prompt_tokens, "image_tokens": seen},
            "output_tokens_details": {"text_tokens": 0, "image_tokens": drawn},
        }
