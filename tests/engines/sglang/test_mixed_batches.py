"""Which requests SGLang's scheduler takes into a step. That their texts stay the same is seen by tests/gpu."""

from __future__ import annotations

import enum
import sys
from importlib.metadata import entry_points
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from serve_app.engines.sglang import mixed_batches
from tests.engines.sglang.played import install

BLOCK = 32


class Phase(enum.Enum):
    STAGING_PREFILL = "staging_prefill"
    STAGING_DECODE = "staging_decode"
    INCOMING_PREFILL = "incoming_prefill"
    INCOMING_DECODE = "incoming_decode"


ARRIVED = (Phase.INCOMING_PREFILL, Phase.INCOMING_DECODE)
RUNNING = (Phase.STAGING_PREFILL, Phase.STAGING_DECODE)


@pytest.fixture(autouse=True)
def sglang(monkeypatch: pytest.MonkeyPatch) -> None:
    modes = {"ForwardMode": SimpleNamespace(DLLM_EXTEND="a block of each")}
    modules: dict[str, dict[str, Any]] = {
        "sglang.srt.dllm.mixin.req": {"DllmReqPhase": Phase},
        "sglang.srt.model_executor.forward_batch_info": modes,
    }
    install(monkeypatch, modules)


def req(phase: Phase, *, prompt: int = 10, wanted: int = 90, held: int = 0) -> SimpleNamespace:
    return SimpleNamespace(
        dllm_phase=phase,
        origin_input_ids=[1] * prompt,
        sampling_params=SimpleNamespace(max_new_tokens=wanted),
        kv=SimpleNamespace(kv_allocated_len=held),
    )


class Scheduler:
    """Holds what SGLang's own does, as far as a step's choice goes."""

    def __init__(self, *waiting: SimpleNamespace, separate: bool = False, first_done: bool = True) -> None:
        self.dllm_config = SimpleNamespace(
            requires_separate_context_encoding=separate, first_done_first_out_mode=first_done, block_size=BLOCK
        )
        self.dllm_manager = SimpleNamespace(waiting_queue=list(waiting))
        self.seen: list[Any] = []
        self.incoming: list[Any] = []
        self.staging: list[Any] = []

    def process_dllm_incoming_reqs(self, adder: object, reqs: list[Any], running_batch: object) -> None:
        assert not self.staging  # it looks at what is in the batch
        self.incoming += reqs

    def choose(self, free: int = 100_000) -> Any:
        def original(scheduler: object, adder: object, *, running_batch: object) -> str:
            assert scheduler is self
            self.seen = list(self.dllm_manager.waiting_queue)
            return "as SGLang does"

        return mixed_batches.choose(original, self, Adder(self, free), running_batch=object())


class Adder:
    """Holds a batch; as SGLang's own, it reckons each text that it takes at its full length."""

    def __init__(self, scheduler: Scheduler, free: int) -> None:
        self.memory_budget = SimpleNamespace(total_offset=0)
        self._scheduler = scheduler
        self._free = free

    @property
    def rem_total_tokens(self) -> int:
        return self._free - self.memory_budget.total_offset

    def add_dllm_staging_req(self, req: Any) -> None:
        assert not self._free or self.rem_total_tokens >= BLOCK  # or SGLang cuts its block short
        self.memory_budget.total_offset += 2 * BLOCK + req.sampling_params.max_new_tokens
        self._scheduler.staging.append(req)


def test_sglang_finds_the_plugin() -> None:
    (found,) = entry_points(group="sglang.srt.plugins", name="diffusion-serve-mixed-batches")
    assert found.load() is mixed_batches.register


@pytest.mark.parametrize(
    ("switch", "schedules", "registered"),
    [("1", True, True), ("0", True, False), (None, True, False), ("1", False, False)],
)
def test_it_is_registered_where_the_engine_asks_for_it_in_a_process_that_schedules(
    switch: str | None, schedules: bool, registered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[object, ...]] = []
    registry = SimpleNamespace(register=lambda *args: calls.append(args))  # pyright: ignore
    kinds = SimpleNamespace(AROUND="around")
    install(monkeypatch, {"sglang.srt.plugins.hook_registry": {"HookRegistry": registry, "HookType": kinds}})
    if switch is None:
        monkeypatch.delenv(mixed_batches.SWITCH, raising=False)
    else:
        monkeypatch.setenv(mixed_batches.SWITCH, switch)
    if schedules:
        monkeypatch.setitem(sys.modules, mixed_batches.SCHEDULER, ModuleType("scheduler"))
    mixed_batches.register()
    assert calls == ([(mixed_batches.CHOICE, mixed_batches.choose, "around")] if registered else [])


