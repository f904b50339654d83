"""The promises that no single module can keep: import boundaries, what an import costs, and the lock files."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements-cpu.lock", "requirements-gpu.lock")


def imported_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter holds after `statement`."""
    script = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def top_level(modules: set[str]) -> set[str]:
    return {module.split(".")[0] for module in modules}


def pins(lock: str) -> dict[str, str]:
    """Package to version; a package that is locked twice (by Python version) keeps its last."""
    lines = [line for line in (ROOT / lock).read_text().splitlines() if not line.lstrip().startswith("#")]
    return dict(re.fullmatch(r"([a-z0-9._-]+)==([^ ]+)( ; .*)?", line).group(1, 2) for line in lines)  # pyright: ignore


def test_import_boundaries() -> None:
    program = str(Path(sys.executable).parent / "lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_no_coroutine_is_handed_to_a_coroutine() -> None:
    """One that is cancelled before it begins would drop what it was handed: "was never awaited"."""
    found: list[str] = []
    for path in sorted((ROOT / "serve_app").rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.AsyncFunctionDef):
                given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
                kinds = [ast.unparse(each.annotation) for each in given if each.annotation]
                if any(kind.startswith(("Awaitable", "Coroutine")) for kind in kinds):
                    found.append(f"{path.relative_to(ROOT)}:{function.lineno} {function.name}")
    assert found == []


def test_the_package_itself_imports_nothing() -> None:
    ours = {module for module in imported_by("import serve_app") if module.startswith("serve_app")}
    assert ours == {"serve_app"}
    assert imported_by("import serve_app") - imported_by("pass") == {"serve_app"}


@pytest.mark.parametrize("module", ["serve_app.engines.base", "serve_app.engines.load", "serve_app.engines.pictures"])
def test_engines_are_chosen_without_loading_one(module: str) -> None:
    heavy = {"ray", "torch", "diffusers", "transformers", "sglang", "starlette"}
    assert top_level(imported_by(f"import {module}")) & heavy == set()


def test_the_ingress_needs_no_engine() -> None:
    modules = imported_by("import serve_app.ingress.asgi")
    assert top_level(modules) & {"torch", "diffusers", "transformers", "sglang"} == set()
    assert [module for module in modules if module.startswith(("serve_app.engines", "serve_app.deployments"))] == []


def test_the_command_line_waits_for_no_library() -> None:
    assert top_level(imported_by("import serve_app.cli")) & {"ray", "torch", "pyarrow", "pydantic"} == set()


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_files_name_packages_and_versions_alone(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "make lock" in text.splitlines()[1]
    for line in text.splitlines():
        if not line.startswith("#"):
            assert re.fullmatch(r"[a-z0-9._-]+==[0-9][0-9a-z.]*( ; [a-zA-Z0-9_ '<>=!.()]+)?", line), line
    assert "://" not in text


def test_the_cpu_lock_holds_nothing_for_gpus() -> None:
    locked = pins("requirements-cpu.lock")
    assert locked["torch"] == "2.13.0"
    assert [name for name in locked if name.startswith(("nvidia", "cuda", "triton", "sglang", "torchvision"))] == []
    assert "torchaudio" not in locked


def test_the_gpu_lock_holds_what_the_gpu_machine_ran() -> None:
    locked = pins("requirements-gpu.lock")
    expected = {"sglang": "0.5.23", "torch": "2.14.1", "diffusers": "0.37.0", "transformers": "5.19.0", "ray": "2.60.0"}
    assert {name: locked[name] for name in expected} == expected
    ran = dict(re.findall(r"^([a-z0-9._-]+)==(\S+)$", (ROOT / "locks" / "gpu-pins.txt").read_text(), re.MULTILINE))
    assert {
        name: (locked[name], version) for name, version in ran.items() if locked.get(name, version) != version
    } == {}


def test_both_locks_hold_everything_that_the_package_declares() -> None:
    import tomllib

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[\[<>=!]", requirement)[0] for requirement in declared}
    for lock in LOCKS:
        assert names - set(pins(lock)) == set(), lock
