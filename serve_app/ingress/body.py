"""Reads a request: its query, its body within limits of size and time, parsed strictly into the endpoint's model, and
the images in it.

JSON is read as RFC 8259 means it: UTF-8, one object, no name twice, no NaN, no lone surrogate, and not deep. What it
may cost is counted in its raw bytes, before anything is parsed: values, and text that is no data URL. A number too
large for a float (1e400) is valid and becomes infinite; the models refuse it by the name of its field. `forms.py` reads
forms.
"""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import jiter
from starlette.requests import Request

from serve_app.errors import InvalidRequest, RateLimited, ServeError, TooLarge, UnsupportedMediaType
from serve_app.fetch import check_off_loop, fetch_image
from serve_app.ingress.forms import is_data_url, parse_form
from serve_app.media.images import ImageInfo
from serve_app.protocol.common import EXTRAS, Wire, parse
from serve_app.protocol.errors import SHOWN_CHARS
from serve_app.settings import RequestLimits, Settings
from serve_app.tasks import Origin
from serve_app.threads import Pool

M = TypeVar("M", bound=Wire)
T = TypeVar("T")

MAX_TYPE_CHARS = 1024
MAX_QUERY_FIELDS = 64
OBJECTS = ("nvext", "images", *EXTRAS)
"""Fields that a form may give as JSON text, as it may a reference to a file."""
OFF_LOOP_BYTES = 64 * 1024
"""Larger bodies are parsed in a thread, so that they do not block the event loop."""
PARSERS = Pool("parse", 2)
"""Few, because parsing holds a body several times; separate, so that parsing does not wait for file operations."""
BOM = b"\xef\xbb\xbf"
"""The byte order mark, which Windows' tools write. RFC 8259, section 8.1, allows ignoring it."""
DATA_URL = b'"data:'
MAX_DATA_URLS = 64
"""No endpoint takes more data URLs. Further ones count as text."""
_MARK = re.compile(rb'[",\[\]{}]')
_STRING = re.compile(rb'(?:[^"\\]{1,64}+|\\.){1,4096}+', re.DOTALL)
"""A piece of a string's inside, small: a match holds Python's lock, and so the event loop, until it ends."""
_TWICE = re.compile(r'Detected duplicate key "(.*)" at line \d+ column \d+')


@dataclass(slots=True)
class Budget:
    """The memory for request bodies: `held` bytes are in use now, of at most `most`."""

    most: int
    held: int = 0


@dataclass(slots=True)
class Share:
    """What one request holds of the budget, until its answer has been sent: files and texts live that long."""

    budget: Budget
    bytes: int = 0

    def take(self, size: int) -> bool:
        """Takes `size` more bytes. False if there is no room."""
        if self.budget.held + size > self.budget.most:
            return False
        self.budget.held += size
        self.bytes += size
        return True

    def give_back(self) -> None:
        self.budget.held -= self.bytes
        self.bytes = 0


async def read_request(request: Request, model: type[M], limits: RequestLimits) -> M:
    """The body as a `model`. Forms are accepted only if the model has files.

    Raises UnsupportedMediaType, TooLarge, RateLimited while too many bodies are under way, and InvalidRequest that
    names the field.
    """
    encoding = request.headers.get("content-encoding", "")
    if encoding.lower() not in ("", "identity"):  # without case: RFC 9110, section 8.4.1
        raise UnsupportedMediaType(f"The body must not be compressed: Content-Encoding is '{encoding[:64]}'.")
    content_type = request.headers.get("content-type", "")[:MAX_TYPE_CHARS]
    kind = content_type.split(";", 1)[0].strip().lower()
    is_form = kind == "multipart/form-data" and bool(model.FILES)
    if not is_form and kind != "application/json":
        allowed = "application/json or multipart/form-data" if model.FILES else "application/json"
        raise UnsupportedMediaType(f"The Content-Type must be {allowed}, not '{kind[:64]}'.")
    raw = await _read(request, limits)

    def make() -> M:
        if not is_form:
            return parse(model, parse_json(raw, limits))
        data, files = parse_form(content_type, raw, limits)
        for name in data.keys() & {*OBJECTS, *model.FILES}:
            data[name] = _read_object(name, data[name], limits)
        return parse(model, data, form=True, files=files)

    return await off_loop(make, len(raw))


def origin_of(request: Request, id: str) -> Origin:
    """Who asks for the task of this id, and when: now."""
    state = request.state
    return {"id": id, "caller": state.caller.owner, "submitted_at": time.time(), "traceparent": state.traceparent}


def read_query(request: Request, model: type[M]) -> M:
    """The query as a `model`; InvalidRequest for very many fields, and for a name that stands in it twice."""
    pairs = request.query_params.multi_items()
    if len(pairs) > MAX_QUERY_FIELDS:
        raise InvalidRequest(f"The query has more than {MAX_QUERY_FIELDS} fields.")
    if twice := [name[:64] for name, _ in pairs if len(request.query_params.getlist(name)) > 1]:
        raise InvalidRequest(f"'{twice[0]}' stands twice in the query.", param=twice[0])
    return parse(model, dict(pairs), form=True)


async def read_image(param: str, asked: Wire, settings: Settings) -> ImageInfo | None:
    """The one image of a field; None where there is none. Raises as `read_images` does."""
    uploads, reference = asked.raw.files.get(param, ()), getattr(asked, param)
    if len(uploads) > 1 and reference is None:  # else what is wrong is that it is given in two ways
        raise InvalidRequest(f"'{param}' must be one image, not {len(uploads)}.", param=param)
    urls = [reference.image_url] if reference else []
    return next(iter(await read_images(param, uploads, urls, settings)), None)


async def read_images(param: str, uploads: Sequence[bytes], urls: Sequence[str], settings: Settings) -> list[ImageInfo]:
    """The images of a field, in their order, from its uploads or its https or data URLs.

    Raises InvalidRequest, UnsafeURL or TooLarge, which name the field.
    """
    if uploads and urls:
        raise InvalidRequest(f"'{param}' is given twice: as an upload and as a URL.", param=param)
    limits = settings.limits
    try:
        uploaded = [await check_off_loop(upload, limits) for upload in uploads]
        return uploaded + [await fetch_image(url, settings.fetch, limits) for url in urls]
    except ServeError as error:
        error.param = error.param or param
        raise


async def off_loop(work: Callable[[], T], size: int) -> T:
    """Runs `work` at once for little data, in a thread for much."""
    return work() if size <= OFF_LOOP_BYTES else await PARSERS.run(work)


async def _read(request: Request, limits: RequestLimits) -> bytes:
    """The whole body. If reading stops in the middle, the connection is marked to be closed."""
    share: Share = request.state.bodies
    chunks: list[bytes] = []
    size = 0
    refusal: ServeError | None = None
    request.state.close = True
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            async for chunk in request.stream():
                size += len(chunk)
                if refusal is None and size > limits.body_bytes:
                    refusal = TooLarge(f"The body is larger than {limits.body_bytes} bytes (limits.body_bytes).")
                elif refusal is None and not share.take(len(chunk)):
                    said = f"The requests under way hold {limits.bodies_bytes} bytes (limits.bodies_bytes), the limit."
                    refusal = RateLimited(said, retry_after_s=1.0)
                if refusal is None:
                    chunks.append(chunk)
                else:
                    chunks.clear()
                    share.give_back()
                # a client does not read the answer while it is sending, so we read on, up to a limit
                if size > 2 * limits.body_bytes:
                    break
            else:
                request.state.close = False
    except TimeoutError:
        late = f"The body did not arrive within {limits.body_timeout_s:g} s (limits.body_timeout_s)."
        raise refusal or InvalidRequest(late) from None
    if refusal is not None:
        raise refusal
    return b"".join(chunks)


# --- JSON -----------------------------------------------------------------------------------------------------------


def parse_json(raw: bytes, limits: RequestLimits) -> dict[str, Any]:
    """One JSON object within the limits; raises InvalidRequest or TooLarge for anything else."""
    raw = raw.removeprefix(BOM)
    if not raw.strip():
        raise InvalidRequest("The body is empty; it must be a JSON object.")
    _check_values(raw, limits)
    _check_text(raw, limits.text_bytes)
    try:
        data: Any = jiter.from_json(raw, allow_inf_nan=False, cache_mode="keys", catch_duplicate_keys=True)
    except ValueError as error:
        if twice := _TWICE.fullmatch(str(error)):
            name = twice[1].replace('\\"', '"').replace("\\\\", "\\")[:SHOWN_CHARS]
            raise InvalidRequest(f"The name '{name}' stands twice in one object.", param=name) from None
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from None
    if not isinstance(data, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return cast("dict[str, Any]", data)


def _check_values(raw: bytes, limits: RequestLimits) -> None:
    """Counts values and levels, where there may be too many. Each value but the first of its container follows a comma.

    Strings are skipped.
    """
    brackets = raw.count(b"[") + raw.count(b"{")
    if brackets <= limits.json_depth and brackets + raw.count(b",") < limits.json_values:
        return
    values, strings, depth, at = 1, 0, 0, 0
    while (found := _MARK.search(raw, at)) is not None:
        at = found.end()
        if found[0] == b'"':
            strings += 1
            while (piece := _STRING.match(raw, at)) is not None:
                at = piece.end()
            at += 1
        elif found[0] in b"]}":
            depth -= 1
        else:
            values, depth = values + 1, depth + (found[0] != b",")
        if depth < 0 or strings > 2 * values:
            return  # no JSON, as the parser will say: a value has a name and itself at most
        if values > limits.json_values:
            raise InvalidRequest(f"The body holds more than {limits.json_values} values (limits.json_values).")
        if depth > limits.json_depth:
            raise InvalidRequest(f"The body is nested deeper than {limits.json_depth} levels (limits.json_depth).")


def _check_text(raw: bytes, most: int) -> None:
    """A character beyond ASCII makes Python keep four bytes for each of its text, as does an escaped one."""
    text, at = len(raw), 0
    for _ in range(MAX_DATA_URLS if text > most else 0):
        at = raw.find(DATA_URL, at)
        if at < 0:
            break
        end = raw.find(b'"', at + 1)
        end = len(raw) if end < 0 else end
        url = raw[at + 1 : end]
        is_whole = raw[at - 1 : at] != b"\\" and not url.endswith(b"\\")  # neither quote is one inside a text
        if is_whole and is_data_url(url) and b"\\u" not in url:
            text -= len(url)
        at = end
    if text > most:
        raise TooLarge(
            f"The body exceeds {most} bytes beside data URLs, data:image/png;base64,... (limits.text_bytes)."
        )


def _read_object(name: str, value: Any, limits: RequestLimits) -> Any:
    """A form's field that may be an object or a list: its JSON text is parsed, as in `nvext={"seed": 5}`."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        # inside an object, so that lists are accepted too
        return parse_json(b'{"value":%b}' % value.encode(), limits)["value"]
    except InvalidRequest as error:
        raise InvalidRequest(f"'{name}' holds JSON that cannot be read. {error.message}", param=name) from None
