"""POST /v1/images/generations and /v1/images/edits."""

import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from starlette.requests import Request
from starlette.types import ASGIApp

from serve_app.capabilities import refuse_images, refuse_what_it_lacks, requirements_of
from serve_app.errors import InvalidRequest
from serve_app.ingress.answers import json_answer, url_of
from serve_app.ingress.body import origin_of, read_image, read_images, read_request
from serve_app.ingress.endpoints import EVENTS, JSON, Endpoint
from serve_app.ingress.events import EventStream, event
from serve_app.ingress.idempotency import key_of
from serve_app.ingress.services import ServedModel, Services
from serve_app.media.images import ImageInfo
from serve_app.model_settings import ImageSettings
from serve_app.protocol.images import EditRequest, GenerationRequest, ImageAnswers, ImageRequest, ImagesResponse
from serve_app.settings import Settings
from serve_app.tasks import ImageEvent, ImageResult

ServedImage = ServedModel[ImageSettings]
SUNSET = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAABAAAAAQAQMAAAAlPW0iAAAABlBMVEUoWqDmeDwUttOQAAAAEklEQVR42mNgwA4Y/zMwMWBB"
    "ABfZAQ/GgRizAAAAAElFTkSuQmCC"
)
"""A picture to edit: 16 x 16 pixels, blue above orange."""


def endpoints(services: Services) -> list[Endpoint]:
    settings = services.settings

    async def generate(request: Request) -> ASGIApp:
        asked = await read_request(request, GenerationRequest, settings.limits)
        model = services.choose(ImageSettings, asked.model)
        image = await read_image("input_reference", asked, settings)
        return await _answer(services, model, request, asked, [image] if image else [], "input_reference")

    async def edit(request: Request) -> ASGIApp:
        asked = await read_request(request, EditRequest, settings.limits)
        model = services.choose(ImageSettings, asked.model)
        images, mask = await _read_inputs(model, asked, settings)
        return await _answer(services, model, request, asked, images, asked.input_urls[0], mask)

    prompt = {"prompt": "A sunset over the ocean"}
    image = partial(Endpoint, "POST", tag="Images", answers={JSON: ImagesResponse, EVENTS: None})
    return [
        image("/v1/images/generations", generate, "Images from a prompt", body=GenerationRequest, example=prompt),
        image(
            "/v1/images/edits",
            edit,
            "Images from an image and a prompt",
            body=EditRequest,
            example={**prompt, "image": SUNSET},
        ),
    ]


async def _read_inputs(
    model: ServedImage, asked: EditRequest, settings: Settings
) -> tuple[list[ImageInfo], ImageInfo | None]:
    """The images and the mask of an edit; a number that the model cannot take is refused before any is fetched."""
    field, urls = asked.input_urls
    uploads = asked.raw.files.get("image", ())
    given = len(urls) + len(uploads)
    if given == 0:
        raise InvalidRequest("'image' is required.", param="image")
    refuse_images(given, await model.client.describe(), field)
    images = await read_images(field, uploads, urls, settings)
    mask = await read_image("mask", asked, settings)
    size = f"{images[0].width}x{images[0].height}"
    if mask is not None and (masked := f"{mask.width}x{mask.height}") != size:
        raise InvalidRequest(f"'mask' is {masked}; it must have the (first) image's size, {size}.", param="mask")
    return images, mask


async def _answer(
    services: Services,
    model: ServedImage,
    request: Request,
    asked: ImageRequest,
    images: Sequence[ImageInfo],
    image_field: str,
    mask: ImageInfo | None = None,
) -> ASGIApp:
    origin = origin_of(request, f"img_{uuid.uuid4().hex}")
    task = asked.to_task(model.settings, images=images, mask=mask, **origin)
    # asking the model wakes it from zero replicas, so only where its answer matters
    if task.parameters or requirements_of(task):
        refuse_what_it_lacks(task, await model.client.describe(), image_field=image_field)

    async def make() -> ImageResult:
        return (await model.generate([replace(task, partial_images=0)]))[0]

    once = partial(services.once.result, request, asked, ImageResult, task.id, make)

    def answers(id: str, created_at: float) -> ImageAnswers:
        urls = partial(url_of, services, request)
        return ImageAnswers(asked=asked, task=replace(task, id=id), created=int(created_at), url_of=urls)

    async def events() -> AsyncGenerator[bytes, None]:
        if key_of(request) is None:
            sent, results = answers(task.id, task.submitted_at), model.stream([task])
        else:
            made = await once()
            sent, results = answers(made.id, made.created_at), _again(made.result)
        async with aclosing(results):
            async for _, result in results:
                for data in sent.events(result):
                    yield event(data, data["type"])

    if asked.stream:
        return EventStream(events())
    made = await once()
    return json_answer(answers(made.id, made.created_at).whole(made.result), timing=made.result.timing)


async def _again(result: ImageResult) -> AsyncGenerator[tuple[int, ImageEvent], None]:
    """The events of a finished result, which has no previews."""
    yield 0, result
