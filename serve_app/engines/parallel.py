"""How one replica's GPUs work on one generation: our four words, as SGLang's arguments.

Pure: `diffusion-serve check` refuses an impossible combination with it before anything is loaded. Knows no engine.
"""

from __future__ import annotations

from typing import Any, Literal

from serve_app.model_settings import AnyModel, Parallel, TextSettings
from serve_app.tasks import Kind

Chosen = Literal["single", "tensor", "cfg", "sequence"]


class Impossible(ValueError):
    """GPUs or a parallelism that cannot work; `key` is the setting that is wrong."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key}: {why}")
        self.key = key
        self.why = why


def check(model: AnyModel, engine: Literal["diffusers", "sglang"]) -> None:
    """Raises Impossible where this engine cannot run this model on its GPUs as the settings say."""
    if engine == "sglang":
        choose(model.kind, model.gpus, model.parallel, guidance_of(model))
    elif model.gpus > 1:
        raise Impossible("gpus", f"the diffusers engine uses one GPU at most, not {model.gpus:g}")
    elif model.parallel != "auto":
        raise Impossible(
            "parallel", f"{model.parallel} needs 2 GPUs or more, and the diffusers engine uses one at most"
        )


def guidance_of(model: AnyModel) -> float | None:
    """The default guidance scale: 1 (none) for text, None where it is the family's."""
    return 1.0 if isinstance(model, TextSettings) else model.defaults.guidance_scale


def whole_gpus(gpus: float) -> int:
    """GPUs that the engine sees: a fraction of one is one that others use too."""
    if gpus <= 0:
        raise Impossible("gpus", "the sglang engine needs a GPU: 1, 2 ... or a fraction of one")
    return max(1, int(gpus))


def choose(kind: Kind, gpus: float, parallel: Parallel, guidance_scale: float | None) -> Chosen:
    """What `auto` comes to; raises Impossible for what cannot work. `guidance_scale` is the model's default, None where
    its family says it: video families guide.

    With guidance above 1 a video model runs twice a step, with and without the prompt: each half on its own GPUs needs
    no exchange within a step, so that `auto` takes it. The two have not been timed side by side yet: see
    benchmarks/README.md.
    """
    count = whole_gpus(gpus)
    if count == 1:
        if parallel != "auto":
            raise Impossible("parallel", f"{parallel} needs 2 GPUs or more, but gpus is {gpus:g}")
        return "single"
    if kind == "text":
        if parallel not in ("auto", "tensor"):
            raise Impossible("parallel", f"text models run on several GPUs by tensor parallelism only, not {parallel}")
        return "tensor"
    guided = guidance_scale is None or guidance_scale > 1
    if parallel == "cfg":
        if kind == "image":
            raise Impossible("parallel", "cfg: FLUX takes guidance as an input and has no second half to split off")
        if count % 2:
            raise Impossible("gpus", f"parallel: cfg halves the GPUs, so it needs an even count, not {count}")
        if not guided:
            raise Impossible("parallel", f"cfg needs a guidance_scale above 1, but the default is {guidance_scale:g}")
    if parallel != "auto":
        return parallel
    return "cfg" if kind == "video" and count % 2 == 0 and guided else "sequence"


def sglang_arguments(kind: Kind, gpus: float, parallel: Parallel, guidance_scale: float | None) -> dict[str, Any]:
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
