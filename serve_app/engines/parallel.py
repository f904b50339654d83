"""How one replica's GPUs work on one generation: our four words, as SGLang's arguments.

`diffusion-serve check` refuses an impossible combination with it before anything is loaded, and so does the replica.
"""

from typing import Any, Literal

from serve_app.engines.families import look_up
from serve_app.model_settings import AnyModel, TextSettings

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
        choose(model)
    elif model.gpus > 1:
        raise Impossible("gpus", f"the diffusers engine uses one GPU at most, not {model.gpus:g}")
    elif model.parallel != "auto":
        raise Impossible(
            "parallel", f"{model.parallel} needs 2 GPUs or more, and the diffusers engine uses one at most"
        )


def choose(model: AnyModel) -> Chosen:
    """What `auto` comes to; raises Impossible for what cannot work.

    Where a step runs the model twice, each half on its own GPUs needs no exchange within a step, and was faster:
    8.1 s for a video of Wan 14B on two, 10.6 by tensor (benchmarks/README.md). Other families are not timed yet.
    """
    count, parallel = _whole_gpus(model.gpus), model.parallel
    if count == 1:
        if parallel != "auto":
            raise Impossible("parallel", f"{parallel} needs 2 GPUs or more, but gpus is {model.gpus:g}")
        return "single"
    if isinstance(model, TextSettings):
        if parallel not in ("auto", "tensor"):
            raise Impossible("parallel", f"text models run on several GPUs by tensor parallelism only, not {parallel}")
        return "tensor"
    family, scale = look_up(model), model.defaults.guidance_scale
    one_half = (family is not None and not family.guided) or (scale is not None and scale <= 1)
    if parallel == "cfg" and family is not None and not family.guided:
        why = f"cfg: {family.name} runs once a step, without a second half of guidance to split off"
        raise Impossible("parallel", why)
    if parallel == "cfg" and count % 2:
        raise Impossible("gpus", f"parallel: cfg halves the GPUs, so it needs an even count, not {count}")
    if parallel == "cfg" and one_half:
        raise Impossible("parallel", f"cfg needs a guidance_scale above 1, but the default is {scale:g}")
    if parallel != "auto":
        return parallel
    # every known family of videos is guided
    known = family is not None or model.kind == "video"
    return "cfg" if known and not one_half and count % 2 == 0 else "sequence"


def sglang_arguments(model: AnyModel) -> dict[str, Any]:
    """The keyword arguments of `sgl.Engine` (text) or of SGLang's diffusion ServerArgs (image, video)."""
    count, chosen = _whole_gpus(model.gpus), choose(model)
    if model.kind == "text":
        return {"tp_size": count}
    if chosen == "tensor":
        return {"num_gpus": count, "tp_size": count, "enable_cfg_parallel": False}
    if chosen == "cfg":
        # GPUs beyond the two halves share the sequence within each half: SGLang's own default for the rest
        return {"num_gpus": count, "enable_cfg_parallel": True}
    if chosen == "sequence":
        # how the parts are exchanged is left to SGLang: on two GPUs it gathers keys and values, on more it is Ulysses
        return {"num_gpus": count, "enable_cfg_parallel": False}
    return {"num_gpus": 1}


def _whole_gpus(gpus: float) -> int:
    """GPUs that the engine sees: a fraction of one is one that others use too."""
    if gpus <= 0:
        raise Impossible("gpus", "the sglang engine needs a GPU: 1, 2 ... or a fraction of one")
    return max(1, int(gpus))
