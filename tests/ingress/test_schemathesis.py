"""Our own /openapi.json, believed by schemathesis: whatever it says is sent, and whatever is answered must fit it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ingress.conftest import Running, Serving

SEED = 20261127
EXAMPLES = 12
"""For each operation, beside those that go through the schema case by case."""
LEAST_REQUESTS = 1000
SEARCH_S = float(os.environ.get("FUZZ_SECONDS", "600"))
"""Of `make fuzz`, which may also be given the FUZZ_SEED of a run that found something."""
LEFT_OUT = {
    # a schema cannot say all that a request must be: an even width, an image that decodes, a URL that may be fetched
    "positive_data_acceptance",
}
CONFIG = """
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429"]
"""
"""Its own list lacks 413, the answer to a body that is wrong by being large; and no 5xx is right here."""
SMALL: dict[str, Any] = {
    "text": {"limits": {"n": 2, "max_tokens": 32, "prompt_chars": 200}, "defaults": {"max_tokens": 8}},
    "image": {
        "limits": {"n": 2, "steps": 2, "min_side": 16, "max_side": 32, "prompt_chars": 200},
        "defaults": {"width": 32, "height": 32, "num_inference_steps": 1},
    },
    "video": {
        "limits": {
            "steps": 2,
            "frames": 5,
            "fps": 4,
            "seconds": 1,
            "min_side": 16,
            "max_side": 32,
            "prompt_chars": 200,
        },
        "defaults": {"width": 32, "height": 32, "num_frames": 1, "fps": 4, "num_inference_steps": 1},
    },
    "limits": {"body_bytes": 1024 * 1024, "image_bytes": 64 * 1024},
    # with keys on, it is also looked at what happens without one
    "access": {"keys_env": "API_KEYS"},
}


@pytest.fixture
def small(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """In the store of the engines, or no job would ever be run; the key makes its caller's videos its own."""
    monkeypatch.setenv("API_KEYS", "test:sk-test")
    with serving(**SMALL) as running:
        yield running


def test_the_same_requests_find_nothing_every_time(small: Running, tmp_path: Path) -> None:
    # by number and never by time, so that a slow machine sends what a fast one does
    assert schemathesis(small, tmp_path, {"--seed": str(SEED), "--max-examples": str(EXAMPLES)}) >= LEAST_REQUESTS


@pytest.mark.fuzz
@pytest.mark.timeout(4 * SEARCH_S)
def test_a_search_finds_nothing(small: Running, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    seed = os.environ.get("FUZZ_SEED") or str(random.randrange(2**32))
    with capfd.disabled():
        print(f"\nFUZZ_SEED={seed}: this search again, for {SEARCH_S:.0f} s: FUZZ_SEED={seed} make fuzz", flush=True)
    sent = schemathesis(small, tmp_path, {"--seed": seed, "--max-time": f"{SEARCH_S:.0f}"})
    with capfd.disabled():
        print(f"{sent} requests", flush=True)


def schemathesis(running: Running, folder: Path, options: dict[str, str]) -> int:
    """The number of requests that a run sent; one that finds something fails."""
    report = folder / "report.ndjson"
    # a process of its own: its hooks and warnings are not ours, and the server's thread is not slowed down by it
    every = options | {
        "--checks": "all",
        "--exclude-checks": ",".join(sorted(LEFT_OUT)),
        "--header": "Authorization: Bearer sk-test",
        "--request-timeout": "60",
        "--generation-database": "none",
        "--report-ndjson-path": str(report),
    }
    arguments = [word for option in every.items() for word in option]
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{running.url}/openapi.json", "--no-color", *arguments]
    (folder / "schemathesis.toml").write_text(CONFIG)
    environment = os.environ | {"SCHEMATHESIS_HOOKS": str(Path(__file__).with_name("sendable.py"))}
    ran = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    return requests_in(report)


def requests_in(report: Path) -> int:
    finished = [json.loads(line).get("ScenarioFinished") for line in report.read_text().splitlines()]
    # a scenario that was skipped has no interactions
    return sum(len(each["recorder"].get("interactions", ())) for each in finished if each)
