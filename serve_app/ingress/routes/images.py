"""POST /v1/images/generations and /v1/images/edits."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from starlette.requests import Request
from starlette.types import ASGIApp

from serve_app.abilities import demands_of, refuse_images, refuse_what_it_lacks
from serve_app.errors import InvalidRequest
from serve_app.ingress.answers import json_answer, url_of
from serve_app.ingress.body import Asked, origin_of, read_image, read_images, read_request
from serve_app.ingress.endpoints import EVENTS, JSON, Endpoint
from serve_app.ingress.events import EventStream, event
from serve_app.ingress.idempotency import key_of
from serve_app.ingress.services import ServedModel, Services
from serve_app.media.images import ImageInfo
from serve_app.model_settings import ImageSettings
from serve_app.protocol.images import (
    EditRequest,
    GenerationRequest,
    ImageRequest,
    ImagesResponse,
    URLOf,
    completed_events,
    from_result,
    partial_event,
)
from serve_app.settings import Settings
from serve_app.tasks import ImageEvent, ImagePreview, ImageResult, ImageTask
from serve_app.work import work_of

ServedImage = ServedModel[ImageSettings]
SUNSET = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAABAAAAAQAQMAAAAlPW0iAAAABlBMVEUoWqDmeDwUttOQAAAAEklEQVR42mNgwA4Y/zMwMWBB"
    "ABfZAQ/GgRizAAAAAElFTkSuQmCC"
)
"""A picture to edit: 16 x 16 pixels, blue above orange."""


def endpoints(services: Services) -> list[Endpoint]:
    settings = services.settings

    async def generate(request: Request) -> ASGIApp:
        asked, body = await read_request(request, GenerationRequest, settings.limits)
        model = services.choose(ImageSettings, asked.model)
        urls = [asked.input_reference.image_url] if asked.input_reference else []
        image = await read_image("input_reference", body.files.get("input_reference", ()), urls, settings)
        return await _answer(services, model, request, body, asked, [image] if image else [], "input_reference")

    async def edit(request: Request) -> ASGIApp:
        asked, body = await read_request(request, EditRequest, settings.limits)
        model = services.choose(ImageSettings, asked.model)
        images, mask = await _read_inputs(model, asked, body, settings)
        return await _answer(services, model, request, body, asked, images, asked.input_urls[0], mask)

    return [
        Endpoint(
            "POST",
            "/v1/images/generations",
            generate,
            "Images from a prompt",
            tag="Images",
            body=GenerationRequest,
            example={"prompt": "A sunset over the ocean"},
            answers={JSON: ImagesResponse, EVENTS: None},
        ),
        Endpoint(
            "POST",
            "/v1/images/edits",
            edit,
            "Images from an image and a prompt",
            tag="Images",
            body=EditRequest,
            example={"prompt": "A sunset over the ocean", "image": SUNSET},
            answers={JSON: ImagesResponse, EVENTS: None},
        ),
    ]


async def _read_inputs(
    model: ServedImage, asked: EditRequest, body: Asked, settings: Settings
) -> tuple[list[ImageInfo], ImageInfo | None]:
    """The images and the mask of an edit; a number that the model cannot take is refused before any is fetched."""
    field, urls = asked.input_urls
    uploads = body.files.get("image", ())
    given = len(urls) + len(uploads)
    if given == 0:
        raise InvalidRequest("'image' is required.", param="image")
    refuse_images(given, await model.client.describe(), field)
    images = await read_images(field, uploads, urls, settings)
    masks = [asked.mask.image_url] if asked.mask else []
    mask = await read_image("mask", body.files.get("mask", ()), masks, settings)
    width, height = images[0].width, images[0].height
    if mask is not None and (mask.width, mask.height) != (width, height):
        whose = "the first image's" if len(images) > 1 else "the image's"
        raise InvalidRequest(
            f"'mask' is {mask.width}x{mask.height}; it must have {whose} size, {width}x{height}.", param="mask"
        )
    return images, mask


async def _answer(
    services: Services,
    model: ServedImage,
    request: Request,
    body: Asked,
    asked: ImageRequest,
    images: Sequence[ImageInfo],
    image_field: str,
    mask: ImageInfo | None = None,
) -> ASGIApp:
    origin = origin_of(request, f"img_{uuid.uuid4().hex}")
    task = asked.to_task(model.settings, images=images, mask=mask, **origin)
    # asking the model wakes it from zero replicas, so only where its answer matters
    if task.parameters or demands_of(task):
        refuse_what_it_lacks(task, await model.client.describe(), image_field=image_field)
    urls = partial(url_of, services, request)
    if asked.stream and key_of(request) is None:
        return EventStream(_events(_run(model, task), asked, task, urls, int(task.submitted_at)))
    task = replace(task, partial_images=0)

    async def make() -> ImageResult:
        work = work_of(task)
        with model.load.admit(work):
            result: ImageResult = await model.client.generate(task)
        model.load.finished(work, result.timing.engine_s)
        return result

    once = partial(services.once.result, request, asked, body.files, ImageResult, task.id, make)

    async def events() -> AsyncGenerator[bytes, None]:
        made = await once()
        for data in completed_events(asked, replace(task, id=made.id), made.result, urls, int(made.created_at)):
            yield event(data, data["type"])

    if asked.stream:
        return EventStream(events())
    made = await once()
    answer = from_result(asked, replace(task, id=made.id), made.result, urls, int(made.created_at))
    return json_answer(answer, timing=made.result.timing)


async def _run(model: ServedImage, task: ImageTask) -> AsyncGenerator[ImageEvent, None]:
    work = work_of(task)
    with model.load.admit(work):
        async with aclosing(model.client.stream(task)) as events:
            async for made in events:
                if isinstance(made, ImageResult):
                    model.load.finished(work, made.timing.engine_s)
                yield made


async def _events(
    events: AsyncGenerator[ImageEvent, None], asked: ImageRequest, task: ImageTask, urls: URLOf, created: int
) -> AsyncGenerator[bytes, None]:
    async with aclosing(events):
        async for made in events:
            if isinstance(made, ImagePreview):
                data = partial_event(asked, task, made, created)
                yield event(data, data["type"])
                continue
            for data in completed_events(asked, task, made, urls, created):
                yield event(data, data["type"])
