"""The dLLM algorithms of the installed SGLang: their names and parameters, and the file that SGLang reads them from.

SGLang takes an unknown parameter without a word and a misspelt algorithm only when the scheduler starts, so both are
checked before anything is loaded.
"""

import difflib
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from serve_app.engines.families import GEMMA4_RENOISE

ATTENTION = {GEMMA4_RENOISE: "triton"}
"""The attention backend of algorithms that run with no other."""
SECTIONS = {GEMMA4_RENOISE: {"entropy_bound": "sampler_config"}}
"""Parameters that SGLang looks for below a key of their own, and elsewhere overlooks without a word."""
READ = re.compile(r"""config\.get\(\s*["'](\w+)["']""")


def installed() -> dict[str, frozenset[str]]:
    """The parameters that each algorithm reads, by its name; needs sglang."""
    from sglang.srt.dllm.algorithm import algo_name_to_cls

    return {
        name: parameters_read(inspect.getsource(inspect.getmodule(cls) or cls))
        for name, cls in algo_name_to_cls.items()
    }


def parameters_read(source: str) -> frozenset[str]:
    """The names that an algorithm's source asks its configuration for; SGLang itself asks for block_size."""
    return frozenset(READ.findall(source)) | {"block_size"}


def check(algorithm: str, config: Mapping[str, Any], known: Mapping[str, frozenset[str]]) -> None:
    """Raises ValueError with all that there is for a name or parameter that the installed version lacks."""
    if algorithm not in known:
        raise ValueError(f"text.algorithm: '{algorithm}' is not in this sglang{_instead(algorithm, known)}")
    for name in config:
        if name not in known[algorithm]:
            raise ValueError(
                f"text.algorithm_config: {algorithm} has no '{name}'{_instead(name, known[algorithm] - {name})}"
            )


def write(algorithm: str, config: Mapping[str, Any], folder: Path) -> Path:
    """The YAML file that `dllm_algorithm_config` names."""
    sections = SECTIONS.get(algorithm, {})
    written: dict[str, Any] = {name: value for name, value in config.items() if name not in sections}
    for name, section in sections.items():
        if name in config:
            written.setdefault(section, {})[name] = config[name]
    path = folder / "algorithm.yaml"
    path.write_text(yaml.safe_dump(written))
    return path


def _instead(name: str, there: Mapping[str, Any] | frozenset[str]) -> str:
    near = difflib.get_close_matches(name, list(there), n=1)
    meant = f"; did you mean '{near[0]}'?" if near else ""
    return f" (it has {', '.join(sorted(there))}){meant}"
