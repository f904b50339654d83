"""One declaration for each endpoint: its route and its entry in /openapi.json are both made from it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.protocol.common import Wire

Handler = Callable[[Request], Awaitable[ASGIApp]]
Tag = Literal["Text", "Images", "Videos", "Models", "Media", "Health"]
EVENTS = "text/event-stream"
JSON = "application/json"
Json = dict[str, Any]
"""An object of JSON."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method of a path.

    `answers` maps content types of the 200 to a model, or to None for bytes and text; `also` describes other answers
    that are no errors. `example` is a body that works as it stands, where the path has no id; the model's name is put
    into it. `errors` need not name what every endpoint with a body, or behind API keys, may answer.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    handler: Handler
    summary: str
    answers: dict[str, Any]
    _: KW_ONLY
    tag: Tag
    body: type[Wire] | None = None
    example: dict[str, Any] = field(default_factory=dict[str, Any])
    query: type[BaseModel] | None = None
    headers: tuple[str, ...] = ()
    errors: tuple[int, ...] = ()
    also: dict[int, str] = field(default_factory=dict[int, str])


def routes_of(endpoints: Sequence[Endpoint]) -> list[Route]:
    """A route for each path, in the order in which the paths are first named."""
    paths: dict[str, dict[str, Handler]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method] = endpoint.handler
    return [Route(path, _ByMethod(handlers)) for path, handlers in paths.items()]


class _ByMethod:
    """Answers every method of a path, so that a 405 lists all that are allowed."""

    def __init__(self, handlers: dict[str, Handler]) -> None:
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = self._handlers.get("GET" if scope["method"] == "HEAD" else scope["method"])
        if handler is None:
            allowed = [*self._handlers, *(["HEAD"] if "GET" in self._handlers else [])]
            raise HTTPException(405, headers={"Allow": ", ".join(allowed)})
        answer = await handler(Request(scope, receive, send))
        await answer(scope, receive, send)
