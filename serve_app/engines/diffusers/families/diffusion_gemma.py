"""DiffusionGemma: canvases of random tokens, of which each step accepts the surest and renews the others.

Its sampler draws by temperatures of its own, which fall from step to step: callers choose nothing but the seed.
"""

from typing import Any

import diffusers
import torch
import transformers
from transformers import AutoTokenizer

from serve_app.engines.diffusers.arguments import Algorithm, Renoising
from serve_app.engines.diffusers.families.text import TextFamily, Watcher, seeded
from serve_app.engines.diffusers.loading import Source
from serve_app.engines.families import GEMMA4_RENOISE
from serve_app.tasks import TextTask


class GivenTokens:
    """Stands for the processor that the pipeline has make token ids of messages: the engine has made them already."""

    def apply_chat_template(self, messages: list[int], **_: object) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.tensor([messages], dtype=torch.long)}


class DiffusionGemma(TextFamily):
    name = "DiffusionGemma"
    classes = ("DiffusionGemmaForBlockDiffusion",)
    since = "0.39"
    algorithms = (GEMMA4_RENOISE,)
    samples = ("seed",)

    def __init__(self, source: Source, class_name: str) -> None:
        loader: Any = getattr(transformers, class_name)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(source.model, **source.hub_arguments)
        model = loader.from_pretrained(source.model, dtype=source.dtype, **source.hub_arguments)
        self.model: Any = model.to(source.device).eval()
        self.block_length: int = self.model.config.canvas_length
        self.context: int = self.model.config.text_config.max_position_embeddings
        ends = self.model.generation_config.eos_token_id
        more = ends if isinstance(ends, list) else [ends]
        self.ends = frozenset({self.tokenizer.eos_token_id, *more} - {None})
        self._device = source.device

    def generate(self, task: TextTask, prompt: list[int], algorithm: Algorithm, watcher: Watcher) -> None:
        """What a canvas has come to, the pipeline tells no callback, but the encoder, before the next canvas begins."""
        assert isinstance(algorithm, Renoising), "it is one of this family's"
        scheduler = _scheduler(algorithm)
        begun = 0

        def own(ids: torch.Tensor) -> list[int]:
            return ids[0, -self.block_length :].tolist()[: task.max_tokens - (begun - 1) * self.block_length]

        def before_encoding(_: object, args: object, given: dict[str, Any]) -> None:
            nonlocal begun
            if begun:
                watcher.end_block(own(given["input_ids"]))
            begun += 1

        def on_step(pipeline: object, step: int, timestep: int, tensors: dict[str, Any]) -> dict[str, Any]:
            open_still = own(~scheduler.accepted)
            last = begun * self.block_length >= task.max_tokens
            watcher.see_step(begun, own(tensors["canvas"]), [bool(is_open) for is_open in open_still], last=last)
            return {}

        pipeline: Any = diffusers.DiffusionGemmaPipeline(self.model, scheduler, GivenTokens())
        pipeline.set_progress_bar_config(disable=True)
        with self.model.model.encoder.register_forward_pre_hook(before_encoding, with_kwargs=True):
            made = pipeline(
                messages=prompt or [self.tokenizer.bos_token_id],
                gen_length=task.max_tokens,
                num_inference_steps=algorithm.max_denoising_steps,
                confidence_threshold=algorithm.confidence_threshold or None,
                stability_threshold=algorithm.stability_threshold,
                eos_early_stop=False,  # the watcher looks for more tokens than the one that the pipeline knows
                output_type="seq",
                callback_on_step_end=on_step,
                callback_on_step_end_tensor_inputs=["canvas"],
                **seeded(task, self._device),
            )
        watcher.end_block(own(made.sequences))


def _scheduler(algorithm: Renoising) -> Any:
    base: Any = diffusers.EntropyBoundScheduler

    class Scheduler(base):
        """Keeps which tokens the last step accepted."""

        accepted: torch.Tensor

        # the pipeline reads off the signature what it may pass
        def step(self, model_output: Any, timestep: Any, sample: Any, *, generator: Any, return_dict: bool) -> Any:
            made = super().step(model_output, timestep, sample, generator=generator, return_dict=return_dict)
            self.accepted = made.accepted_index
            return made

    return Scheduler(entropy_bound=algorithm.entropy_bound, t_max=algorithm.t_max, t_min=algorithm.t_min)
