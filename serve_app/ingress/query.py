"""The query of a request as plain text fields; what they mean is not known here."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.requests import Request

from serve_app.errors import InvalidRequest

MAX_FIELDS = 64


def read_query(request: Request) -> dict[str, str]:
    """The fields of the query; InvalidRequest for very many of them, and for a name that stands in it twice."""
    query: bytes = request.scope["query_string"]
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise InvalidRequest(f"The query has more than {MAX_FIELDS} fields.") from None
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name in fields:
            raise InvalidRequest(f"'{name[:64]}' stands twice in the query.", param=name[:64])
        fields[name] = value
    return fields
