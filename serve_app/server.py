"""Serves a deployments file in this process until a signal: what `serve run` does, and what it lacks.

It says that a port is taken before it starts anything, ends with the replica's error if the start fails, and at SIGTERM
or Ctrl-C finishes running requests and refuses new ones (`drain`).
"""

import logging
import os
import signal
import sys
import time
from contextlib import ExitStack, suppress
from itertools import takewhile
from types import FrameType
from typing import Any

import ray
from ray import serve
from ray.serve._private.api import serve_start
from ray.serve.config import gRPCOptions
from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.schema import ApplicationStatus, ServeDeploySchema

from serve_app.console import log_less_here, show_less_of_workers
from serve_app.port import claim, who_listens
from serve_app.settings import RESERVED

NOTICE_S = 2.0
"""How long /ready says no before the routes go, so that load balancers stop sending."""
REPLICAS_S = 30.0
"""How long replicas may take to end once they have been told, as with Serve's own shutdown."""
READERS_S = 10.0
"""How long clients may still read a file or events after all work has ended."""
POLL_S = 0.2
WATCH_S = 0.5


class Stop(SystemExit):
    """Raised when a signal asks to stop. Ray lets a SystemExit through without a traceback."""


def starts_ray() -> bool:
    """Whether `serve_until_told` starts a Ray on this machine, and not joins one that the environment names."""
    return os.environ.get("RAY_ADDRESS", "local") == "local"


def prepare_ray() -> None:
    """Sets what Ray's daemons read, where the environment does not say otherwise. Call it before Ray starts.

    Ray runs its workers at nice 15, Serve's proxy among them: beside two processes that load two cores it gets a
    twentieth of one, and starts in minutes. Serve kills a proxy that is not ready after 5 s.
    """
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
    # a model that loads for longer than 30 s is no reason to warn of
    os.environ.setdefault("RAY_SERVE_SLOW_STARTUP_WARNING_S", "600")
    os.environ.setdefault("RAY_SERVE_SLOW_STARTUP_WARNING_PERIOD_S", "600")


def serve_until_told(config: dict[str, Any], *, dashboard: bool) -> int:
    """Serves the one application of `config`; a signal drains first, a second one during that cuts off.

    Gives 0 after a signal, 1 where the start failed. Ray's dashboard is left out of a local Ray unless asked for: its
    processes cost a quarter of the start on two cores.
    """
    name = application_name(config)
    with ExitStack() as holding:
        if starts_ray() and (taken := _taken(config, holding)) is not None:
            print(f"diffusion-serve up: {taken}", file=sys.stderr)
            return 1
        return _serve(config, name, dashboard=dashboard)


def _serve(config: dict[str, Any], name: str, *, dashboard: bool) -> int:
    _catch_signals()
    prepare_ray()
    log_less_here()
    try:
        _say("starting Ray" if starts_ray() else "joining Ray")
        ray.init(
            address=os.environ.get("RAY_ADDRESS"),
            namespace="serve",
            include_dashboard=dashboard,
            logging_level=logging.WARNING,
        )
        _catch_signals()  # again, because Ray sets a handler for SIGTERM of its own while it starts
        _say(f"starting Serve; all logs: {show_less_of_workers()}")
        _deploy(config)
        return _watch(name, address(config))
    except Stop:
        if ray.is_initialized():
            drain(name)
        return 0
    finally:
        if ray.is_initialized():
            _end(name)
            ray.shutdown()
            _say("stopped")


def application_name(config: dict[str, Any]) -> str:
    """The name of the only application; ValueError where there are several or none."""
    applications = config.get("applications") or []
    if len(applications) != 1:
        raise ValueError(f"--config needs a file with one application, not {len(applications)}")
    return applications[0].get("name", "default")


def address(config: dict[str, Any]) -> str:
    """The application's URL for a browser on this machine."""
    http = config.get("http_options") or {}
    host = http.get("host", "127.0.0.1")
    shown = "localhost" if host in ("0.0.0.0", "::", "127.0.0.1") else host  # noqa: S104 where any address is ours
    prefix = config["applications"][0].get("route_prefix", "/").rstrip("/")
    return f"http://{shown}:{http.get('port', 8000)}{prefix}/"


def drain(name: str) -> None:
    """Lets no new work in, waits for the requests that run, and ends the application, which hands back other videos.

    /ready is 503 from the beginning. Another signal ends the waiting.
    """
    if name not in serve.status().applications:  # the application was still starting
        return
    _say("draining: nothing new is let in; a second signal stops at once")
    try:
        noticed_at = time.monotonic() + NOTICE_S
        while "ingress" in _deployments(name) and (_inside(name) or time.monotonic() < noticed_at):
            time.sleep(POLL_S)
        _delete(name, READERS_S)
    except Stop:
        _say("stopping at once")