def test_prompts_that_arrive_join_those_that_run() -> None:
    arrived, running = [req(phase) for phase in ARRIVED], [req(phase, held=96) for phase in RUNNING]
    scheduler = Scheduler(running[0], arrived[0], running[1], arrived[1])
    assert scheduler.choose() == "a block of each"
    assert (scheduler.incoming, scheduler.staging) == (arrived, running)


@pytest.mark.parametrize("changes", [{"separate": True}, {"first_done": False}])
@pytest.mark.parametrize(("free", "joined"), [(1000, 2), (164, 1)])
def test_models_that_read_prompts_otherwise_keep_the_batches_of_sglang(
    changes: dict[str, bool], free: int, joined: int
) -> None:
    running, arrived = req(RUNNING[1], held=164), [req(phase) for phase in ARRIVED]
    scheduler = Scheduler(running, *arrived, **changes)
    assert scheduler.choose(free) == "as SGLang does"
    assert scheduler.seen == [running, *arrived[:joined]]
    assert scheduler.dllm_manager.waiting_queue == [running, *arrived]
    assert scheduler.incoming == scheduler.staging == []


@pytest.mark.parametrize(
    ("free", "joined"),
    [(500, 2), (328, 2), (327, 1), (164, 1), (163, 0), (0, 0)],
)
def test_a_text_waits_until_all_of_it_fits_beside_the_others(free: int, joined: int) -> None:
    """Each of the two needs 100 tokens and two blocks; the running one has all of its own."""
    arrived, running = [req(ARRIVED[0]), req(ARRIVED[1])], req(RUNNING[1], held=164)
    scheduler = Scheduler(running, *arrived)
    scheduler.choose(free)
    assert (scheduler.incoming, scheduler.staging) == (arrived[:joined], [running])


def test_the_log_tells_once_in_a_while_that_texts_wait(caplog: pytest.LogCaptureFixture) -> None:
    waiting = [req(RUNNING[1], held=164), req(ARRIVED[0]), req(ARRIVED[1])]
    for _ in range(2):
        mixed_batches.waiting.next_s = 0.0  # as after a while
        Scheduler(*waiting).choose(500)
        assert caplog.messages == []
        for _ in range(2):
            Scheduler(*waiting).choose(200)
        assert caplog.messages == ["texts that wait for memory: 1; that run: 2 (max_total_tokens sets it)"]
        caplog.clear()


def test_no_running_text_is_cut_short_by_what_the_others_have_asked_for() -> None:
    running = [req(RUNNING[1], held=96) for _ in range(4)]
    scheduler = Scheduler(*running)
    scheduler.choose(4 * 68)  # what they still need
    assert scheduler.staging == running


def test_what_a_running_text_still_needs_is_kept_for_it() -> None:
    """164 tokens in all, of which 64 are there."""
    for free, joined in ((264, 1), (263, 0)):
        scheduler = Scheduler(req(RUNNING[1], held=64), req(ARRIVED[0]))
        scheduler.choose(free)
        assert len(scheduler.incoming) == joined


def test_a_text_alone_may_always_run() -> None:
    scheduler = Scheduler(req(ARRIVED[0], wanted=100_000), req(ARRIVED[0]))
    scheduler.choose(50)
    assert scheduler.incoming == scheduler.dllm_manager.waiting_queue[:1]


def test_the_first_to_arrive_is_not_overtaken_by_a_shorter_one() -> None:
    scheduler = Scheduler(req(RUNNING[1], held=164), req(ARRIVED[0], wanted=1000), req(ARRIVED[0], wanted=10))
    scheduler.choose(500)
    assert scheduler.incoming == []
