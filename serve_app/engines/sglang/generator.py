"""SGLang-diffusion's workers for one model: started, asked one request at a time, watched, ended.

This is the layer below SGLang's `DiffGenerator`, which logs what went wrong and returns None: the scheduler's own reply
carries the true text of an error. Each request has a socket of its own on the caller's event loop, so nothing here
needs a thread. Whoever cancels waits until the worker has ended its step (see stopping.py).
"""

import asyncio
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serve_app.engines.imports import uncollected
from serve_app.engines.sglang import stopping
from serve_app.engines.sglang.checkpoint import fit_prompts, own_name
from serve_app.engines.sglang.processes import free_ports
from serve_app.engines.sglang.workers import Workers
from serve_app.errors import EngineDied, GenerationFailed, InvalidRequest
from serve_app.scratch import Scratch, memory
from serve_app.waiting import finish, wait_out

BROKEN_DEVICE = ("CUDA error", "NCCL error", "cudaError")
"""After one of these a worker answers every later request with it too. (Out of memory reads "CUDA out of memory".)"""

OnFraction = Callable[[float], None]
"""Called a few times a second with the fraction that the workers have reported as done, 0 where there is no news."""


class Generator:
    """Workers that hold one model. `arguments` go to SGLang's ServerArgs over what is set here."""

    def __init__(self, arguments: dict[str, Any], *, allow_fallback: bool) -> None:
        # Dynamo's page asks its users to set this; some cuDNN builds are refused without it
        os.environ.setdefault("SGLANG_DISABLE_CUDNN_CHECK", "1")
        # the workers draw a bar for every generation, which would be a line of log for every step
        os.environ.setdefault("TQDM_MININTERVAL", "30")
        # memory where there is such a place: media cross to us through it
        self._scratch = Scratch(memory())
        self.folder = self._scratch.path
        os.environ[stopping.FOLDER] = str(self.folder)  # the workers inherit it
        self._workers = Workers(arguments.get("num_gpus", 1))  # they import while we do
        self._processes = self._workers.watched
        try:
            with uncollected():
                self.args = _server_args(self._defaults(allow_fallback) | arguments)
            self._workers.load(self.args)
            # the worker loads meanwhile
            import zmq
            from sglang.multimodal_gen.runtime.scheduler_client import AsyncSchedulerClient

            self._workers.wait_ready()
            _run_own_warm_up(self.args)
        except BaseException:
            self._workers.close()
            self._scratch.close()
            raise
        self.config = self.args.pipeline_config
        self._client = AsyncSchedulerClient()
        self._client.initialize(self.args)
        self._one_at_a_time = asyncio.Lock()
        self._reports: Any = zmq.Context.instance().socket(zmq.PULL)
        self._reports.bind(self.args.progress_endpoint)
        if not allow_fallback and (native := self._pipeline_class()) == "DiffusersPipeline":
            self.close()
            raise GenerationFailed(f"SGLang has no native pipeline for this model and fell back to {native}.")

    def request(self, arguments: dict[str, Any]) -> Any:
        """SGLang's request object. Raises InvalidRequest with SGLang's words for what this model refuses."""
        from sglang.multimodal_gen.configs.sample.sampling_params import SamplingParams
        from sglang.multimodal_gen.runtime.entrypoints.utils import prepare_request

        try:
            # the workers report the steps of a request that has an id, and of no other
            params = SamplingParams.from_user_sampling_params_args(
                self.args.model_path, server_args=self.args, request_id=uuid.uuid4().hex, **arguments
            )
            return prepare_request(server_args=self.args, sampling_params=params)
        except ValueError as error:
            raise InvalidRequest(str(error)) from error

    async def ask(self, request: Any, on_fraction: OnFraction) -> Any:
        """SGLang's OutputBatch. Raises GenerationFailed with the worker's own words, EngineDied when one is gone.

        A cancel ends the generation at its next step and returns when the worker is free.
        """
        request.report_progress = True
        stop = stopping.path(self.folder, request.request_id)
        try:
            return await self._send([request], lambda: on_fraction(self._reported(request.request_id)), stop.touch)
        finally:
            stop.unlink(missing_ok=True)

    async def control(self, message: Any) -> Any:
        """What the workers answer to a message that changes or shows their state; between generations. Raises as `ask`.

        A cancel waits for the answer.
        """
        return await self._send(message, lambda: None, lambda: None)

    async def check_health(self) -> None:
        """Raises EngineDied when a worker has ended, or does not answer while it has nothing to do."""
        self._processes.check()
        if self._one_at_a_time.locked():
            return  # a worker that computes answers nobody
        async with self._one_at_a_time:
            if not await self._client.ping():
                raise EngineDied("The diffusion worker does not answer.")

    def close(self) -> None:
        self._workers.close()
        # a request that was never answered still has its socket open, which would hold term() up
        if (context := self._client.context) is not None:
            context.destroy(linger=0)
            self._client.context = None
        self._reports.close(linger=0)
        self._scratch.close()

    def _defaults(self, allow_fallback: bool) -> dict[str, Any]:
        http_port, scheduler_port, master_port = free_ports(3)
        return {
            "backend": "auto" if allow_fallback else "sglang",
            "host": "127.0.0.1",
            "port": http_port,
            "scheduler_port": scheduler_port,
            "master_port": master_port,
            # everything stays on the GPU; the attention backend and performance_mode are left to SGLang: "speed"
            # turns torch.compile's max-autotune on, and the first request then takes minutes
            "dit_cpu_offload": False,
            "text_encoder_cpu_offload": False,
            "image_encoder_cpu_offload": False,
            "vae_cpu_offload": False,
            "output_path": str(self.folder),
            "log_level": "warning",
        }

    def _pipeline_class(self) -> str:
        from sglang.multimodal_gen.registry import get_model_info

        info = get_model_info(self.args.model_path, backend=self.args.backend, model_id=self.args.model_id)
        return info.pipeline_cls.__name__ if info is not None else "nothing"

    async def _send(self, message: Any, look: Callable[[], object], stop: Callable[[], object]) -> Any:
        """The workers' answer; `look` is called a few times a second until it comes, `stop` where nobody waits."""
        return await finish(asyncio.create_task(self._reply(message, look)), stop)

    async def _reply(self, message: Any, look: Callable[[], object]) -> Any:
        async with self._one_at_a_time:
            self._processes.check()
            reply = asyncio.ensure_future(self._client.forward(message))
            try:
                output = await self._processes.watch(reply, look)
            finally:
                reply.cancel()
                await wait_out(reply)
        if output.error and any(sign in str(output.error) for sign in BROKEN_DEVICE):
            self._processes.died = f"The GPU worker cannot go on: {output.error}"
            self._processes.check()
        if output.error:
            raise GenerationFailed(str(output.error))
        return output

    def _reported(self, request_id: str) -> float:
        """The newest fraction sent since the last look; the last ones of the request before may wait there too."""
        fraction = 0.0
        while self._reports.poll(0):
            reported, completed, total = self._reports.recv_json()
            if reported == request_id and total:
                fraction = completed / total
        return fraction


