from __future__ import annotations

from typing import Any

import pytest

from serve_app.protocol.reply_mode import ReplyMode, choose_reply_mode

JOB, WAIT = ReplyMode("job"), ReplyMode("wait", 900)


@pytest.mark.parametrize(
    ("prefer", "is_form", "data", "expected"),
    [
        ("", True, {"nvext": {"fps": "8"}, "response_format": "url"}, JOB),
        ("", False, {"seconds": 4, "size": "64x64", "model": "m", "user": "u"}, JOB),
        ("", False, {"nvext": {}}, WAIT),
        ("", False, {"response_format": "url"}, WAIT),
        ("", False, {"output_format": "mp4"}, WAIT),
        ("", False, {"stream": False}, WAIT),
        ("", False, {"nvext": None, "stream": None}, JOB),
        ("", False, {"stream": True}, ReplyMode("events", 900)),
        ("", True, {"stream": "true"}, ReplyMode("events", 900)),
        ("respond-async", False, {"nvext": {}, "stream": True}, ReplyMode("job", applied="respond-async")),
        ("Respond-Async", True, {}, ReplyMode("job", applied="respond-async")),
        ("wait", True, {}, ReplyMode("wait", 900, applied="wait")),
        ("wait=5", True, {}, ReplyMode("wait", 5, patient=True, applied="wait=5")),
        ('foo; a=b, wait="5"', False, {}, ReplyMode("wait", 5, patient=True, applied="wait=5")),
        ("wait=5, wait=9", False, {}, ReplyMode("wait", 5, patient=True, applied="wait=5")),
        ("wait=0", False, {"nvext": {}}, ReplyMode("wait", 0, patient=True, applied="wait=0")),
        ("wait=99999", False, {}, ReplyMode("wait", 900, patient=True, applied="wait=900")),
        ("respond-async, wait=5", False, {}, ReplyMode("wait", 5, patient=True, applied="wait=5")),
        ("wait=5", False, {"stream": True}, ReplyMode("events", 5, patient=True, applied="wait=5")),
        ("wait=-1", False, {}, JOB),
        ("wait=soon", False, {"nvext": {}}, WAIT),
        ("handling=lenient", False, {}, JOB),
    ],
)
def test_which_way_a_post_goes(prefer: str, is_form: bool, data: dict[str, Any], expected: ReplyMode) -> None:
    streams = bool(data.get("stream"))
    assert choose_reply_mode(prefer, data, streams=streams, is_form=is_form, sync_wait_s=900) == expected
