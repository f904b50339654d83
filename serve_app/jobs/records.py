"""The records of jobs and what follows from them. Pure: values in, values out; no clock and no storage."""

import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, TypeVar

import orjson
from pydantic import TypeAdapter

from serve_app.settings import JobSettings
from serve_app.tasks import VideoResult, VideoTask

Status = Literal["queued", "in_progress", "completed", "failed"]
AttemptStatus = Literal["in_progress", "completed", "failed"]
CANCELLED = "cancelled"
LOST = "replica_lost"
"""Error code of a job whose last allowed attempt went silent."""
GIVE_UP_LEASE = 3.0
"""An attempt that has been silent for so many `stale_s` is taken over even from a dispatcher that lives, and no longer
expected to end: until then its replica may only be cut off from the store."""
PREFIX = "video_"
_ID = re.compile(rf"{PREFIX}[0-9a-f]{{32}}")


def new_job_id(now: float | None = None) -> str:
    """A fresh id that sorts by time: "video_", 12 hex digits of Unix milliseconds and 20 random ones."""
    milliseconds = round((time.time() if now is None else now) * 1000)
    return f"{PREFIX}{milliseconds:012x}{secrets.token_hex(10)}"


def is_job_id(text: str) -> bool:
    """Whether `text` looks like a job id. Anything else never becomes part of a key."""
    return _ID.fullmatch(text) is not None


def id_time(job_id: str) -> float:
    """The Unix time that an id was made at."""
    return int(job_id[len(PREFIX) : len(PREFIX) + 12], 16) / 1000


def folder_of(owner: str, job_id: str) -> str:
    """Where the objects of a job lie."""
    return f"jobs/{owner}/{job_id}"


def request_key(owner: str, job_id: str) -> str:
    return f"{folder_of(owner, job_id)}/request.json"


def cancel_key(owner: str, job_id: str) -> str:
    return f"{folder_of(owner, job_id)}/cancel.json"


def input_keys(owner: str, job_id: str) -> tuple[str, str]:
    """The keys of a job's first and last frame."""
    folder = folder_of(owner, job_id)
    return f"{folder}/input", f"{folder}/last_frame"


