"""POST /v1/images/generations and /v1/images/edits."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from starlette.requests import Request
from starlette.types import ASGIApp

from serve_app.autoscaling import work_of
from serve_app.errors import InvalidRequest, UnsupportedParameter
from serve_app.ingress.addresses import url_of
from serve_app.ingress.admission import Load
from serve_app.ingress.answers import json_answer
from serve_app.ingress.body import Asked, read_request
from serve_app.ingress.endpoints import EVENTS, JSON, Endpoint
from serve_app.ingress.events import EventStream, event
from serve_app.ingress.idempotency import key_of
from serve_app.ingress.inputs import read_image
from serve_app.ingress.services import ImageClient, ServedImage, Services
from serve_app.media.images import ImageInfo
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

INPUT_IMAGES = 1
"""How many images a model of today edits at a time."""
SUNSET = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAABAAAAAQAQMAAAAlPW0iAAAABlBMVEUoWqDmeDwUttOQAAAAEklEQVR42mNgwA4Y/zMwMWBB"
    "ABfZAQ/GgRizAAAAAElFTkSuQmCC"
)
"""A picture to edit: 16 x 16 pixels, blue above orange."""


def endpoints(services: Services) -> list[Endpoint]:
    settings = services.settings

    async def generate(request: Request) -> ASGIApp:
        asked, body = await read_request(request, GenerationRequest, settings.limits)
        model = services.choose(ServedImage, asked.model)
        urls = [asked.input_reference.image_url] if asked.input_reference else []
        image = await read_image("input_reference", body.files.get("input_reference", ()), urls, settings)
        if image is None:
            return await _answer(services, model, request, body, asked)
        await _check_inputs(model, "input_reference", image, None)
        return await _answer(services, model, request, body, asked, [image])

    async def edit(request: Request) -> ASGIApp:
        asked, body = await read_request(request, EditRequest, settings.limits)
        model = services.choose(ServedImage, asked.model)
        image, mask = await _edit_images(model, asked, body, settings)
        await _check_inputs(model, "image", image, mask)
        return await _answer(services, model, request, body, asked, [image], mask)

    return [
        Endpoint(
            method="POST",
            path="/v1/images/generations",
            handler=generate,
            summary="Images from a prompt",
            tag="Images",
            body=GenerationRequest,
            example={"prompt": "A sunset over the ocean"},
            answers={JSON: ImagesResponse, EVENTS: None},
        ),
        Endpoint(
            method="POST",
            path="/v1/images/edits",
            handler=edit,
            summary="Images from an image and a prompt",
            tag="Images",
            body=EditRequest,
            example={"prompt": "A sunset over the ocean", "image": SUNSET},
            answers={JSON: ImagesResponse, EVENTS: None},
        ),
    ]


async def _edit_images(
    model: ServedImage, asked: EditRequest, body: Asked, settings: Settings
) -> tuple[ImageInfo, ImageInfo | None]:
    field, urls = asked.input_urls
    given = len(urls) + len(body.files.get("image", ()))
    if given == 0:
        raise InvalidRequest("'image' is required.", param="image")
    if given > INPUT_IMAGES:
        raise InvalidRequest(
            f"'{field}' holds {given} images; the model '{model.id}' takes {INPUT_IMAGES}.", param=field
        )
    image = await read_image(field, body.files.get("image", ()), urls, settings)
    assert image is not None, "one was given"
    masks = [asked.mask.image_url] if asked.mask else []
    return image, await read_image("mask", body.files.get("mask", ()), masks, settings)


async def _check_inputs(model: ServedImage, param: str, image: ImageInfo, mask: ImageInfo | None) -> None:
    """Raises UnsupportedParameter if the model cannot take these images."""
    able = (await model.client.describe()).capabilities
    if "edit" not in able:
        raise UnsupportedParameter(f"The model '{model.id}' cannot edit images.", param=param)
    if mask is not None and "mask" not in able:
        raise UnsupportedParameter(f"The model '{model.id}' takes no mask.", param="mask")
    if mask is not None and (mask.width, mask.height) != (image.width, image.height):
        raise InvalidRequest(
            f"'mask' is {mask.width}x{mask.height}; it must have the image's size, {image.width}x{image.height}.",
            param="mask",
        )


async def _answer(
    services: Services,
    model: ServedImage,
    request: Request,
    body: Asked,
    asked: ImageRequest,
    images: Sequence[ImageInfo] = (),
    mask: ImageInfo | None = None,
) -> ASGIApp:
    created = time.time()
    task = asked.to_task(
        model.settings,
        id=f"img_{uuid.uuid4().hex}",
        caller=request.state.caller.owner,
        submitted_at=created,
        traceparent=request.state.traceparent,
        images=images,
        mask=mask,
    )
    client, load = model.client, model.load
    urls = partial(url_of, services, request)
    if asked.stream and key_of(request) is None:
        return EventStream(_events(_run(client, load, task), asked, task, urls, int(created)))
    task = replace(task, partial_images=0)

    async def make() -> ImageResult:
        work = work_of(task)
        with load.admit(work):
            result = await client.generate(task)
        load.finished(work, result.timing.engine_s)
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


async def _run(client: ImageClient, load: Load, task: ImageTask) -> AsyncGenerator[ImageEvent, None]:
    work = work_of(task)
    with load.admit(work):
        async with aclosing(client.stream(task)) as events:
            async for made in events:
                if isinstance(made, ImageResult):
                    load.finished(work, made.timing.engine_s)
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
