"""multipart/form-data in memory: text fields with bracket names as a tree of strings, files as bytes.

`nvext[seed]=5` becomes `{"nvext": {"seed": "5"}}`, `stop[]=a` with `stop[]=b` becomes `{"stop": ["a", "b"]}`. Every
value stays a string. Knows no HTTP: it gets a body that is already bounded.
"""

import re
from functools import partial
from itertools import pairwise
from typing import Any, cast

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header

from serve_app.errors import InvalidRequest, TooLarge
from serve_app.protocol.common import Files
from serve_app.settings import RequestLimits

NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]+\])*(?:\[\])?)")
"""A list holds values only, so that its brackets end the name."""
BRACKET = re.compile(r"\[([^\[\]]*)\]")
INDEXED = re.compile(r"[^\[\]]+\[\d*\]")
FILE_TYPE = re.compile(r"image/|video/|application/octet-stream", re.IGNORECASE)
"""Content types of parts that are files even without a file name."""
NULL = b"null"
"""So clients write that a field is left out; a prompt may be this word."""
MAX_NAME_CHARS = 256
MAX_FILES = 17
"""OpenAI's limit of 16 input images, and a mask."""


def parse_form(content_type: str, body: bytes, limits: RequestLimits) -> tuple[dict[str, Any], Files]:
    """The fields and the files of a form.

    Raises InvalidRequest if it is malformed or has too many fields, TooLarge for too large a file.
    """
    data: dict[str, Any] = {}
    files: Files = {}
    fields = texts = 0
    for part in _parts(content_type, body, limits.form_fields + MAX_FILES):
        name = _text(part.field_name or b"", "a field's name")
        if len(name) > MAX_NAME_CHARS:
            raise InvalidRequest(f"A field's name is longer than {MAX_NAME_CHARS} characters.")
        if isinstance(part, File) or FILE_TYPE.match(part.content_type or ""):
            _add_file(files, name, part, limits)
            continue
        fields += 1
        if fields > limits.form_fields:
            raise InvalidRequest(f"The form has more than {limits.form_fields} fields (limits.form_fields).")
        value = part.value or b""
        if value == NULL and name != "prompt":
            continue
        texts += 0 if is_data_url(value) else len(value)
        if texts > limits.text_bytes:
            raise TooLarge(f"The form's texts exceed {limits.text_bytes} bytes (limits.text_bytes).", param=name)
        _insert(data, name, _text(value, f"'{name}'", name), limits.json_depth)
    return data, files


def is_data_url(text: bytes | bytearray | memoryview) -> bool:
    """Whether a text is a data URL as it has to be: ASCII, so that it takes no more memory than its bytes."""
    return bytes(text[:5]) == b"data:" and bytes(text).isascii()


def _parts(content_type: str, body: bytes, most: int) -> list[Field | File]:
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise InvalidRequest("The Content-Type multipart/form-data needs a boundary.")
    # counted first, because the parser is slow (byte by byte) on files that contain almost a boundary
    if body.count(b"--" + boundary) > most + 1:
        raise InvalidRequest(f"The form has more than {most} parts (limits.form_fields).")
    parts: list[Field | File] = []
    ends: list[bool] = []
    ended, in_memory = partial(ends.append, True), {"MAX_MEMORY_FILE_SIZE": len(body)}
    parser = FormParser("multipart/form-data", parts.append, parts.append, ended, boundary, config=in_memory)
    try:
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise InvalidRequest(f"The form is broken: {error}") from None
    if not ends:
        raise InvalidRequest("The form ends before its last boundary.")
    return parts


def _add_file(files: Files, name: str, part: Field | File, limits: RequestLimits) -> None:
    """An empty file counts as left out: browsers send one where nothing was chosen."""
    key = name.split("[", 1)[0] if INDEXED.fullmatch(name) else name
    if isinstance(part, File):
        part.file_object.seek(0)
    data = part.file_object.read() if isinstance(part, File) else part.value
    if not data:
        return
    if len(data) > limits.image_bytes:
        raise TooLarge(f"'{key}' is larger than {limits.image_bytes} bytes (limits.image_bytes).", param=key)
    if sum(map(len, files.values())) >= MAX_FILES:
        raise InvalidRequest(f"The form has more than {MAX_FILES} files.", param=key)
    files.setdefault(key, []).append(data)


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
        at = cast("dict[str, Any]", at).setdefault(step, below)
        if type(at) is not type(below):
            raise clash
    if isinstance(at, list):
        cast("list[str]", at).append(value)
    elif steps[-1] in at:
        raise clash
    else:
        at[steps[-1]] = value
