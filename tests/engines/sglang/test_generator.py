"""What is asked of SGLang's workers and what becomes of it. The workers are played (tests/gpu has the real ones)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from serve_app import demo
from serve_app.engines.sglang import stopping
from serve_app.engines.sglang.generator import Generator
from serve_app.errors import EngineDied, GenerationFailed
from tests.engines.sglang.played import install, write_worker

Below = Callable[[], list[psutil.Process]]
RUNTIME = "sglang.multimodal_gen.runtime"
FLUX = {"model_path": str(demo.find("demo/flux-tiny")), "model_id": "FLUX.1-dev"}


class Workers:
    """SGLang's arguments, a client that reaches the worker, and the socket of its reports. It answers when told to."""

    def __init__(self) -> None:
        self.context = None
        self.asked: list[Any] = []
        self.reports: list[tuple[str, int, int]] = []
        self.answer: asyncio.Future[Any] = asyncio.get_event_loop().create_future()
        self.folder = Path()

    def from_kwargs(self, *, output_path: str, model_path: str, model_id: str | None = None, **_: object) -> Any:
        if model_id is None:
            raise ValueError(f"Could not get model info for '{model_path}'. If using a safetensors file, please ...")
        self.folder = Path(output_path)
        config = SimpleNamespace(text_encoder_extra_args=[{"max_length": 77}, {"max_length": 512}])
        return SimpleNamespace(pipeline_config=config, model_path=model_path, progress_endpoint="ipc://reports")

    def initialize(self, args: object) -> None: ...

    async def forward(self, message: Any) -> Any:
        self.asked.append(message)
        return await self.answer

    async def ping(self) -> bool:
        return True

    # the socket
    def socket(self, kind: object) -> Workers:
        return self

    def bind(self, endpoint: str) -> None: ...

    def close(self, linger: int) -> None: ...

    def poll(self, timeout: int) -> bool:
        return bool(self.reports)

    def recv_json(self) -> tuple[str, int, int]:
        return self.reports.pop(0)

    def stops(self) -> list[str]:
        return sorted(file.name for file in self.folder.glob("*.stop"))

    def done(self, error: str | None = None) -> Any:
        output = SimpleNamespace(error=error, output="pixels")
        self.answer.set_result(output)
        return output


@pytest.fixture
async def workers() -> Workers:
    return Workers()


@pytest.fixture
async def sglang(workers: Workers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    modules = {
        "server_args": {"ServerArgs": workers},
        "platforms.plugins": {"apply_plugin_hooks": lambda: None},
        "server_warmup": {"should_run_explicit_client_warmup": lambda _: False, "run_sync_client_warmup": None},
        "scheduler_client": {"AsyncSchedulerClient": lambda: workers, "sync_scheduler_client": None},
    }
    zmq = {"PULL": 0, "Context": SimpleNamespace(instance=lambda: workers)}
    known = {"sglang.multimodal_gen.registry": {"_MODEL_HF_PATH_TO_NAME": {"black-forest-labs/FLUX.1-dev": "1"}}}
    install(monkeypatch, {f"{RUNTIME}.{name}": values for name, values in modules.items()} | known | {"zmq": zmq})
    write_worker(monkeypatch, tmp_path)
    monkeypatch.setenv(stopping.FOLDER, "")  # is set anew, and put back


@pytest.fixture
async def generator(sglang: None, below: Below) -> Any:
    generator = Generator(FLUX, allow_fallback=True)
    yield generator
    generator.close()


def request(id: str = "r1") -> Any:
    return SimpleNamespace(request_id=id)


async def until(check: Any) -> None:
    async with asyncio.timeout(10):
        while not check():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_model_that_sglang_does_not_know_names_the_setting(sglang: None, below: Below) -> None:
    with pytest.raises(ValueError, match=r"model_id: SGLang knows no model 'FLUX.1-typo'.*FLUX.1-dev"):
        Generator(FLUX | {"model_id": "FLUX.1-typo"}, allow_fallback=True)
    with pytest.raises(ValueError, match="model_id: SGLang cannot tell what '/models/mine' is"):
        Generator({"model_path": "/models/mine"}, allow_fallback=True)
    assert below() == []


async def test_a_model_id_of_engine_args_may_bear_its_owner(sglang: None) -> None:
    started = Generator(FLUX | {"model_id": "black-forest-labs/FLUX.1-dev"}, allow_fallback=True)
    started.close()


async def test_prompts_are_padded_to_what_the_checkpoint_takes(generator: Generator) -> None:
    assert [given["max_length"] for given in generator.config.text_encoder_extra_args] == [24, 40]


async def test_an_answer_and_the_fractions_before_it(generator: Generator, workers: Workers) -> None:
    fractions: list[float] = []
    workers.reports = [("before", 4, 4), ("r1", 1, 4), ("r1", 2, 4)]
    asking = asyncio.create_task(generator.ask(request(), fractions.append))
    await until(lambda: fractions)
    output = workers.done()
    assert await asking is output
    assert (fractions[0], workers.reports, workers.stops()) == (0.5, [], [])
    [[asked]] = workers.asked
    assert asked.report_progress is True


async def test_one_at_a_time(generator: Generator, workers: Workers) -> None:
    asking = [asyncio.create_task(generator.ask(request(id), lambda _: None)) for id in ("r1", "r2")]
    asking.append(asyncio.create_task(generator.control("list")))
    await until(lambda: workers.asked)
    assert len(workers.asked) == 1
    workers.done()
    await asyncio.gather(*asking)
    assert workers.asked[2] == "list"


async def test_a_cancel_asks_the_worker_to_stop_and_waits_for_it(generator: Generator, workers: Workers) -> None:
    asking = asyncio.create_task(generator.ask(request(), lambda _: None))
    await until(lambda: workers.asked)
    for _ in range(2):
        asking.cancel()
        await asyncio.sleep(0)
    await until(lambda: workers.stops() == ["r1.stop"])
    assert not asking.done()
    workers.done(stopping.WORDS)
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert workers.stops() == []
    await generator.check_health()


async def test_the_workers_words_are_told(generator: Generator, workers: Workers) -> None:
    workers.done("CUDA out of memory")
    with pytest.raises(GenerationFailed, match="CUDA out of memory"):
        await generator.control("apply")
    await generator.check_health()


async def test_after_a_broken_device_nobody_is_asked_again(generator: Generator, workers: Workers) -> None:
    workers.done("CUDA error: an illegal memory access")
    for _ in range(2):
        with pytest.raises(EngineDied, match="cannot go on: CUDA error"):
            await generator.control("apply")
    with pytest.raises(EngineDied):
        await generator.check_health()
    assert len(workers.asked) == 1


async def test_a_worker_that_ends_fails_its_request(generator: Generator, workers: Workers, below: Below) -> None:
    asking = asyncio.create_task(generator.ask(request(), lambda _: None))
    await until(lambda: workers.asked)
    [process] = below()
    process.kill()
    with pytest.raises(EngineDied, match="worker process diffusion-0 ended"):
        await asking
    with pytest.raises(EngineDied):
        await generator.control("list")
