"""The YAML args of the app, as one strict pydantic tree: a misspelt key anywhere is an error.

`resolve` lays the user's keys over the profile's, and both over the defaults here. YAML names variables for secrets,
never their values. The text below a field is its line in what `diffusion-serve settings` prints.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, field_validator, model_validator

from serve_app.environment import home_folder
from serve_app.model_settings import AnyModel, ModelName, Positive, Replicas, Seconds, Strict, WrittenModel
from serve_app.profiles import PROFILES, laid_over
from serve_app.tasks import KINDS, Kind
from serve_app.telemetry import TelemetrySettings

Profile = Literal["auto", "demo", "gpu"]
HOST = re.compile(r"\*|[A-Za-z0-9._-]+|\[?[0-9A-Fa-f:.]+\]?")
ORIGIN = re.compile(r"\*|null|[A-Za-z][A-Za-z0-9+.-]*://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
OF_ONE_MODEL = ("trust_remote_code", "quality", "num_inference_steps", "guidance_scale")
"""Keys that a profile sets for its own model only, not for other models of that kind."""
RESERVED = ("ingress", "sweeper")
"""The names of the deployments that hold no model."""


class MediaSettings(Strict):
    """Where results go."""

    root: str = ""
    """file:///folder or s3://bucket/prefix; empty: media/ below `home`"""
    shared: bool = False
    """`root` is a folder that every node mounts; without it a cluster of several nodes refuses a folder"""
    public_url: str | None = None
    """replaces the base of every URL in an answer, for a CDN or proxy before the store"""
    redirect: bool = True
    """/content answers with a redirect to S3; false: passes the bytes on"""
    ttl_s: Seconds = 7 * 86400.0
    """how long a job and its files are kept"""
    url_ttl_s: Seconds = 3600.0
    """how long a signed URL works"""
    signing_key_env: str = "DIFFUSION_SERVE_SIGNING_KEY"
    """the variable with the key that signs local URLs, where API keys are on"""
    provenance: bool = True
    """write model, seed and parameters into the files"""
    mode: Annotated[int, Field(ge=0o600, le=0o777)] = 0o600
    """mode of media files in a folder: "0640" lets a web server of our group read them"""

    @field_validator("mode", mode="before")
    @classmethod
    def _octal(cls, mode: object) -> object:
        """The mode as text, as chmod takes it. YAML reads 0640 as a number."""
        text = mode.removeprefix("0o") if isinstance(mode, str) else f"{mode:o}" if isinstance(mode, int) else ""
        if not re.fullmatch("0?[67][0-7]{2}", text):
            raise ValueError('must be the octal mode of a file that we can read and write, such as "0640"')
        return int(text, 8)

    @field_validator("root")
    @classmethod
    def _known_scheme(cls, root: str) -> str:
        if root and not root.startswith(("file:///", "s3://")):
            raise ValueError(f"'{root}': must begin with file:/// or s3://")
        return root


class RequestLimits(Strict):
    """Limits of one HTTP request. Times in seconds, sizes in bytes or pixels."""

    body_bytes: Positive = 32 * 1024 * 1024
    bodies_bytes: Positive = 256 * 1024 * 1024
    """all bodies that one ingress process holds at once"""
    text_bytes: Positive = 4 * 1024 * 1024
    """of a body beside files and data URLs"""
    json_values: Positive = 50_000
    json_depth: Positive = 32
    """how deep objects and lists may be nested"""
    form_fields: Positive = 256
    body_timeout_s: Seconds = 60.0
    """how long a body may take to arrive"""
    sync_wait_s: Seconds = 900.0
    """how long a synchronous video request waits; its job continues"""
    image_bytes: Positive = 16 * 1024 * 1024
    """of an input image"""
    image_pixels: Positive = 15_000_000
    image_side: Positive = 8192
    image_aspect: Annotated[float, Field(ge=1)] = 16.0
    """the longer side over the shorter"""


class FetchSettings(Strict):
    """How input images are fetched by URL."""

    allow_http: bool = False
    allow_hosts: tuple[str, ...] = ()
    """hosts that may have private addresses, such as an image server of yours"""
    timeout_s: Seconds = 10.0
    max_redirects: Annotated[int, Field(ge=0, le=3)] = 3


