"""A prompt that arrives joins the step of the texts that run, in SGLang's scheduler process.

SGLang (0.5.23) denoises nothing while the blocks of a prompt are read: each request that arrives halts every text for a
step, and for one more with each block of its prompt. Callers who come one after another thus cost a busy server more
steps than their texts do. Both are batches of whole blocks in one forward mode, whose requests are judged one by one,
so that they can be one batch. Models that read their prompts in another mode (DiffusionGemma) keep SGLang's batches.

It also lets texts in without counting what those that run still need, and ends with "Prefill out of memory" when they
have grown into more than there is. Here a text waits until the memory for all of it is free.

SGLang calls plugins: its processes run `register` (pyproject.toml, entry points).
"""

import logging
import os
import sys
import time
from typing import Any

logger = logging.getLogger("serve_app.engines")

SWITCH = "DIFFUSION_SERVE_MIXED_BATCHES"
"""The environment variable: mixed batches are on where it is 1. The text engine sets it unless it is set already."""
SCHEDULER = "sglang.srt.dllm.mixin.scheduler"
CHOICE = f"{SCHEDULER}.SchedulerDllmMixin._process_dllm_batches"
TELL_S = 60.0
"""How often the log says that texts wait."""


def register() -> None:
    """Called by SGLang in each of its processes; those that schedule have the scheduler imported by then."""
    if os.environ.get(SWITCH) == "1" and SCHEDULER in sys.modules:
        from sglang.srt.plugins.hook_registry import HookRegistry, HookType

        HookRegistry.register(CHOICE, choose, HookType.AROUND)


class Waiting:
    """Tells the log that texts wait, at the first call and then every TELL_S."""

    def __init__(self) -> None:
        self.next_s = 0.0

    def tell(self, count: int, running: int) -> None:
        if time.monotonic() >= self.next_s:
            self.next_s = time.monotonic() + TELL_S
            logger.warning("texts that wait for memory: %d; that run: %d (max_total_tokens sets it)", count, running)


waiting = Waiting()


def choose(original: Any, scheduler: Any, adder: Any, running_batch: Any) -> Any:
    """Fills `adder` with the next step's requests and returns its forward mode."""
    from sglang.srt.dllm.mixin.req import DllmReqPhase
    from sglang.srt.model_executor.forward_batch_info import ForwardMode

    config, manager = scheduler.dllm_config, scheduler.dllm_manager
    running: list[Any] = []
    arrived: list[Any] = []
    for req in manager.waiting_queue:
        new = req.dllm_phase in (DllmReqPhase.INCOMING_PREFILL, DllmReqPhase.INCOMING_DECODE)
        (arrived if new else running).append(req)
    joining = those_that_fit(arrived, running, adder.rem_total_tokens, config.block_size)
    if len(joining) < len(arrived):
        waiting.tell(len(arrived) - len(joining), len(running) + len(joining))
    if config.requires_separate_context_encoding or not config.first_done_first_out_mode:
        manager.waiting_queue, everybody = running + joining, manager.waiting_queue
        try:
            return original(scheduler, adder, running_batch=running_batch)
        finally:
            manager.waiting_queue = everybody
    # first, since SGLang looks here at what it has put into the batch
    scheduler.process_dllm_incoming_reqs(adder, joining, running_batch=running_batch)
    for req in running:
        # SGLang would reckon each of them at its full length, and cut the block of the one for which that is too much
        adder.memory_budget.total_offset = 0
        adder.add_dllm_staging_req(req)
    return ForwardMode.DLLM_EXTEND


def those_that_fit(arrived: list[Any], running: list[Any], free: float, block: int) -> list[Any]:
    """The first of `arrived` for whose whole texts there is memory beside what `running` still need; `free` in tokens.
    One that is alone runs in any case: more memory will not come.
    """
    free -= sum(needed(req, block) for req in running)
    for i, req in enumerate(arrived):
        free -= needed(req, block)
        if free < 0 and (running or i):
            return arrived[:i]
    return arrived


def needed(req: Any, block: int) -> int:
    """Tokens of memory that it does not hold yet: its text ends within a block, and may begin within one."""
    return max(0, len(req.origin_input_ids) + req.sampling_params.max_new_tokens + 2 * block - req.kv.kv_allocated_len)
