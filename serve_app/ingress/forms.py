"""multipart/form-data in memory: text fields with bracket names as a tree of strings, files as bytes.

`nvext[seed]=5` becomes `{"nvext": {"seed": "5"}}`, `stop[]=a` with `stop[]=b` becomes `{"stop": ["a", "b"]}`. Every
value stays a string, but what stands for an object may be JSON text (`read_objects`). Knows no HTTP: it gets a body
that is already bounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, cast

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from serve_app.errors import InvalidRequest, TooLarge
from serve_app.ingress.strict_json import is_data_url, parse_json
from serve_app.protocol.common import EXTRAS, Wire
from serve_app.settings import RequestLimits

NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
BRACKET = re.compile(r"\[([^\[\]]*)\]")
INDEXED = re.compile(r"[^\[\]]+\[\d*\]")
FILE_TYPE = re.compile(r"image/|video/|application/octet-stream", re.IGNORECASE)
"""Content types of parts that are files even without a file name."""
MAX_NAME_CHARS = 256
MAX_FILES = 17
"""OpenAI's limit of 16 input images, and a mask."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One uploaded file. The name and content type are what the caller said, and prove nothing."""

    filename: str
    content_type: str
    data: bytes


@dataclass(slots=True)
class Form:
    data: dict[str, Any] = field(default_factory=dict[str, Any])
    files: dict[str, list[Upload]] = field(default_factory=dict[str, list[Upload]])


@dataclass(slots=True)
class _Part:
    """`pieces` are views of the body, so that a file of many megabytes is copied once."""

    headers: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    pieces: list[memoryview] = field(default_factory=list[memoryview])

    @property
    def size(self) -> int:
        return sum(map(len, self.pieces))

    def data(self) -> bytes:
        return b"".join(self.pieces)


def parse_form(content_type: str, body: bytes, limits: RequestLimits) -> Form:
    """Parses a form. Raises InvalidRequest if it is malformed or has too many fields, TooLarge for too large a file."""
    form = Form()
    fields = texts = 0
    for part in _parts(content_type, body, limits.form_fields + MAX_FILES):
        disposition, options = parse_options_header(part.headers.get(b"content-disposition"))
        if disposition != b"form-data" or b"name" not in options:
            raise InvalidRequest("Each part of the form needs a Content-Disposition of form-data with a name.")
        name = _text(options[b"name"], "a field's name")
        if len(name) > MAX_NAME_CHARS:
            raise InvalidRequest(f"A field's name is longer than {MAX_NAME_CHARS} characters.")
        content_type = part.headers.get(b"content-type", b"").decode("latin-1")
        if b"filename" in options or FILE_TYPE.match(content_type):
            filename = options.get(b"filename", b"").decode("utf-8", "replace")
            _add_file(form, name, filename, content_type or "application/octet-stream", part, limits)
            continue
        fields += 1
        if fields > limits.form_fields:
            raise InvalidRequest(f"The form has more than {limits.form_fields} fields (limits.form_fields).")
        value = part.data()
        texts += 0 if is_data_url(value) else len(value)
        if texts > limits.text_bytes:
            raise TooLarge(
                f"The form's texts have more than {limits.text_bytes} bytes (limits.text_bytes).", param=name
            )
        _insert(form.data, name, _text(value, f"'{name}'", name), limits.json_depth)
    return form


def read_objects(model: type[Wire], data: dict[str, Any], limits: RequestLimits) -> dict[str, Any]:
    """The fields, with the JSON text of those that are objects or lists parsed: `nvext={"seed": 5}`."""
    return {name: _as_object(model, name, value, limits) for name, value in data.items()}


def _as_object(model: type[Wire], name: str, value: Any, limits: RequestLimits) -> Any:
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")) or _may_be_text(model, name):
        return value
    try:
        # inside an object, so that lists are accepted too
        return parse_json(b'{"value":%b}' % value.encode(), limits)["value"]
    except InvalidRequest as error:
        raise InvalidRequest(f"'{name}' holds JSON that cannot be read. {error.message}", param=name) from None


def _may_be_text(model: type[Wire], name: str) -> bool:
    if (field := model.model_fields.get(name)) is None:
        return name not in EXTRAS
    members: tuple[Any, ...] = (field.annotation, *getattr(field.annotation, "__args__", ()))
    return any(getattr(member, "__origin__", member) is str for member in members)


def _parts(content_type: str, body: bytes, most: int) -> list[_Part]:
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise InvalidRequest("The Content-Type multipart/form-data needs a boundary.")
    # counted first, because the parser is slow (byte by byte) on files that contain almost a boundary
    if body.count(b"--" + boundary) > most + 1:
        raise InvalidRequest(f"The form has more than {most} parts (limits.form_fields).")
    parts: list[_Part] = []
    name = bytearray()
    value = bytearray()
    ended = False

    def part_begin() -> None:
        parts.append(_Part())

    def part_data(data: bytes, start: int, end: int) -> None:
        parts[-1].pieces.append(memoryview(data)[start:end])

    def header_field(data: bytes, start: int, end: int) -> None:
        name.extend(data[start:end])

    def header_value(data: bytes, start: int, end: int) -> None:
        value.extend(data[start:end])

    def header_end() -> None:
        parts[-1].headers[bytes(name).lower()] = bytes(value)
        name.clear()
        value.clear()

    def end() -> None:
        nonlocal ended
        ended = True

    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": part_begin,
                "on_part_data": part_data,
                "on_header_field": header_field,
                "on_header_value": header_value,
                "on_header_end": header_end,
                "on_end": end,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise InvalidRequest(f"The form is broken: {error}") from None
    if not ended:
        raise InvalidRequest("The form ends before its last boundary.")
    return parts


def _add_file(form: Form, name: str, filename: str, content_type: str, part: _Part, limits: RequestLimits) -> None:
    """An empty file counts as left out: browsers send one where nothing was chosen."""
    key = name.split("[", 1)[0] if INDEXED.fullmatch(name) else name
    if part.size == 0:
        return
    if part.size > limits.image_bytes:
        raise TooLarge(f"'{key}' is larger than {limits.image_bytes} bytes (limits.image_bytes).", param=key)
    if sum(len(files) for files in form.files.values()) >= MAX_FILES:
        raise InvalidRequest(f"The form has more than {MAX_FILES} files.", param=key)
    form.files.setdefault(key, []).append(Upload(filename, content_type, part.data()))


def _text(raw: bytes, what: str, param: str | None = None) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"The form holds {what} that is not UTF-8.", param=param) from None


def _insert(tree: dict[str, Any], name: str, value: str, depth: int) -> None:
    match = NAME.fullmatch(name)
    if match is None:
        raise InvalidRequest(f"'{name[:64]}' is not a field's name. Nested names are written like nvext[seed].")
    steps: list[str] = [match[1], *BRACKET.findall(match[2])]
    if len(steps) > depth:
        raise InvalidRequest(f"'{match[1]}' is nested deeper than {depth} levels (limits.json_depth).", param=match[1])
    clash = InvalidRequest(f"'{name}' is given twice, or once as a value and once with names below it.", param=name)
    at: Any = tree
    for step, following in pairwise(steps):
        below: Any = [] if following == "" else {}
        if isinstance(at, list):
            raise InvalidRequest(f"'{name}': a list may only hold values.", param=match[1])
        at = cast("dict[str, Any]", at).setdefault(step, below)
        if type(at) is not type(below):
            raise clash
    last = steps[-1]
    if isinstance(at, list):
        cast("list[str]", at).append(value)
    elif last in at:
        raise clash
    else:
        at[last] = value