def result_keys(owner: str, job_id: str) -> tuple[str, str, str]:
    """Where the video, thumbnail and spritesheet of a job lie: every attempt writes the same bytes to the same keys."""
    day = time.strftime("%Y/%m/%d", time.gmtime(id_time(job_id)))
    base = f"media/{owner}/{day}/{job_id}"
    return f"{base}-0.mp4", f"{base}-1.webp", f"{base}-2.jpeg"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobError:
    """Why a job failed, in words for its owner."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """request.json."""

    task: VideoTask
    dispatcher: str
    created_at: float
    expires_at: float
    remixed_from: str | None = None
    user: str | None = None
    owner: str = ""  # the task's caller, unread here: replicas of the release before read no record without it


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """attempts/<n>-<rand>.json. Not `counted`: handed back by a replica that had to leave, so it is no try.

    `beat_at` as read is when the store took the record, for the clocks of replicas need not agree; `key` is where.
    """

    number: int
    started_at: float
    beat_at: float
    key: str = ""
    status: AttemptStatus = "in_progress"
    progress: int = 0
    completed_at: float | None = None
    error: JobError | None = None
    retry: bool = False
    counted: bool = True
    result: VideoResult | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as its objects say. `expires_at`: when record and files are removed. `progress` in percent, only rises.

    `seen_at` is the store's time before they were read, `attempt_key` where the newest attempt lies.
    """

    task: VideoTask
    status: Status
    progress: int
    created_at: float
    started_at: float | None
    completed_at: float | None
    expires_at: float
    attempts: int
    error: JobError | None
    result: VideoResult | None
    remixed_from: str | None
    user: str | None
    seen_at: float = field(default=0.0, compare=False)
    attempt_key: str | None = None

    @property
    def id(self) -> str:
        return self.task.id

    @property
    def owner(self) -> str:
        return self.task.caller

    @property
    def finished(self) -> bool:
        return self.status in ("completed", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """All that lies below a job's key, parsed; attempts by number."""

    request: Request
    attempts: Sequence[AttemptRecord] = ()
    cancelled_at: float | None = None

    @property
    def tries(self) -> int:
        return sum(attempt.counted for attempt in self.attempts)


def job_of(objects: Objects, now: float, rules: JobSettings) -> Job:
    """The job that a caller sees: a cancellation wins, then the first completed attempt, then the newest."""
    request, attempts = objects.request, objects.attempts
    completed = next((attempt for attempt in attempts if attempt.status == "completed"), None)
    last = attempts[-1] if attempts else None
    status: Status
    error: JobError | None = None
    completed_at: float | None = None
    if objects.cancelled_at is not None:
        status, completed, completed_at = "failed", None, objects.cancelled_at
        error = JobError(code=CANCELLED, message="The job was cancelled.")
    elif completed is not None:
        status, completed_at = "completed", completed.completed_at
    elif last is None:
        status = "queued"
    elif not _is_heard(objects, now, GIVE_UP_LEASE * rules.stale_s) and (error := _error_so_far(objects, rules)):
        status, completed_at = "failed", last.completed_at or last.beat_at
    else:
        # a stale attempt shows as running until the next one replaces it
        status = "queued" if last.status == "failed" else "in_progress"
    progress = max((attempt.progress for attempt in attempts), default=0)
    return Job(
        task=request.task,
        status=status,
        progress=100 if status == "completed" else min(progress, 99),
        created_at=request.created_at,
        started_at=attempts[0].started_at if attempts else None,
        completed_at=completed_at,
        expires_at=request.expires_at,
        attempts=objects.tries,
        error=error,
        result=completed.result if completed else None,
        remixed_from=request.remixed_from,
        user=request.user,
        seen_at=now,
        attempt_key=last.key if last else None,
    )


def is_runnable(objects: Objects, now: float, rules: JobSettings) -> bool:
    """Whether another attempt may start: the job is unfinished, has tries left, and no replica works on it."""
    if job_of(objects, now, rules).finished or _error_so_far(objects, rules) is not None:
        return False
    return not _is_heard(objects, now, rules.stale_s)


def is_orphan(objects: Objects, lease_at: float | None, now: float, rules: JobSettings) -> bool:
    """Whether a job could run and nobody will run it. `lease_at`: the last heartbeat of its dispatcher, if it has one.

    A dispatcher that lives has a while to see that an attempt went silent, and not for ever.
    """
    if not is_runnable(objects, now, rules):
        return False
    if lease_at is None or now - lease_at > rules.stale_s:
        return True
    return bool(objects.attempts) and now - objects.attempts[-1].beat_at > GIVE_UP_LEASE * rules.stale_s


def _is_heard(objects: Objects, now: float, within_s: float) -> bool:
    """Whether the heartbeat of an attempt that has not ended is younger than that."""
    return any(attempt.status == "in_progress" and now - attempt.beat_at <= within_s for attempt in objects.attempts)


def _error_so_far(objects: Objects, rules: JobSettings) -> JobError | None:
    """Why no further attempt is made. None if one may be."""
    if not objects.attempts:
        return None
    last = objects.attempts[-1]
    if last.status == "failed" and not last.retry:
        return last.error
    if objects.tries < rules.max_attempts:
        return None
    if last.error is None:
        return JobError(code=LOST, message=f"Given up after {objects.tries} attempts: the last replica went silent.")
    return JobError(
        code=last.error.code,
        message=f"Given up after {objects.tries} attempts, the last of which failed: {last.error.message}",
    )


# --- JSON: parsed strictly by type, unknown keys left out (the version before or after may have written them) ---------

R = TypeVar("R")
dumps = orjson.dumps
_adapter = cache(TypeAdapter)


def load(kind: type[R], data: bytes) -> R:
    """The record of that kind; ValueError if it is none."""
    return _adapter(kind).validate_json(data)
