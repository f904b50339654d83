"""/v1/videos: everything is a job, and a synchronous request waits on one."""

import asyncio
import base64
import math
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from functools import partial

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from serve_app.capabilities import refuse_what_it_lacks, requirements_of
from serve_app.errors import InvalidRequest, NotFound, ObjectNotFound, TimedOut
from serve_app.ingress.answers import json_answer, server_timing, url_of
from serve_app.ingress.body import origin_of, read_image, read_query, read_request
from serve_app.ingress.dispatch import Dispatcher
from serve_app.ingress.endpoints import EVENTS, JSON, Endpoint
from serve_app.ingress.events import EventStream, event
from serve_app.ingress.files import file_answer
from serve_app.ingress.services import Services
from serve_app.jobs.records import Job, input_keys, new_job_id
from serve_app.model_settings import VideoSettings
from serve_app.protocol import videos as wire
from serve_app.protocol.reply_mode import ReplyMode, choose_reply_mode
from serve_app.tasks import StoredObject

EVENTS_POLL_S = 0.5
READS = (400, 404, 500, 503)
NOT_HERE = ("edits", "extensions", "characters", "generations")
"""Words in paths of OpenAI and other servers that are no video ids."""
ANY = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]


def endpoints(services: Services) -> list[Endpoint]:
    videos = Videos(services)
    one = "/v1/videos/{id}"
    get, post, delete = (partial(Endpoint, method, tag="Videos", errors=READS) for method in ("GET", "POST", "DELETE"))
    prompt = {"prompt": "A sunset over the ocean"}
    create = partial(post, body=wire.VideoRequest, headers=("Prefer",))
    return [
        create(
            "/v1/videos",
            videos.create,
            "A video: as a job, or synchronously",
            example={**prompt, "response_format": "url"},
            answers={JSON: wire.Video, EVENTS: None},
        ),
        create(
            "/v1/videos/sync",
            videos.create_sync,
            "A video: the MP4 itself",
            example=prompt,
            answers={"video/mp4": None, JSON: wire.Video},
        ),
        get("/v1/videos", videos.list, "Your videos, newest first", {JSON: wire.VideoList}, query=wire.ListQuery),
        get(one, videos.get, "A video's job", {JSON: wire.Video}),
        delete(one, videos.delete, "Delete a video's job and files; cancels one that runs", {JSON: wire.VideoDeleted}),
        get(
            f"{one}/content",
            videos.content,
            "The file: the video, its thumbnail or its spritesheet",
            query=wire.ContentQuery,
            answers={"video/mp4": None, "image/webp": None, "image/jpeg": None},
            headers=("Range",),
            errors=(*READS, 416),
            also={206: "A part of the file", 304: "Not modified", 307: "Where the file lies"},
        ),
        post(f"{one}/cancel", videos.cancel, "Cancel a video; one that has ended stays as it is", {JSON: wire.Video}),
        post(
            f"{one}/remix",
            videos.remix,
            "The same parameters with another prompt",
            body=wire.RemixRequest,
            example={"prompt": "A sunrise over the ocean"},
            answers={JSON: wire.Video},
        ),
        get(f"{one}/events", videos.events, "Progress until the end, as server-sent events", {EVENTS: None}),
    ]


def dead_ends() -> list[Route]:
    """Paths of OpenAI and other servers that we lack. Without these routes they would be read as video ids."""
    return [Route(f"/v1/videos/{word}", not_here, methods=ANY) for word in NOT_HERE]