class AccessSettings(Strict):
    """API keys: with either of the first two set, every /v1 call needs one. The rates are per key."""

    keys_env: str | None = None
    """a variable that holds name:key,name:key"""
    keys_file: str | None = None
    """a file with lines of name:sha256-of-the-key"""
    requests_per_minute: Positive | None = None
    """null: no limit"""
    concurrency: Positive | None = None
    """null: no limit"""
    hosts: tuple[str, ...] = ()
    """without keys: names beside localhost that are answered to; "*" is any"""
    cors_origins: tuple[str, ...] = ()
    """web pages that may call, such as https://chat.example.org; "*" is any"""

    @field_validator("hosts")
    @classmethod
    def _bare_names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not HOST.fullmatch(host):
                raise ValueError(f"'{host}': a host is a name or an address without scheme and port, or *")
        return tuple(host.lower() for host in hosts)

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not ORIGIN.fullmatch(origin):
                form = "a scheme, a host and perhaps a port, as in https://a.example"
                raise ValueError(f"'{origin}': an origin is {form}")
        return tuple(origin.lower() for origin in origins)


class JobSettings(Strict):
    """The bookkeeping of video jobs."""

    max_attempts: Positive = 3
    """how often a job is tried in all if its replica dies"""
    heartbeat_s: Seconds = 5.0
    stale_s: Seconds = 30.0
    """a job without a heartbeat for this long is taken over; at least three heartbeats"""
    sweep_s: Seconds = 10.0
    """how often the sweeper looks for lost jobs"""
    cancel_poll_s: Seconds = 1.0
    """how often a replica looks whether its job was cancelled"""

    @model_validator(mode="after")
    def _heard_of_in_time(self) -> Self:
        if self.stale_s < 3 * self.heartbeat_s:
            raise ValueError(
                f"stale_s ({self.stale_s:g}) must be at least three times heartbeat_s ({self.heartbeat_s:g})"
            )
        return self


class LedgerSettings(Strict):
    """A Parquet row for every generation, below `media.root`; `diffusion-serve usage` sums them."""

    enabled: bool = True
    prompts: bool = False
    """keep prompts in the rows"""
    flush_rows: Positive = 500
    flush_s: Seconds = 30.0


class IngressSettings(Strict):
    """The HTTP ingress."""

    replicas: Replicas = Replicas()
    cpus: Annotated[float, Field(ge=0)] = 0.2
    """CPUs a replica reserves"""
    max_ongoing_requests: Positive = 1000
    labels: dict[str, str] = Field(default_factory=dict[str, str])
    """labels of the Ray nodes it may run on, and the sweeper of jobs"""
    docs: bool = True
    """/docs"""
    page: bool = True
    """the page for people at /"""


