"""Which S3 errors may pass, how long to retry them, and which of our errors the others become."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as UnreachableError

from serve_app.errors import AlreadyExists, ObjectNotFound, ServeError, StorageFailed
from serve_app.retry import retry
from serve_app.telemetry import metrics

T = TypeVar("T")
log = logging.getLogger(__name__)

# Writes wait longer, because a finished generation is expensive: long enough for a server restart.
WRITE_PATIENCE_S = 30.0
READ_PATIENCE_S = 12.0
_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 3.0

FAILURES = (ClientError, BotoCoreError, OSError)
"""All that an S3 client raises for reasons outside this program."""

_ABSENT = {"NoSuchKey", "NoSuchVersion", "NoSuchUpload", "404"}
_TAKEN = {"PreconditionFailed", "412"}
# besides those that have a status of the server's own (5xx) or 429
_PASSING = {
    "BadDigest",
    "ConditionalRequestConflict",
    "OperationAborted",
    "RequestTimeout",
    "Throttling",
    "XAmzContentSHA256Mismatch",
}


def code_of(exc: BaseException) -> str:
    """S3's error code ("NoSuchKey"; for a HEAD the status, "404"); empty for other errors."""
    return str(exc.response.get("Error", {}).get("Code", "")) if isinstance(exc, ClientError) else ""


def passing(exc: BaseException) -> bool:
    """Whether the same request may well succeed a moment later."""
    if isinstance(exc, ClientError):
        status = int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        return code_of(exc) in _PASSING or status == 429 or (status >= 500 and status != 501)
    return isinstance(exc, (HTTPClientError, IncompleteReadError, UnreachableError, OSError))


def translated(exc: BaseException, what: str) -> ServeError:
    """Our error for one of FAILURES. The cause goes to the log: it names hosts, buckets and access keys."""
    code = code_of(exc)
    if code in _ABSENT:
        return ObjectNotFound("There is no such object.")
    if code in _TAKEN:
        return AlreadyExists("The key is taken.")
    log.error("storage: %s: %s", what, exc)
    return StorageFailed("The object store does not answer." if passing(exc) else "The object store refused.")


async def retried(what: str, call: Callable[[], Awaitable[T]], patience_s: float) -> T:
    """Returns what `call` returns. Retries failures that may pass, until `patience_s` is over."""

    def passes(error: Exception, wait_s: float) -> bool:
        if not isinstance(error, FAILURES) or not passing(error):
            return False
        log.warning("storage: %s failed, again in %.1f s: %s", what, wait_s, error)
        metrics.add("retries", what="storage")
        return True

    try:
        return await retry(call, passes, first_s=_FIRST_WAIT_S, longest_s=_LONGEST_WAIT_S, patience_s=patience_s)
    except FAILURES as error:
        raise translated(error, what) from error
