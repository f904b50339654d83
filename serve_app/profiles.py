"""The profiles: what lies below the keys that an operator writes. `settings.resolve` lays them together."""

from typing import Any


def _steps(**by_preset: int) -> dict[str, Any]:
    return {preset: {"num_inference_steps": steps} for preset, steps in by_preset.items()}


SMALL = {"engine": "diffusers", "cpus": 0.2}
LARGE = {"engine": "sglang", "gpus": 1, "cpus": 4}
DEMO: dict[str, Any] = {
    "models": {
        "text": {
            **SMALL,
            "model": "demo/llada2-tiny",
            # it was trained on windows of up to 1,536 tokens, of about 2.7 characters each
            "limits": {"max_tokens": 512, "prompt_chars": 2700},
            "defaults": {"max_tokens": 256},
        },
        "image": {
            **SMALL,
            "model": "demo/flux-tiny",
            "limits": {"max_side": 512},
            # a lower guidance than FLUX's own 3.5, with which this model leaves out the stars
            "defaults": {"width": 256, "height": 256, "num_inference_steps": 8, "guidance_scale": 2.0},
            "quality": _steps(low=4, high=16),
        },
        "video": {
            **SMALL,
            "model": "demo/wan-tiny",
            "limits": {"max_side": 512, "frames": 49},
            "defaults": {
                "width": 256,
                "height": 256,
                "num_frames": 17,
                "fps": 8,
                "num_inference_steps": 8,
                "guidance_scale": 1.0,  # guidance was distilled into it: more than 1 takes twice the time
            },
            "quality": _steps(low=4, high=16),
        },
    },
}
# fixed patterns of steps to compute, so that the gain does not hang on the picture: of 28 11 and 15, of 50 20 and 29
FAST, BALANCED = (
    {"step_caching": {"method": "cache_dit", "scm_preset": pattern, "scm_policy": "static"}}
    for pattern in ("fast", "medium")
)
GPU: dict[str, Any] = {
    "models": {
        # LLaDA2 checkpoints bring their configuration as code
        "text": {
            **LARGE,
            "model": "inclusionAI/LLaDA2.0-mini-preview",
            "trust_remote_code": True,
            # 128 callers get more tokens a second than by 64 at once, and none waits to begin (benchmarks/README.md)
            "max_running_requests": 128,
        },
        "image": {
            **LARGE,
            "model": "black-forest-labs/FLUX.1-dev",
            "defaults": {"num_inference_steps": 28, "guidance_scale": 3.5},
            # SGLang's threshold for steps that hardly change took a moon from a picture (benchmarks/README.md)
            "quality": {"low": FAST, "medium": BALANCED, **_steps(high=50, hd=50)},
        },
        "video": {
            **LARGE,
            "model": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
            "defaults": {"num_inference_steps": 50, "guidance_scale": 5.0},
            # SGLang's TeaCache takes half of exact by its authors' figures, less than `low` (benchmarks/README.md)
            "quality": {"low": FAST, "medium": BALANCED, **_steps(high=50, hd=50)},
        },
    },
    "ingress": {"cpus": 1},
}
PROFILES = {"demo": DEMO, "gpu": GPU}
"""Under `models` the keys of each kind: below every model of that kind, `model` itself only below the one that bears
the kind's name."""


def laid_over(below: Any, above: Any) -> Any:
    """`above` over `below`: mappings key by key, lists of named items by name, all else replaced."""
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: laid_over(below.get(key), value) for key, value in above.items()}
    if _named(below) and _named(above):
        by_name = {item["name"]: item for item in below}
        for item in above:
            by_name[item["name"]] = laid_over(by_name.get(item["name"]), item)
        return list(by_name.values())
    return above


def _named(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) and "name" in item for item in value)