class Settings(Strict):
    """The `args` of the application."""

    profile: Profile = "auto"
    """auto: gpu where the Ray cluster has GPUs and sglang is installed, else demo: small models on the CPU"""
    home: str = ""
    """checkpoints and local media; empty: DIFFUSION_SERVE_HOME, else the user's cache folder"""
    instance: Annotated[str, Field(pattern="^[A-Za-z0-9._-]{0,64}$")] = ""
    """the id that /health shows; empty: random"""
    models: dict[ModelName, WrittenModel | None] = Field(default_factory=dict[ModelName, WrittenModel | None])
    """by name; text, image and video exist unless null; any other name needs `kind` and `model`"""
    media: MediaSettings = MediaSettings()
    limits: RequestLimits = RequestLimits()
    fetch: FetchSettings = FetchSettings()
    access: AccessSettings = AccessSettings()
    jobs: JobSettings = JobSettings()
    ledger: LedgerSettings = LedgerSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    ingress: IngressSettings = IngressSettings()

    @property
    def served(self) -> dict[str, AnyModel]:
        """The models that are not null, by name."""
        return {name: model for name, model in self.models.items() if model is not None}

    def default_model(self, kind: Kind) -> AnyModel | None:
        """The model of a request that names none: the only one of the kind, else the one named after the kind."""
        models = {name: model for name, model in self.served.items() if model.kind == kind}
        return next(iter(models.values())) if len(models) == 1 else models.get(kind)

    @model_validator(mode="before")
    @classmethod
    def _refuse_kinds_outside_models(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and (old := {kind: raw[kind] for kind in KINDS if kind in raw}):
            raise ValueError(_new_spelling(old))
        return raw

    @field_validator("models", mode="before")
    @classmethod
    def _know_kinds_by_name(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        return {
            name: {"kind": name, **model} if name in KINDS and isinstance(model, dict) else model
            for name, model in raw.items()
        }

    @field_validator("models")
    @classmethod
    def _fit_together(cls, models: dict[str, AnyModel | None]) -> dict[str, AnyModel | None]:
        if wrong := list(_model_problems(models)):
            raise ValueError("; ".join(wrong))
        return models


def _new_spelling(old: dict[str, Any]) -> str:
    """What to write instead of the keys that stood beside `media` before models became a mapping."""
    models: dict[str, Any] = {}
    for kind, written in old.items():
        keys = dict(written) if isinstance(written, dict) else {}
        models[kind] = keys if keys.pop("enabled", True) is not False else None
    new = yaml.safe_dump({"models": models}, default_flow_style=True, sort_keys=False, width=10**6).strip()
    named = ", ".join(f"'{kind}'" for kind in old)
    return f"models are a mapping now; instead of {named} write {new.removeprefix('{').removesuffix('}')}"


def _model_problems(models: Mapping[str, AnyModel | None]) -> Iterator[str]:
    ids: dict[str, str] = {}
    for name, model in models.items():
        if name in RESERVED:
            yield f"{name}: this name is taken by a deployment that holds no model"
        if model is None:
            continue
        if name in KINDS and model.kind != name:
            yield f"{name}: a model of this name is of kind {name}, not {model.kind}"
        if name not in KINDS and not model.model:
            yield f"{name}: state its model, a hub id or a local folder"
        for index, id in enumerate(model.ids):
            place = f"{name}.adapters.{id}" if index else name
            # the profile names the model where the operator does not
            if id and (other := ids.setdefault(id, place)) != place:
                remedy = "give the adapter another name" if index else "give it another served_name"
                yield f"{place}: callers would ask for it as '{id}', as for {other}: {remedy}"
    if all(kind in models for kind in KINDS) and not any(models.values()):
        yield "all of them are null: nothing to serve"


def resolve(written: Settings, profile: Literal["demo", "gpu"]) -> Settings:
    """`written` with every key that the user left out filled from `profile` and this machine's folders."""
    raw = written.model_dump(exclude_unset=True)
    models = _with_profile(raw.get("models", {}), PROFILES[profile]["models"])
    raw = laid_over(PROFILES[profile], raw) | {"models": models, "profile": profile}
    raw["home"] = raw.get("home") or str(home_folder())
    media = raw.setdefault("media", {})
    media["root"] = media.get("root") or (Path(raw["home"]).absolute() / "media").as_uri()
    return Settings.model_validate(raw)


def _with_profile(written: dict[str, Any], by_kind: dict[str, Any]) -> dict[str, Any]:
    """Every model that is not null, the profile's keys for its kind below its own."""
    models: dict[str, Any] = {}
    for name, model in ({kind: {} for kind in KINDS} | written).items():
        if model is not None:
            below = by_kind[model.get("kind", name)]
            named = model.get("model", below["model"] if name in KINDS else "")
            if named != below["model"]:
                below = _for_any_model(below)
            if model.get("engine", below["engine"]) != below["engine"]:  # another engine knows other presets
                below = {key: value for key, value in below.items() if key != "quality"}
            models[name] = laid_over(below, model) | {"model": named}
            if presets := below.get("quality", {}) | model.get("quality", {}):  # each of them is taken whole
                models[name]["quality"] = presets
    return models


def _for_any_model(below: dict[str, Any]) -> dict[str, Any]:
    """A profile's keys without those that hold for its own model alone: another's must be stated for it."""
    defaults = {key: value for key, value in below.get("defaults", {}).items() if key not in OF_ONE_MODEL}
    return {key: value for key, value in below.items() if key not in OF_ONE_MODEL} | {"defaults": defaults}
