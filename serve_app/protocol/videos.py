"""The wire models of /v1/videos: OpenAI's video API and NVIDIA Dynamo's, served by one object.

Pure: turns a request into a VideoTask and a job into what a caller sees. Knows no HTTP framework, no storage and no
engine: where a result can be fetched comes in as a function.
"""

import re
from collections.abc import Container, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field
from pydantic.json_schema import SkipJsonSchema
from typing_extensions import Unpack

from serve_app.errors import GenerationFailed, InvalidRequest, ServeError
from serve_app.jobs.records import Job, JobError, Status
from serve_app.jobs.store import Page
from serve_app.model_settings import VideoLimits, VideoSettings
from serve_app.protocol.common import (
    AUTO,
    SIDE,
    Bound,
    Count,
    DiffusionExtension,
    DiffusionRequest,
    Guidance,
    Wire,
    check_adapter,
    check_bounds,
    check_not_blank,
    optional,
)
from serve_app.protocol.images import Reference, URLOf
from serve_app.tasks import Adapter, Origin, Precision, VideoTask

NOT_SERVED = "The model '{model}' is not served at present. The job waits for it until it expires."
Digits = Annotated[str, Field(pattern=r"^[0-9]{1,4}$")]


def _as_number(value: Any) -> Any:
    return int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,4}", value) else value


WholeSeconds = Annotated[
    Count | None,
    BeforeValidator(_as_number, json_schema_input_type=Count | Digits | None),
    Bound("seconds"),
]


class VideoNvExt(DiffusionExtension):
    """Dynamo's `nvext` of a video request."""

    OF_FAMILIES = ("flow_shift",)

    width: Annotated[Count | None, SIDE] = optional("Pixels, even; with height it wins over size.")
    fps: Annotated[Count | None, Bound("fps", default="fps")] = optional("Frames a second.")
    num_frames: Annotated[Count | None, Bound("frames", default="num_frames")] = optional("Wins over seconds x fps.")
    boundary_ratio: Annotated[float, Field(ge=0, le=1)] | None = optional(
        "Where a two-expert model changes expert; 400 for others."
    )
    guidance_scale_2: Guidance | None = optional("Guidance of a two-expert model's low-noise expert; 400 for others.")
    flow_shift: Annotated[float, Field(gt=0, le=100)] | None = optional(
        "How long Wan stays at high noise: more for larger videos; 400 for others."
    )


class VideoRequest(DiffusionRequest):
    """The body of POST /v1/videos and /v1/videos/sync."""

    FILES = ("input_reference", "last_frame")
    ELSEWHERE: ClassVar = {
        **dict.fromkeys(("image", "images", "image_url", "mask"), "the first frame is given as input_reference."),
        "video": "no model here changes a video.",
    }

    seconds: WholeSeconds = optional("Length in whole seconds, as a number or a string.")
    input_reference: Reference | None = optional("The first frame: an https or data URL, or in multipart an upload.")
    last_frame: Reference | None = optional(
        "The last frame, given as input_reference is, for models that go from one to the other."
    )
    response_format: Literal["url", "b64_json"] | None = None
    output_format: Literal["mp4"] | None = None
    nvext: VideoNvExt | None = None

    def to_task(self, settings: VideoSettings, frames: Mapping[str, str] = {}, **origin: Unpack[Origin]) -> VideoTask:
        """A task with every default filled and the seed drawn. Raises InvalidRequest that names the limit.

        `frames` are the keys of the images that it is made from, by the names of their fields.
        """
        limits, defaults = settings.limits, settings.defaults
        asked = self.nvext or VideoNvExt()
        size = self.asked_size(limits)
        shared = self.shared_fields(settings, asked, size or (defaults.width, defaults.height))
        if size:
            _check_even("size", limits, *size)
        for name, side in (("width", asked.width), ("height", asked.height)):
            if side is not None:
                _check_even(self.place(name), limits, side)
        if asked.negative_prompt:
            check_not_blank(self.place("negative_prompt"), asked.negative_prompt)
        fps = asked.fps or min(defaults.fps, limits.fps)
        return VideoTask(
            **origin,
            **shared,
            num_frames=self._frames(fps, limits) or min(defaults.num_frames, limits.frames),
            fps=fps,
            negative_prompt=defaults.negative_prompt if asked.negative_prompt is None else asked.negative_prompt,
            guidance_scale_2=asked.guidance_scale_2,
            boundary_ratio=asked.boundary_ratio,
            input_key=frames.get("input_reference"),
            last_frame_key=frames.get("last_frame"),
        )

    def _frames(self, fps: int, limits: VideoLimits) -> int:
        """0 where the caller named neither a number of frames nor seconds."""
        if self.nvext and self.nvext.num_frames:
            return self.nvext.num_frames
        frames = (self.seconds or 0) * fps
        if frames > limits.frames:
            said = f"is {self.seconds}: {frames} frames at {fps} a second; at most {limits.frames} are allowed here"
            raise InvalidRequest(f"'seconds' {said} (limits.frames).", param="seconds")
        return frames


class ListQuery(Wire):
    """The query of GET /v1/videos."""

    after: Annotated[str, Field(pattern=r"^video_[0-9a-f]{32}$")] | SkipJsonSchema[None] = optional(
        "The last id of the page before."
    )
    limit: int = Field(default=20, ge=1, le=100)
    order: Literal["asc", "desc"] = Field(default="desc", description="By the time of creation.")


class ContentQuery(Wire):
    """The query of GET /v1/videos/{id}/content."""

    variant: Literal["video", "thumbnail", "spritesheet"] = "video"


class RemixRequest(Wire):
    """The body of POST /v1/videos/{id}/remix."""

    prompt: Annotated[str, Bound("prompt_chars")] = Field(min_length=1)


def check_stored(task: VideoTask, settings: VideoSettings) -> None:
    """Raises InvalidRequest if a stored task exceeds today's settings, which may have changed since."""
    for model in (VideoRequest, VideoNvExt):
        check_bounds(model, task, settings.limits, str)
    check_not_blank("prompt", task.prompt)
    for adapter in task.adapters:
        check_adapter(settings, adapter.name, "nvext.adapters")


def _check_even(param: str, limits: VideoLimits, *sides: int) -> None:
    """H.264 in yuv420p keeps one colour for 2x2 pixels: sides must be even."""
    if any(side % 2 for side in sides):
        given = "x".join(str(side) for side in sides)
        most = limits.max_side - limits.max_side % 2
        even = "x".join(str(min(side + side % 2, most)) for side in sides)
        raise InvalidRequest(f"'{param}' is {given}; a video's sides are even, and the nearest is {even}.", param=param)


# --- what a caller sees ---------------------------------------------------------------------------------------------


class VideoData(BaseModel):
    """Dynamo's item of `data`: exactly one of `url` and `b64_json` is set. `thumbnail_url` shows its first frame."""

    output_format: Literal["mp4"] = "mp4"
    fps: int
    url: str | None = None
    b64_json: str | None = None
    thumbnail_url: str


class VideoFacts(BaseModel):
    """`nvext` of an answer: what was really used, enough to make the same video again.

    Steps and guidance are null until a job has ended whose caller left them to the model.
    """

    seed: int
    fps: int
    num_frames: int
    num_inference_steps: int | None
    guidance_scale: float | None
    quality: str
    step_caching: str | None
    precision: Precision | None
    adapters: tuple[Adapter, ...]
    queue_time_s: float | None = None


class Video(BaseModel):
    """A video job: OpenAI's fields, and Dynamo's `created`, `data` and `inference_time_s`. Times are Unix seconds."""

    id: str
    object: Literal["video"] = "video"
    model: str
    status: Status
    progress: int = Field(ge=0, le=100, description="Percent of its denoising steps: 0 before the first one has ended.")
    created_at: int
    completed_at: int | None
    expires_at: int | None
    seconds: str
    size: str
    prompt: str
    remixed_from_video_id: str | None
    error: JobError | None
    status_message: str | None = Field(description="Why a queued job does not begin, where that is known.")
    created: int
    data: list[VideoData]
    inference_time_s: float | None
    nvext: VideoFacts

    @classmethod
    def from_job(cls, job: Job, url_of: URLOf, served: Container[str], b64_json: str | None = None) -> Self:
        """`url_of` says where the file can be fetched; with `b64_json` the file itself stands in `data` instead.

        `served` holds the ids of the models that are served here.
        """
        task, result = job.task, job.result
        waits = task.model not in served and not job.finished
        # releases before this one told steps and guidance in the task alone
        used = result if result and result.num_inference_steps else task
        data: list[VideoData] = []
        if result:
            url = url_of(result.video) if b64_json is None else None
            data = [VideoData(fps=task.fps, url=url, b64_json=b64_json, thumbnail_url=url_of(result.thumbnail))]
        return cls(
            id=job.id,
            model=task.model,
            status=job.status,
            progress=job.progress,
            created_at=int(job.created_at),
            completed_at=int(job.completed_at) if job.completed_at else None,
            expires_at=int(job.expires_at) if job.expires_at else None,
            seconds=f"{task.num_frames / task.fps:.3f}".rstrip("0").rstrip("."),
            size=f"{task.width}x{task.height}",
            prompt=task.prompt,
            remixed_from_video_id=job.remixed_from,
            error=job.error,
            status_message=NOT_SERVED.format(model=task.model) if waits else None,
            created=int(job.created_at),
            data=data,
            inference_time_s=round(result.timing.engine_s, 3) if result else None,
            nvext=VideoFacts(
                seed=task.seed,
                fps=task.fps,
                num_frames=task.num_frames,
                num_inference_steps=used.num_inference_steps,
                guidance_scale=used.guidance_scale,
                quality=task.quality or AUTO,
                step_caching=task.step_caching.method if task.step_caching else None,
                precision=task.precision,
                adapters=task.adapters,
                queue_time_s=round(result.timing.queue_s, 3) if result else None,
            ),
        )


class VideoList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def from_page(cls, page: Page, url_of: URLOf, served: Container[str]) -> Self:
        videos = [Video.from_job(job, url_of, served) for job in page.jobs]
        ids = [video.id for video in videos] or [None]
        return cls(data=videos, first_id=ids[0], last_id=ids[-1], has_more=page.has_more)


class VideoDeleted(BaseModel):
    id: str
    deleted: Literal[True] = True
    object: Literal["video.deleted"] = "video.deleted"


def failure_of(job: Job) -> ServeError:
    """The error that a synchronous caller gets for a failed job: of the class with its code, naming the job."""
    assert job.error is not None, "only a failed job has an error"
    code = job.error.code
    kind = next((error for error in _errors(ServeError) if error.code == code), GenerationFailed)
    return kind(f"Video '{job.id}' failed: {job.error.message}")


def _errors(base: type[ServeError]) -> list[type[ServeError]]:
    return [base, *(error for below in base.__subclasses__() for error in _errors(below))]
