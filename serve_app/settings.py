"""The YAML args of the app, as one strict pydantic tree: a misspelt key anywhere is an error.

A profile is a set of overrides below what the user wrote: `resolve` lays the user's keys over the profile's, and both
over the defaults here. This module alone reads the environment; YAML names variables for secrets, never their values.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from serve_app.tasks import KINDS, ImageFormat, Kind

Profile = Literal["auto", "demo", "gpu"]
EngineName = Literal["auto", "diffusers", "sglang"]
Parallel = Literal["auto", "tensor", "cfg", "sequence"]
Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
HOST = re.compile(r"[A-Za-z0-9._-]+|\[?[0-9A-Fa-f:.]+\]?")
ORIGIN = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*://[A-Za-z0-9._-]+(:[0-9]{1,5})?|[A-Za-z]+://\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?"
)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Replicas(Strict):
    """Autoscaling bounds. `target_wait_s` is the wait that the policy promises to waiting work."""

    min: Annotated[int, Field(ge=0)] = 1
    max: Positive = 1
    target_wait_s: Seconds = 30.0
    upscale_delay_s: Annotated[float, Field(ge=0)] = 10.0
    downscale_delay_s: Annotated[float, Field(ge=0)] = 300.0

    @model_validator(mode="after")
    def _ordered(self) -> Replicas:
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) is above max ({self.max})")
        return self


class ModelSettings(Strict):
    """What text, image and video share.

    `model` is a hub id, a local folder or a demo name; callers ask for it as `served_name` (default: `model`).
    `model_id` tells SGLang which native pipeline a local folder holds. `engine_args` go to the engine as they stand.
    `resources` and `labels` tie the replicas to nodes: custom resources they take, Ray node labels they need.
    """

    enabled: bool = True
    model: str = ""
    served_name: str | None = None
    model_id: str | None = None
    engine: EngineName = "auto"
    gpus: Annotated[float, Field(ge=0)] = 0
    cpus: Annotated[float, Field(ge=0)] = 0.1
    parallel: Parallel = "auto"
    replicas: Replicas = Replicas()
    max_queued: Positive = 64
    time_limit_s: Seconds = 600.0
    engine_args: dict[str, Any] = {}
    resources: dict[str, float] = {}
    labels: dict[str, str] = {}

    @field_validator("gpus")
    @classmethod
    def _whole_above_one(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"{gpus} GPUs: a fraction must be below 1, and more than one GPU a whole number")
        return gpus

    @property
    def name(self) -> str:
        """The model name that callers use."""
        return self.served_name or self.model


MAX_MESSAGES = 16384
"""What `limits.messages` may be at most: no more are looked at."""


class TextLimits(Strict):
    prompt_chars: Positive = 32768
    messages: Annotated[int, Field(ge=1, le=MAX_MESSAGES)] = 1024
    max_tokens: Positive = 4096
    n: Positive = 8


class TextDefaults(Strict):
    max_tokens: Positive = 512


class TextSettings(ModelSettings):
    """`algorithm` and `algorithm_config` as SGLang names them; `max_total_tokens` caps the KV cache outright."""

    algorithm: str = "LowConfidence"
    algorithm_config: dict[str, float | int | bool | str] = {}
    max_running_requests: Positive = 32
    max_total_tokens: Positive | None = None
    limits: TextLimits = TextLimits()
    defaults: TextDefaults = TextDefaults()


class ImageLimits(Strict):
    prompt_chars: Positive = 32000
    n: Annotated[int, Field(ge=1, le=10)] = 10
    min_side: Positive = 64
    max_side: Positive = 2048
    steps: Positive = 100


class ImageDefaults(Strict):
    """Used where a caller says nothing, and cut to the limits: `response_format` for requests that name none."""

    width: Positive = 1024
    height: Positive = 1024
    num_inference_steps: Positive = 28
    guidance_scale: Annotated[float, Field(ge=0)] = 3.5
    output_format: ImageFormat = "png"
    response_format: Literal["url", "b64_json"] | None = None


class ImageSettings(ModelSettings):
    """`warm_up_sizes`: the [width, height] pairs that run once before a replica is healthy; empty: the default size."""

    limits: ImageLimits = ImageLimits()
    defaults: ImageDefaults = ImageDefaults()
    warm_up_sizes: tuple[tuple[Positive, Positive], ...] = ()
    allow_fallback: bool = False


class VideoLimits(Strict):
    prompt_chars: Positive = 32000
    min_side: Positive = 64
    max_side: Positive = 1280
    frames: Positive = 161
    fps: Positive = 60
    steps: Positive = 100
    seconds: Seconds = 20.0


class VideoDefaults(Strict):
    width: Positive = 832
    height: Positive = 480
    num_frames: Positive = 81
    fps: Positive = 16
    num_inference_steps: Positive = 50
    guidance_scale: Annotated[float, Field(ge=0)] = 5.0
    negative_prompt: str | None = None


class VideoSettings(ModelSettings):
    """`warm_up_sizes`: [width, height, frames] triples; empty: the default size."""

    limits: VideoLimits = VideoLimits()
    defaults: VideoDefaults = VideoDefaults()
    warm_up_sizes: tuple[tuple[Positive, Positive, Positive], ...] = ()
    allow_fallback: bool = False
    max_attempts: Positive = 3
    time_limit_s: Seconds = 1800.0


class MediaSettings(Strict):
    """Where results go. `root`: file:///folder (default: media/ in the home folder) or s3://bucket/prefix.

    `public_url` replaces the base of every URL in an answer (behind a CDN or proxy). `ttl_s` is the life of a job and
    its files together; `url_ttl_s` that of one presigned or signed URL. `redirect`: /content answers with a 307 to S3.
    `signing_key_env` names the variable that signs local media URLs when API keys are on. `shared` says that `root` is
    a folder that every node mounts (NFS); without it a folder is refused where a cluster has more than one node.
    """

    root: str = ""
    shared: bool = False
    public_url: str | None = None
    redirect: bool = True
    ttl_s: Seconds = 7 * 86400.0
    url_ttl_s: Seconds = 3600.0
    signing_key_env: str = "DIFFUSION_SERVE_SIGNING_KEY"
    provenance: bool = True

    @field_validator("root")
    @classmethod
    def _known_scheme(cls, root: str) -> str:
        if root and not root.startswith(("file:///", "s3://")):
            raise ValueError(f"'{root}': must begin with file:/// or s3://")
        return root.rstrip("/")


class RequestLimits(Strict):
    """Of one HTTP request. Times in seconds, sizes in bytes or pixels.

    `bodies_bytes` bounds the bodies of all requests under way in one ingress process, `text_bytes` what a body holds
    beside files and data URLs, `json_values` the values in a JSON body. An input image has at most `image_pixels`, no
    side above `image_side`, and no side more than `image_aspect` times as long as the other.
    """

    body_bytes: Positive = 32 * 1024 * 1024
    bodies_bytes: Positive = 256 * 1024 * 1024
    text_bytes: Positive = 4 * 1024 * 1024
    json_values: Positive = 50_000
    json_depth: Positive = 32
    form_fields: Positive = 256
    body_timeout_s: Seconds = 60.0
    sync_wait_s: Seconds = 900.0
    image_bytes: Positive = 16 * 1024 * 1024
    image_pixels: Positive = 15_000_000
    image_side: Positive = 8192
    image_aspect: Annotated[float, Field(ge=1)] = 16.0


class FetchSettings(Strict):
    """Fetching of input images by URL. `allow_hosts` are exempt from the address rules (a private image server)."""

    allow_http: bool = False
    allow_hosts: tuple[str, ...] = ()
    timeout_s: Seconds = 10.0
    max_redirects: Annotated[int, Field(ge=0, le=3)] = 3


class AccessSettings(Strict):
    """API keys: `keys_env` names a variable holding `name:key` pairs parted by commas; `keys_file` a file of lines
    `name:sha256-hex`. With either set, every /v1 call needs a key. The rates are per key; None is no limit.

    Without keys only requests for loopback hosts and for `hosts` (names without a port; `*` is any) are answered, and
    none that a web page of another site sends. `cors_origins` (such as https://chat.example.org, or `*`) may call from
    a browser, with keys and without.
    """

    keys_env: str | None = None
    keys_file: str | None = None
    requests_per_minute: Positive | None = None
    concurrency: Positive | None = None
    hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()

    @field_validator("hosts")
    @classmethod
    def _bare_names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if host != "*" and not HOST.fullmatch(host):
                raise ValueError(f"'{host}': a host is a name or an address without scheme and port, or *")
        return tuple(host.lower() for host in hosts)

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin not in ("*", "null") and not ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"'{origin}': an origin is a scheme, a host and perhaps a port, as in https://a.example"
                )
        return tuple(origin.lower() for origin in origins)


class JobSettings(Strict):
    """Times of the durable job machinery, in seconds; a lease or attempt not renewed for `stale_s` is taken over."""

    heartbeat_s: Seconds = 5.0
    stale_s: Seconds = 30.0
    sweep_s: Seconds = 10.0
    cancel_poll_s: Seconds = 0.25

    @model_validator(mode="after")
    def _heard_of_in_time(self) -> JobSettings:
        if self.stale_s < 3 * self.heartbeat_s:
            raise ValueError(
                f"stale_s ({self.stale_s:g}) must be at least three times heartbeat_s ({self.heartbeat_s:g})"
            )
        return self


class LedgerSettings(Strict):
    """The Parquet ledger of every generation, below `media.root`/ledger. Prompts go in only if `prompts`."""

    enabled: bool = True
    prompts: bool = False
    flush_rows: Positive = 500
    flush_s: Seconds = 30.0


class TelemetrySettings(Strict):
    """`otlp_endpoint` (http://host:4318) turns OpenTelemetry spans on; `log_format` is for our loggers alone."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"
    otlp_endpoint: str | None = None


class IngressSettings(Strict):
    """`labels`: the Ray node labels that its replicas, and the sweeper's, need."""

    replicas: Replicas = Replicas()
    cpus: Annotated[float, Field(ge=0)] = 0.2
    max_ongoing_requests: Positive = 1000
    labels: dict[str, str] = {}
    docs: bool = True
    page: bool = True


class Settings(Strict):
    """`instance` is what /health calls this application, so that whoever started it knows it; drawn where left out."""

    profile: Profile = "auto"
    home: str = ""
    instance: Annotated[str, Field(pattern="^[A-Za-z0-9._-]{0,64}$")] = ""
    text: TextSettings = TextSettings()
    image: ImageSettings = ImageSettings()
    video: VideoSettings = VideoSettings()
    media: MediaSettings = MediaSettings()
    limits: RequestLimits = RequestLimits()
    fetch: FetchSettings = FetchSettings()
    access: AccessSettings = AccessSettings()
    jobs: JobSettings = JobSettings()
    ledger: LedgerSettings = LedgerSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    ingress: IngressSettings = IngressSettings()

    def kinds(self) -> dict[Kind, TextSettings | ImageSettings | VideoSettings]:
        """The enabled kinds with their settings."""
        every: dict[Kind, TextSettings | ImageSettings | VideoSettings] = {
            "text": self.text,
            "image": self.image,
            "video": self.video,
        }
        return {kind: every[kind] for kind in KINDS if every[kind].enabled}


DEMO: dict[str, Any] = {
    "text": {
        "model": "demo/llada2-tiny",
        "engine": "diffusers",
        "cpus": 0.2,
        "limits": {"max_tokens": 2048},
        "defaults": {"max_tokens": 128},
    },
    "image": {
        "model": "demo/flux-tiny",
        "engine": "diffusers",
        "cpus": 0.2,
        "limits": {"max_side": 512},
        "defaults": {"width": 256, "height": 256, "num_inference_steps": 8},
    },
    "video": {
        "model": "demo/wan-tiny",
        "engine": "diffusers",
        "cpus": 0.2,
        "limits": {"max_side": 512, "frames": 49},
        "defaults": {"width": 256, "height": 256, "num_frames": 17, "fps": 8, "num_inference_steps": 4},
    },
}
GPU: dict[str, Any] = {
    "text": {"model": "inclusionAI/LLaDA2.0-mini-preview", "engine": "sglang", "gpus": 1, "cpus": 4},
    "image": {"model": "black-forest-labs/FLUX.1-dev", "engine": "sglang", "gpus": 1, "cpus": 4},
    "video": {"model": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "engine": "sglang", "gpus": 1, "cpus": 4},
    "ingress": {"cpus": 1},
}
PROFILES = {"demo": DEMO, "gpu": GPU}


def home_folder() -> Path:
    """`DIFFUSION_SERVE_HOME`, else diffusion-serve in the user's cache folder."""
    if home := os.environ.get("DIFFUSION_SERVE_HOME"):
        return Path(home)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diffusion-serve"


def secret(variable: str | None) -> str | None:
    """The value of an environment variable that the settings name; None where unnamed, unset or empty."""
    return (os.environ.get(variable) or None) if variable else None


@dataclass(frozen=True, slots=True)
class S3Access:
    """How to reach S3. Without a key, botocore's own chain finds one (profile, web identity, instance role)."""

    endpoint_url: str | None = None
    key: str | None = None
    secret: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    region: str | None = None


def s3_access() -> S3Access:
    """S3's endpoint and credentials from AWS's variables, else from FSSPEC_S3_KEY, _SECRET and _ENDPOINT_URL."""
    read = os.environ.get
    endpoint = read("AWS_ENDPOINT_URL_S3") or read("AWS_ENDPOINT_URL") or read("FSSPEC_S3_ENDPOINT_URL") or None
    region = read("AWS_REGION") or read("AWS_DEFAULT_REGION") or None
    if read("AWS_ACCESS_KEY_ID"):
        key, hidden, token = read("AWS_ACCESS_KEY_ID"), read("AWS_SECRET_ACCESS_KEY"), read("AWS_SESSION_TOKEN")
    else:
        key, hidden, token = read("FSSPEC_S3_KEY"), read("FSSPEC_S3_SECRET"), read("FSSPEC_S3_TOKEN")
    return S3Access(endpoint, key or None, hidden or None, token or None, region)


def resolve(written: Settings, profile: Literal["demo", "gpu"]) -> Settings:
    """`written` with every key that the user left out filled from `profile` and this machine's folders."""
    raw = _laid_over(PROFILES[profile], written.model_dump(exclude_unset=True))
    raw["profile"] = profile
    raw["home"] = raw.get("home") or str(home_folder())
    media = raw.setdefault("media", {})
    media["root"] = media.get("root") or (Path(raw["home"]).absolute() / "media").as_uri()
    return Settings.model_validate(raw)


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        # free-form mappings (algorithm_config, engine_args) have no profile defaults, so merging them is harmless
        merged[key] = _laid_over(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged
