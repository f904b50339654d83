"""How one replica's GPUs work on one generation: our four words, as SGLang's arguments.

Pure: `diffusion-serve check` refuses an impossible combination with it before anything is loaded. Knows no engine.
"""

from __future__ import annotations

from typing import Any, Literal

from serve_app.settings import Parallel
from serve_app.tasks import Kind

Chosen = Literal["single", "tensor", "cfg", "sequence"]


def whole_gpus(gpus: float) -> int:
    """GPUs that the engine sees: a fraction of one is one that others use too."""
    if gpus <= 0:
        raise ValueError(f"gpus: {gpus:g}: the sglang engine needs a GPU")
    return max(1, int(gpus))


def choose(kind: Kind, gpus: float, parallel: Parallel, guidance_scale: float) -> Chosen:
    """What `auto` comes to, and a ValueError for what cannot work. `guidance_scale` is the model's default.

    With guidance above 1 a video model runs twice a step, with and without the prompt: each half on its own GPUs needs
    no exchange within a step, so that `auto` takes it. The two have not been timed side by side yet: see
    benchmarks/README.md.
    """
    count = whole_gpus(gpus)
    if count == 1:
        if parallel != "auto":
            raise ValueError(f"parallel: {parallel}: needs at least 2 GPUs, but gpus is {gpus:g}")
        return "single"
    if kind == "text":
        if parallel not in ("auto", "tensor"):
            raise ValueError(f"parallel: {parallel}: text models have tensor parallelism only")
        return "tensor"
    if parallel == "cfg":
        if kind == "image":
            raise ValueError("parallel: cfg: FLUX takes guidance as an input and has no second half to split off")
        if count % 2:
            raise ValueError(f"parallel: cfg: needs an even number of GPUs, but gpus is {count}")
        if guidance_scale <= 1:
            raise ValueError(f"parallel: cfg: needs a guidance_scale above 1, but the default is {guidance_scale:g}")
    if parallel != "auto":
        return parallel
    return "cfg" if kind == "video" and count % 2 == 0 and guidance_scale > 1 else "sequence"


def sglang_arguments(kind: Kind, gpus: float, parallel: Parallel, guidance_scale: float) -> dict[str, Any]:
    """The keyword arguments of `sgl.Engine` (text) or `DiffGenerator` (image, video)."""
    count, chosen = whole_gpus(gpus), choose(kind, gpus, parallel, guidance_scale)
    if kind == "text":
        return {"tp_size": count}
    if chosen == "tensor":
        return {"num_gpus": count, "tp_size": count, "enable_cfg_parallel": False}
    if chosen == "cfg":
        # GPUs beyond the two halves share the sequence within each half: SGLang's own default for the rest
        return {"num_gpus": count, "enable_cfg_parallel": True}
    if chosen == "sequence":
        return {"num_gpus": count, "enable_cfg_parallel": False, "ulysses_degree": count, "ring_degree": 1}
    return {"num_gpus": 1}
