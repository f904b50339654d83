"""The query of a request as plain text fields; what they mean is not known here."""

from __future__ import annotations

from starlette.requests import Request

from serve_app.errors import InvalidRequest


def read_query(request: Request) -> dict[str, str]:
    """The fields of the query; raises InvalidRequest for a name that stands in it twice."""
    pairs = request.query_params.multi_items()
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)[:64]
        raise InvalidRequest(f"'{twice}' stands twice in the query.", param=twice)
    return fields
