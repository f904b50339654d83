"""How one replica's GPUs work on one generation: our four words, as SGLang's arguments.

`diffusion-serve check` refuses an impossible combination with it before anything is loaded, and so does the replica.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from serve_app.engines.families import look_up
from serve_app.model_settings import AnyModel, Parallel, TextSettings
from serve_app.tasks import Kind

Chosen = Literal["single", "tensor", "cfg", "sequence"]


class Impossible(ValueError):
    """GPUs or a parallelism that cannot work; `key` is the setting that is wrong."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key}: {why}")
        self.key = key
        self.why = why


@dataclass(frozen=True, slots=True)
class Guidance:
    """How a model is guided, as far as it is known before it is loaded.

    `scale` is the default of the settings, None where it is the family's. `halves`: whether a step runs the model
    twice, with and without the prompt. `family` names it in a refusal.
    """

    scale: float | None = None
    halves: bool | None = None
    family: str = "this model"

    @property
    def may_have_halves(self) -> bool:
        return self.halves is not False and (self.scale is None or self.scale > 1)


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


def guidance_of(model: AnyModel) -> Guidance:
    """By the family of the checkpoint, where that is known before it is loaded."""
    if isinstance(model, TextSettings):
        return Guidance(halves=False)
    found, scale = look_up(model), model.defaults.guidance_scale
    return Guidance(scale) if found is None else Guidance(scale, found.guided, found.name)


def whole_gpus(gpus: float) -> int:
    """GPUs that the engine sees: a fraction of one is one that others use too."""
    if gpus <= 0:
        raise Impossible("gpus", "the sglang engine needs a GPU: 1, 2 ... or a fraction of one")
    return max(1, int(gpus))


def choose(kind: Kind, gpus: float, parallel: Parallel, guidance: Guidance) -> Chosen:
    """What `auto` comes to; raises Impossible for what cannot work.

    Where a step runs the model twice, each half on its own GPUs needs no exchange within a step, so that `auto` takes
    it. The two have not been timed side by side yet: see benchmarks/README.md.
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
    if parallel == "cfg":
        _check_halves(count, guidance)
    if parallel != "auto":
        return parallel
    # every known family of videos is guided
    halves = guidance.may_have_halves and (guidance.halves or kind == "video")
    return "cfg" if halves and count % 2 == 0 else "sequence"


def _check_halves(count: int, guidance: Guidance) -> None:
    if guidance.halves is False:
        why = f"cfg: {guidance.family} runs once a step, without a second half of guidance to split off"
        raise Impossible("parallel", why)
    if count % 2:
        raise Impossible("gpus", f"parallel: cfg halves the GPUs, so it needs an even count, not {count}")
    if not guidance.may_have_halves:
        raise Impossible("parallel", f"cfg needs a guidance_scale above 1, but the default is {guidance.scale:g}")


def sglang_arguments(kind: Kind, gpus: float, parallel: Parallel, guidance: Guidance) -> dict[str, Any]:
    """The keyword arguments of `sgl.Engine` (text) or `DiffGenerator` (image, video)."""
    count, chosen = whole_gpus(gpus), choose(kind, gpus, parallel, guidance)
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
