"""What the HTTP application stands on: settings, storage, jobs and a client for each kind of model.

`handles.py` makes the clients over Ray Serve handles; tests make them over deployment objects in their own process.
Knows neither Ray nor HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from serve_app.ingress.gate import Gate
from serve_app.ingress.idempotency import Idempotency
from serve_app.ingress.load import Load
from serve_app.settings import Settings
from serve_app.tasks import (
    PUBLIC_CALLER,
    ImageEvent,
    ImageResult,
    ImageTask,
    Kind,
    ModelCard,
    TextEvent,
    TextResult,
    TextTask,
)

if TYPE_CHECKING:
    from serve_app.jobs import JobStore
    from serve_app.storage import ObjectStore, URLSigner


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: `owner` is the safe string in keys of the object store, `name` the one for logs and the ledger."""

    owner: str = PUBLIC_CALLER
    name: str = PUBLIC_CALLER


PUBLIC = Caller()


class TextClient(Protocol):
    async def describe(self) -> ModelCard: ...

    async def complete(self, task: TextTask) -> TextResult: ...

    def stream(self, task: TextTask) -> AsyncGenerator[TextEvent, None]:
        """The events of one completion; `aclose()` cancels it."""
        ...


class ImageClient(Protocol):
    async def describe(self) -> ModelCard: ...

    async def generate(self, task: ImageTask) -> ImageResult: ...

    def stream(self, task: ImageTask) -> AsyncGenerator[ImageEvent, None]:
        """Previews, then the ImageResult; `aclose()` cancels it."""
        ...


class VideoClient(Protocol):
    async def describe(self) -> ModelCard: ...

    async def run(self, owner: str, job_id: str) -> None:
        """Runs a stored job; returns when its attempt has ended."""
        ...


Closing = Callable[[], Awaitable[None]]
Readiness = Callable[[], Awaitable[Mapping[Kind, bool]]]
"""Says for each enabled kind whether the replicas that should run are warmed up (scaled to zero counts as ready)."""


async def always_ready() -> Mapping[Kind, bool]:
    """For an application whose models live in its own process: they are warmed up before it starts."""
    return {}


@dataclass(kw_only=True)
class Services:
    """A client is None where its kind is not enabled. `closing` is called when the application ends."""

    settings: Settings
    store: ObjectStore
    jobs: JobStore
    text: TextClient | None = None
    image: ImageClient | None = None
    video: VideoClient | None = None
    signer: URLSigner | None = None
    readiness: Readiness = always_ready
    loads: dict[Kind, Load] = field(default_factory=dict[Kind, Load])
    started_at: float = 0.0
    once: Idempotency = field(init=False)
    gate: Gate = field(init=False, default_factory=Gate)
    closing: list[Closing] = field(init=False, default_factory=list[Closing])

    def served(self, kind: Kind) -> tuple[str, ...]:
        """The names of the models of one kind; none where it is not enabled."""
        model = self.settings.kinds().get(kind)
        return () if model is None else (model.name,)

    def __post_init__(self) -> None:
        self.once = Idempotency(self.store, self.jobs, self.settings.jobs)
        for kind, model in self.settings.kinds().items():
            self.loads.setdefault(kind, Load.of(kind, model))