class Videos:
    """The handlers. There is one instance per ingress process, because it holds the dispatcher."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.settings
        self._jobs = services.jobs
        self._models = services.of(VideoSettings)
        self._dispatcher = Dispatcher(services.store, services.jobs, self._models, services.settings.jobs)
        services.closing.append(self._dispatcher.close)

    async def create(self, request: Request) -> ASGIApp:
        asked, mode = await self._parsed(request)
        job = await self._new_job(request, asked)
        if mode.kind == "events":
            return EventStream(self._progress(request, job, mode.wait_s, asked.response_format))
        if mode.kind == "wait":
            job = await self._ended(job, mode)
        return await self._answer(request, job, mode, asked.response_format)

    async def create_sync(self, request: Request) -> ASGIApp:
        asked, mode = await self._parsed(request)
        if asked.stream:
            raise InvalidRequest("'stream' is for /v1/videos; this answers with the video itself.", param="stream")
        patience = mode if mode.patient else ReplyMode("wait", self._settings.limits.sync_wait_s)
        job = await self._ended(await self._new_job(request, asked), patience)
        if job.result is None:
            return await self._answer(request, job, patience)
        data = await self._services.store.get(job.result.video.key)
        # what the JSON answer would say
        headers = {
            "x-job-id": job.id,
            "x-job-model": job.task.model,
            "x-job-seed": str(job.task.seed),
            "x-job-inference-time-s": f"{job.result.timing.engine_s:.3f}",
            "server-timing": server_timing(job.result.timing),
        }
        return Response(data, media_type=job.result.video.content_type, headers=headers)

    async def list(self, request: Request) -> Response:
        query = read_query(request, wire.ListQuery)
        page = await self._jobs.list(_owner(request), after=query.after, limit=query.limit, order=query.order)
        videos = wire.VideoList.from_page(page, partial(url_of, self._services, request), self._models)
        return json_answer(videos.model_dump())

    async def get(self, request: Request) -> Response:
        return await self._answer(request, await self._job(request))

    async def delete(self, request: Request) -> Response:
        id = request.path_params["id"]
        await self._jobs.delete(_owner(request), id)
        self._dispatcher.drop(id)
        return json_answer(wire.VideoDeleted(id=id).model_dump())

    async def cancel(self, request: Request) -> Response:
        job = await self._jobs.cancel(_owner(request), request.path_params["id"])
        if job.started_at is None:  # a running job keeps its place until the engine has stopped
            self._dispatcher.drop(job.id)
        return await self._answer(request, job)

    async def remix(self, request: Request) -> Response:
        source = await self._job(request)
        asked = await read_request(request, wire.RemixRequest, self._settings.limits)
        model = self._services.choose(VideoSettings, source.task.model)
        wire.check_stored(replace(source.task, prompt=asked.prompt), model.settings)
        id = new_job_id()
        of_frames = zip(("input_key", "last_frame_key"), input_keys(_owner(request), id), strict=True)
        keys = {name: key for name, key in of_frames if getattr(source.task, name)}
        task = replace(source.task, **origin_of(request, id), prompt=asked.prompt, **keys)
        frames = {key: await self._services.store.get(getattr(source.task, name)) for name, key in keys.items()}
        make = partial(self._dispatcher.create, model, task, frames, remixed_from=source.id, user=source.user)
        return await self._answer(request, await self._services.once.job(request, asked, id, make))

    async def events(self, request: Request) -> ASGIApp:
        job = await self._job(request)
        if request.method == "HEAD":  # without this a HEAD would last as long as the job
            return Response(media_type="text/event-stream")
        return EventStream(self._progress(request, job))

    async def content(self, request: Request) -> ASGIApp:
        variant = read_query(request, wire.ContentQuery).variant
        job = await self._job(request)
        if job.result is None:
            raise ObjectNotFound(f"Video '{job.id}' is {job.status}: it has no content.")
        stored: StoredObject = getattr(job.result, variant)
        store, media = self._services.store, self._settings.media
        if not store.local and media.redirect:
            return RedirectResponse(store.url(stored.key, expires_s=media.url_ttl_s), 307)
        return await file_answer(request, store, await store.stat(stored.key))

    # --- making jobs ---

    async def _parsed(self, request: Request) -> tuple[wire.VideoRequest, ReplyMode]:
        limits = self._settings.limits
        asked = await read_request(request, wire.VideoRequest, limits)
        prefer, streams = ", ".join(request.headers.getlist("prefer")), bool(asked.stream)
        raw = asked.raw
        mode = choose_reply_mode(prefer, raw.data, streams=streams, is_form=raw.is_form, sync_wait_s=limits.sync_wait_s)
        return asked, mode

    async def _new_job(self, request: Request, asked: wire.VideoRequest) -> Job:
        """Makes the job. Raises InvalidRequest for all that can be known before: no job is made only to fail."""
        owner, id = _owner(request), new_job_id()
        model = self._services.choose(VideoSettings, asked.model)
        frames = [field for field in asked.FILES if getattr(asked, field) or field in asked.raw.files]
        if frames == ["last_frame"]:
            raise InvalidRequest("'last_frame' needs a first frame beside it: input_reference.", param="last_frame")
        keys = {field: key for field, key in zip(asked.FILES, input_keys(owner, id), strict=True) if field in frames}
        task = asked.to_task(model.settings, keys, **origin_of(request, id))
        # asking wakes a model from zero replicas, so it is asked only if its answer matters for this request
        is_usual = task.negative_prompt == model.settings.defaults.negative_prompt
        unusual = replace(task, negative_prompt=None) if is_usual else task
        if unusual.parameters or requirements_of(unusual, images=len(frames)):
            refuse_what_it_lacks(unusual, await model.client.describe(), images=len(frames))

        async def make() -> Job:
            read = {key: await read_image(field, asked, self._settings) for field, key in keys.items()}
            images = {key: image.data for key, image in read.items() if image}
            return await self._dispatcher.create(model, task, images, user=asked.user)

        return await self._services.once.job(request, asked, id, make)

    # --- answering ---

    async def _job(self, request: Request) -> Job:
        return await self._jobs.get(_owner(request), request.path_params["id"])

    async def _ended(self, job: Job, mode: ReplyMode) -> Job:
        """Waits for the job's end. After the time a patient caller gets the job as it is, others TimedOut."""
        job = await self._dispatcher.wait(job, mode.wait_s)
        if job.error is not None:
            raise wire.failure_of(job)
        if not job.finished and not mode.patient:
            raise TimedOut(f"Video '{job.id}' did not end in {mode.wait_s:g} s. It goes on: GET /v1/videos/{job.id}.")
        return job

    async def _answer(
        self, request: Request, job: Job, mode: ReplyMode | None = None, response_format: str | None = None
    ) -> Response:
        timing = job.result.timing if job.result else None
        response = json_answer((await self._video(request, job, response_format)).model_dump(), timing=timing)
        if mode is not None and mode.applied:
            response.headers["Preference-Applied"] = mode.applied
        if not job.finished:
            response.headers["openai-poll-after-ms"] = str(self._dispatcher.poll_after_ms(job))
        return response

    async def _video(self, request: Request, job: Job, response_format: str | None = None) -> wire.Video:
        encoded: str | None = None
        if job.result is not None and response_format == "b64_json":
            data = await self._services.store.get(job.result.video.key)
            encoded = (await asyncio.to_thread(base64.b64encode, data)).decode()
        return wire.Video.from_job(job, partial(url_of, self._services, request), self._models, encoded)

    async def _progress(
        self, request: Request, job: Job, wait_s: float = math.inf, response_format: str | None = None
    ) -> AsyncGenerator[bytes, None]:
        """An event for each change, and the full object at the end, or when `wait_s` is over."""
        deadline = time.monotonic() + wait_s
        shown: tuple[str, int] | None = None
        while not job.finished and time.monotonic() < deadline:
            if shown != (shown := (job.status, job.progress)):
                told = {"id": job.id, "object": "video", "status": job.status, "progress": job.progress}
                yield event({"type": "video.progress", **told}, "video.progress")
            job = await self._dispatcher.look_again(job, EVENTS_POLL_S)
        video = await self._video(request, job, response_format)
        name = f"video.{job.status}"
        yield event({"type": name, **video.model_dump()}, name)


async def not_here(request: Request) -> ASGIApp:
    raise NotFound(
        f"There is nothing at {request.url.path}. Videos are made at POST /v1/videos, and again with another prompt at "
        "POST /v1/videos/{id}/remix."
    )


def _owner(request: Request) -> str:
    return request.state.caller.owner