def _server_args(arguments: dict[str, Any]) -> Any:
    from sglang.multimodal_gen.runtime.platforms.plugins import apply_plugin_hooks
    from sglang.multimodal_gen.runtime.server_args import ServerArgs

    apply_plugin_hooks()  # before: what a platform changes in the arguments is such a hook
    if model_id := arguments.get("model_id"):
        arguments["model_id"] = own_name(model_id)
    try:
        args = ServerArgs.from_kwargs(**arguments)
    except ValueError as error:
        if "Could not get model info" not in str(error):
            raise
        unknown = f"model_id: SGLang cannot tell what '{arguments['model_path']}' is"
        raise ValueError(f"{unknown}: name the hub id of a model like it") from error
    fit_prompts(args.pipeline_config, Path(args.model_path))
    return args


def _run_own_warm_up(server_args: Any) -> None:
    """SGLang's, where engine_args ask for it by `warmup_resolutions`: CUDA graphs are captured in it."""
    from sglang.multimodal_gen.runtime.scheduler_client import sync_scheduler_client
    from sglang.multimodal_gen.runtime.server_warmup import run_sync_client_warmup, should_run_explicit_client_warmup

    if should_run_explicit_client_warmup(server_args):
        sync_scheduler_client.initialize(server_args)
        run_sync_client_warmup(server_args, sync_scheduler_client.forward)
        sync_scheduler_client.close()