def _end(name: str) -> None:
    """Ends the replicas in good order; a Ray of our own takes the rest of Serve along when it ends.

    `serve.shutdown` would kill Serve's controller under the eyes of Ray, which tells so as if it were an accident.
    """
    if not starts_ray():
        serve.shutdown()
        return
    if name in serve.status().applications:
        _delete(name, REPLICAS_S)


def _delete(name: str, within_s: float) -> None:
    """Ends the application's deployments, and waits for that as long as told."""
    serve.delete(name, _blocking=False)
    until = time.monotonic() + within_s
    while _deployments(name) and time.monotonic() < until:
        time.sleep(POLL_S)


def last_words(message: str) -> str:
    """The error that a traceback ends with: its lines behind the last indented one."""
    words = takewhile(lambda line: not line.startswith((" ", "\t")), reversed(message.strip().splitlines()))
    return "\n".join(reversed(list(words))) or message


def _taken(config: dict[str, Any], holding: ExitStack) -> str | None:
    """Who has the port, or that no port can be had here; None where it is ours until `holding` ends.

    Serve itself would share it (SO_REUSEPORT): half of all requests would go to a stranger.
    """
    http = ServeDeploySchema.model_validate(config).http_options
    host, port = http.host, http.port
    try:
        listener = who_listens(host, port)
    except OSError as error:
        return f"this machine cannot listen at {host}, port {port} (http_options): {error.strerror}"
    if listener is None:
        if (claimed := claim(host, port)) is not None:
            holding.enter_context(claimed)
            return None
        listener = "another diffusion-serve that is starting"
    return f"port {port} of {host} is taken by {listener}: end that, or choose another with --http-port"


def _catch_signals() -> None:
    def stop(number: int, _frame: FrameType | None) -> None:
        raise Stop(signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def _deploy(config: dict[str, Any]) -> None:
    """As `serve run` does it."""
    wanted = ServeDeploySchema.model_validate(config)
    client = serve_start(
        http_options=wanted.http_options.model_dump(),
        proxy_location=wanted.proxy_location,
        grpc_options=gRPCOptions(**wanted.grpc_options.model_dump()),
        controller_options=wanted.controller_options,
    )
    client.deploy_apps(wanted, _blocking=False)


def _watch(name: str, url: str) -> int:
    """Says when the application runs, and waits for a signal; 1 where it fails to start."""
    began = time.monotonic()
    states: dict[str, str] = {}
    while True:
        application = serve.status().applications.get(name)
        if application is not None:
            before, states = states, _states_of_models(application)
            for model, state in states.items():
                if before.get(model) != state:
                    _say(f"{model}: {state}" + (f" after {time.monotonic() - began:.0f} s" if before else ""))
            if application.status == ApplicationStatus.RUNNING:
                break
            if application.status == ApplicationStatus.DEPLOY_FAILED:
                _tell_failures(application)
                return 1
        time.sleep(WATCH_S)
    _say(f"ready: open {url} in a browser; the API's base URL is {url}v1")
    while True:
        signal.pause()


def _states_of_models(application: Any) -> dict[str, str]:
    """Each model's deployment, in a word for people."""
    states = {name: str(deployment.status.value) for name, deployment in application.deployments.items()}
    words = {"HEALTHY": "ready", "UPDATING": "loading"}
    return {
        name: words.get(state, state.lower().replace("_", " "))
        for name, state in states.items()
        if name not in RESERVED
    }


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _tell_failures(application: Any) -> None:
    """Says why the application did not start: the words of each deployment's replica, else those of the builder."""
    deployments = application.deployments.items()
    failed = {name: deployment for name, deployment in deployments if deployment.status.value == "DEPLOY_FAILED"}
    for name, failure in (failed or {"the application": application}).items():
        message = f"{name} did not start:\n{failure.message}\n{name} did not start: {last_words(failure.message)}"
        _say(f"diffusion-serve up: {message}")


def _deployments(name: str) -> set[str]:
    application = serve.status().applications.get(name)
    return set(application.deployments) if application else set()


def _inside(name: str) -> int:
    """Shuts the gate of every ingress replica; the number of requests still inside."""
    with suppress(DeploymentUnavailableError):  # none has started yet
        return sum(serve.get_deployment_handle("ingress", name).broadcast("drain").results())
    return 0
