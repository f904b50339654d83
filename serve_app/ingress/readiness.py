"""The state of the model deployments, from Serve's controller. Knows Ray Serve and no HTTP."""

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from ray import serve
from ray.serve.schema import DeploymentStatusOverview

from serve_app.handles import Handle
from serve_app.ingress.services import ModelState

T = TypeVar("T")


class Latest(Generic[T]):
    """The latest answer of a slow function, for callers that must not wait.

    Calls it at most once per `keep_s`, in its own thread. The value is `first` until there is an answer.

    An answer that takes longer than `patience_s` is waited for by nobody: the one before it stands until it comes.
    """

    def __init__(self, ask: Callable[[], T], first: T, *, keep_s: float = 1.0, patience_s: float = 2.0) -> None:
        self._ask = ask
        self._answer = first
        self._keep_s = keep_s
        self._patience_s = patience_s
        # not in the loop's own pool: a call that hangs would block one of its few threads
        self._thread = ThreadPoolExecutor(1, "latest")
        self._asking: asyncio.Future[T] | None = None
        self._asked_at = float("-inf")

    async def __call__(self) -> T:
        now = time.monotonic()
        if self._asking is None and now >= self._asked_at + self._keep_s:
            self._asking, self._asked_at = asyncio.get_running_loop().run_in_executor(self._thread, self._ask), now
        if (asking := self._asking) is not None:
            await asyncio.wait({asking}, timeout=max(0.0, self._asked_at + self._patience_s - now))
            if asking.done() and asking is self._asking:
                self._asking, self._asked_at = None, time.monotonic()
                self._answer = asking.result()
        return self._answer


class ServeReadiness(Latest[Mapping[str, ModelState]]):
    """The last known states. `least`: the replicas that each model always has.

    What the controller said last stands where it does not answer, and where it has come back and still looks for the
    replicas that it left: while the head of a cluster is away, requests are served on.
    """

    def __init__(self, handles: Mapping[str, Handle], least: Mapping[str, int]) -> None:
        self._handles = handles
        self._least = least
        super().__init__(self._look, dict.fromkeys(handles, ModelState("starting", 0)))

    def _look(self) -> Mapping[str, ModelState]:
        applications = serve.status().applications
        deployments = [status for application in applications.values() for status in application.deployments.values()]
        if any("RECOVERING" in status.replica_states for status in deployments):
            return self._answer
        known: dict[str, ModelState] = {}
        for name, handle in self._handles.items():
            application = applications.get(handle.app_name)
            status = application.deployments.get(handle.deployment_name) if application else None
            known[name] = ModelState("starting", 0) if status is None else state_of(status, least=self._least[name])
        return known


def state_of(status: DeploymentStatusOverview, *, least: int) -> ModelState:
    """The state of one deployment, of which `least` replicas should always run.

    It is ready when those are warmed up. While it scales with the traffic it stays ready, or a request that wakes it
    from zero would take the whole endpoint out of its load balancer.
    """
    state = str(status.status.value)
    running = sum(number for name, number in status.replica_states.items() if name == "RUNNING")
    if state in ("UNHEALTHY", "DEPLOY_FAILED") and not running:
        return ModelState("failed", running)
    # while it is first deployed or redeployed (UPDATING) the least number decides
    if running >= max(least, 1):
        return ModelState("ready", running)
    if state not in ("HEALTHY", "UPSCALING", "DOWNSCALING"):
        return ModelState("starting", running)
    return ModelState("ready" if running else "asleep", running)
