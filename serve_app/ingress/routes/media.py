"""GET /v1/media/{path}: results in a local store, whose keys begin with media/. S3's are fetched from S3 itself."""

from starlette.requests import Request
from starlette.responses import Response

from serve_app.errors import ObjectNotFound
from serve_app.ingress.endpoints import Endpoint
from serve_app.ingress.files import file_answer
from serve_app.ingress.services import PUBLIC, Services
from serve_app.storage.base import check_key
from serve_app.storage.local import LocalStore

MEDIA = "media/"
"""Only keys below it can be fetched, not jobs, idempotency keys or the ledger."""


def endpoints(services: Services) -> list[Endpoint]:
    async def fetch(request: Request) -> Response:
        key = f"{MEDIA}{request.path_params['key']}"
        store = services.store
        if not isinstance(store, LocalStore):
            raise ObjectNotFound("There is no such file.")
        check_key(key)
        caller = request.state.caller
        if caller == PUBLIC or not key.startswith(f"{MEDIA}{caller.owner}/"):
            store.signer.verify(key, request.query_params)
        return await file_answer(request, store, await store.stat(key))

    return [
        Endpoint(
            "GET",
            "/v1/media/{key:path}",
            fetch,
            "A result in local storage, by the URL that an answer gave",
            tag="Media",
            answers=dict.fromkeys(("image/png", "image/jpeg", "image/webp", "video/mp4")),
            headers=("Range",),
            errors=(403, 404, 416, 500, 503),
            also={206: "A part of the file", 304: "Not modified"},
        )
    ]
