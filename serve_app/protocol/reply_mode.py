"""How a POST /v1/videos is answered: as a job, after the video is made, or by events. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class ReplyMode:
    """How a POST is answered: with the job at once, with its outcome after at most `wait_s`, or by events.

    `patient`: after `wait_s` the caller takes the job as it is, instead of a 504. `applied` is the value of
    Preference-Applied, empty if no preference decided.
    """

    kind: Literal["job", "wait", "events"]
    wait_s: float = 0.0
    patient: bool = False
    applied: str = ""


ONLY_DYNAMOS = ("nvext", "response_format", "stream", "output_format")
"""Fields that only Dynamo's clients send. Their calls are synchronous."""
_WAIT = re.compile(r'wait(?:\s*=\s*"?([0-9]{1,9})"?)?$')


def choose_reply_mode(
    prefer: str, data: Mapping[str, Any], *, streams: bool, is_form: bool, sync_wait_s: float
) -> ReplyMode:
    """Decides by the Prefer header of a POST /v1/videos (RFC 7240), else by the fields in its body.

    `data` is the body as it came: a name of `nvext` at its top level does not make it Dynamo's. A field that is null
    is as good as absent. Preferences that make no sense are ignored, as the RFC asks.
    `respond-async, wait=5` waits for five seconds, then gives the job: section 4.3.
    """
    asynchronous, waits, seconds = _preferences(prefer)
    if seconds is not None:
        waited = min(float(seconds), sync_wait_s)
        return ReplyMode("events" if streams else "wait", waited, patient=True, applied=f"wait={waited:g}")
    if asynchronous:
        return ReplyMode("job", applied="respond-async")
    if streams or waits:
        return ReplyMode("events" if streams else "wait", sync_wait_s, applied="wait" if waits else "")
    synchronous = not is_form and any(data.get(name) is not None for name in ONLY_DYNAMOS)
    return ReplyMode("wait", sync_wait_s) if synchronous else ReplyMode("job")


def _preferences(prefer: str) -> tuple[bool, bool, int | None]:
    """Whether `respond-async` was asked, whether `wait`, and its seconds, None without a number."""
    asynchronous, waits, seconds = False, False, None
    for part in prefer.lower().split(","):
        preference = part.split(";")[0].strip()
        if preference == "respond-async":
            asynchronous = True
        elif not waits and (found := _WAIT.match(preference)):  # the first of a name counts: RFC 7240, section 2
            waits, seconds = True, int(found[1]) if found[1] else None
    return asynchronous, waits, seconds
