"""Every error of ours, in one tree. Knows HTTP statuses and OpenAI's error words, but no web framework.

ServeError                      500  server_error
├── InvalidRequest              400  invalid_request_error    a bad value; `param` names the field
│   ├── UnsupportedParameter    400  ... unsupported_parameter
│   ├── ContextLengthExceeded   400  ... context_length_exceeded  OpenAI's own code, which frameworks branch on
│   └── UnsafeURL               400  ... unsafe_url           an input image we refuse to fetch
├── Unauthorized                401  authentication_error
├── Forbidden                   403  permission_error
│   └── HostNotAllowed          403  ... host_not_allowed     a strange host, or a web page of another site
├── NotFound                    404  not_found
│   ├── ModelNotFound           404  ... model_not_found
│   ├── JobNotFound             404  ... video_not_found
│   └── ObjectNotFound          404  ... media_not_found
├── MethodNotAllowed            405
├── TooLarge                    413  content_length_exceeded
├── UnsupportedMediaType        415  unsupported_media_type
├── RateLimited                 429  rate_limit_exceeded      `retry_after_s` says when to come back
│   └── QueueFull               429  ... queue_full
├── GenerationFailed            500  generation_failed        the engine refused or broke; true text in the message
│   └── EngineDied              500  ... engine_died          a worker process is gone; the replica is replaced
├── Cancelled                   400  cancelled                the job was cancelled by its owner
├── StorageFailed               503  storage_unavailable
│   └── AlreadyExists           503  ... for create-if-absent; never reaches a caller
├── Unavailable                 503  unavailable              starting, draining
│   └── ReplicaLeaving          503  ... its engine died before this was begun; the ingress sends it to another
└── TimedOut                    504  timeout

A Ray Serve handle rebuilds an error by calling its class with one positional argument and restoring `__dict__`,
so every class here takes the message alone, and the rest by keyword.
"""

from collections.abc import Iterable
from typing import Self


class ServeError(Exception):
    """Base of all; `message` is shown to the caller, so it holds no internals.

    A subclass names what differs from its base: the HTTP status, and OpenAI's words for the type and the error.
    """

    status = 500
    type = "server_error"
    code = "internal_error"

    def __init_subclass__(cls, *, status: int | None = None, type: str = "", code: str = "") -> None:
        cls.status, cls.type, cls.code = status or cls.status, type or cls.type, code or cls.code

    def __init__(self, message: str = "", *, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s


class InvalidRequest(ServeError, status=400, type="invalid_request_error", code="invalid_value"): ...


class UnsupportedParameter(InvalidRequest, code="unsupported_parameter"): ...


class ContextLengthExceeded(InvalidRequest, code="context_length_exceeded"):
    @classmethod
    def of(cls, context: int, asked: str, param: str) -> Self:
        """`asked` says what does not fit, as the end of a sentence."""
        return cls(f"This model's maximum context length is {context} tokens. However, {asked}.", param=param)


class UnsafeURL(InvalidRequest, code="unsafe_url"): ...


class Unauthorized(ServeError, status=401, type="authentication_error", code="invalid_api_key"): ...


class Forbidden(ServeError, status=403, type="permission_error", code="forbidden"): ...


class HostNotAllowed(Forbidden, code="host_not_allowed"): ...


class NotFound(ServeError, status=404, type="invalid_request_error", code="not_found"): ...


class ModelNotFound(NotFound, code="model_not_found"):
    @classmethod
    def of(cls, asked: str, served: Iterable[str]) -> Self:
        names = ", ".join(f"'{name}'" for name in served) or "none"
        return cls(f"The model '{asked}' is not served here. Served: {names}.", param="model")


class JobNotFound(NotFound, code="video_not_found"): ...


class ObjectNotFound(NotFound, code="media_not_found"): ...


class MethodNotAllowed(ServeError, status=405, type="invalid_request_error", code="method_not_allowed"): ...


class TooLarge(ServeError, status=413, type="invalid_request_error", code="content_length_exceeded"): ...


class UnsupportedMediaType(ServeError, status=415, type="invalid_request_error", code="unsupported_media_type"): ...


class RateLimited(ServeError, status=429, type="rate_limit_error", code="rate_limit_exceeded"): ...


class QueueFull(RateLimited, code="queue_full"): ...


class GenerationFailed(ServeError, code="generation_failed"): ...


class EngineDied(GenerationFailed, code="engine_died"): ...


class Cancelled(ServeError, status=400, type="invalid_request_error", code="cancelled"): ...


class StorageFailed(ServeError, status=503, code="storage_unavailable"): ...


class AlreadyExists(StorageFailed, code="already_exists"): ...


class Unavailable(ServeError, status=503, code="unavailable"): ...


class ReplicaLeaving(Unavailable): ...


class TimedOut(ServeError, status=504, type="timeout_error", code="timeout"): ...
