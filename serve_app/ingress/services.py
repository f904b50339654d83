"""What the HTTP application uses: settings, storage, jobs and the served models.

`serve_app/handles.py` makes the clients over Ray Serve handles; tests make them over deployment objects in their own
process. Knows neither Ray nor HTTP.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from serve_app.errors import InvalidRequest, ModelNotFound
from serve_app.ingress.idempotency import Idempotency
from serve_app.ingress.quotas import Gate
from serve_app.jobs.store import JobStore
from serve_app.model_settings import ImageSettings, TextSettings, VideoSettings
from serve_app.protocol.errors import SHOWN_CHARS
from serve_app.settings import Settings
from serve_app.storage.base import ObjectStore
from serve_app.tasks import PUBLIC_CALLER, ImageResult, Kind, ModelCard, TextEnd
from serve_app.waiting import follow
from serve_app.work import Load, work_of


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: `owner` is the safe string in keys of the object store, `name` the one for logs and the ledger."""

    owner: str = PUBLIC_CALLER
    name: str = PUBLIC_CALLER


PUBLIC = Caller()


class ModelClient(Protocol):
    """What a model does. Its kind says which tasks it takes, and what they become: text and images are generated at
    once, videos as stored jobs.
    """

    async def describe(self) -> ModelCard: ...

    async def generate(self, task: Any) -> Any:
        """The result of a TextTask or ImageTask."""
        ...

    def stream(self, task: Any) -> AsyncGenerator[Any, None]:
        """The events of a TextTask or ImageTask, the last of which ends it; `aclose()` cancels it."""
        ...

    async def run(self, owner: str, job_id: str) -> None:
        """Runs a stored job; returns when its attempt has ended."""
        ...


T = TypeVar("T")
S = TypeVar("S", TextSettings, ImageSettings, VideoSettings)


@dataclass
class ServedModel(Generic[S]):
    """A model that callers can ask for, at first with no work under way. `name` is that of its deployment."""

    name: str
    settings: S
    client: ModelClient
    load: Load = field(init=False)

    def __post_init__(self) -> None:
        self.load = Load.of(self.settings)

    @property
    def id(self) -> str:
        """What callers ask for."""
        return self.settings.id

    async def generate(self, tasks: Sequence[Any]) -> list[Any]:
        """Runs all tasks at the same time and returns their results. If one fails, the others are cancelled."""
        with self._admit(tasks):
            results = await run_together(self.client.generate(task) for task in tasks)
        for task, result in zip(tasks, results, strict=True):
            self.load.costs.observe(work_of(task), result.timing.engine_s)
        return results

    async def stream(self, tasks: Sequence[Any]) -> AsyncGenerator[tuple[int, Any], None]:
        """The events of all tasks as they come, each with the number of its task; closing it cancels them all."""

        async def run(index: int, emit: Callable[[tuple[int, Any]], None]) -> None:
            async for made in self.client.stream(tasks[index]):
                if isinstance(made, TextEnd | ImageResult):
                    self.load.costs.observe(work_of(tasks[index]), made.timing.engine_s)
                emit((index, made))

        async def run_all(emit: Callable[[tuple[int, Any]], None]) -> None:
            await run_together(run(index, emit) for index in range(len(tasks)))

        with self._admit(tasks):
            async with aclosing(follow(run_all)) as events:
                async for event in events:
                    yield event

    def _admit(self, tasks: Sequence[Any]) -> ExitStack:
        """Admits all tasks, or none: then it raises QueueFull."""
        with ExitStack() as stack:
            for task in tasks:
                stack.enter_context(self.load.admit(work_of(task)))
            return stack.pop_all()


async def run_together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Runs all of it at the same time. If one fails, the others are cancelled and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(each) for each in work]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return [task.result() for task in running]


AnyServed = ServedModel[Any]
ServedVideo = ServedModel[VideoSettings]

WHAT_IT_MAKES: Mapping[Kind, str] = {
    "text": "writes text: POST /v1/chat/completions",
    "image": "makes images: POST /v1/images/generations",
    "video": "makes videos: POST /v1/videos",
}


class ModelState(NamedTuple):
    """The state of a model's deployment. `asleep`: scaled to zero; the next request wakes it."""

    state: Literal["ready", "asleep", "starting", "failed"]
    replicas: int


Readiness = Callable[[], Awaitable[Mapping[str, ModelState]]]
"""Gives the state of each model by deployment name."""


@dataclass(kw_only=True)
class Services:
    """`models` by their own ids, without those of adapters. `closing` is called when the application ends."""

    settings: Settings
    store: ObjectStore
    jobs: JobStore
    models: Mapping[str, AnyServed]
    readiness: Readiness | None = None
    """None for models in the same process, which are warmed up before the application starts."""
    started_at: float = 0.0
    once: Idempotency = field(init=False)
    gate: Gate = field(init=False, default_factory=Gate)
    closing: list[Callable[[], Awaitable[None]]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.once = Idempotency(self.store, self.jobs, self.settings.jobs)

    def of(self, kind: type[S]) -> dict[str, ServedModel[S]]:
        """The models with such settings by every id that callers may ask for: an adapter's leads to its model."""
        models = [model for model in self.models.values() if isinstance(model.settings, kind)]
        return {id: model for model in models for id in model.settings.ids}

    def choose(self, kind: type[S], asked: str | None) -> ServedModel[S]:
        """The model that a request means: the one it asks for, else the only one, else the one named after the kind.

        Raises ModelNotFound that lists what could be asked for, and InvalidRequest for a model of another kind.
        """
        models = self.of(kind)
        if asked is None:
            default = self.settings.default_model(kind.model_fields["kind"].default)
            asked = default.id if default else ""
        if asked in models:
            return models[asked]
        if other := next((model for model in self.models.values() if asked in model.settings.ids), None):
            raise InvalidRequest(f"'{asked}' {WHAT_IT_MAKES[other.settings.kind]}.", param="model")
        raise ModelNotFound.of(asked[:SHOWN_CHARS], models)
