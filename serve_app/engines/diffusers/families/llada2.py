"""LLaDA 2.x: masked tokens, block by block. Any masked language model that takes position_ids can stand for it."""

import sys
from typing import Any

import diffusers
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from serve_app.engines.diffusers.arguments import Algorithm, Editing, Unmasking
from serve_app.engines.diffusers.families.text import TextFamily, Watcher, seeded
from serve_app.engines.diffusers.loading import Source
from serve_app.engines.families import JOINT_THRESHOLD, LOW_CONFIDENCE
from serve_app.tasks import TextTask

SMALL = "ModernBertForMaskedLM"
"""The demo's, which is transformers' own; LLaDA2's code comes with its checkpoints."""


class LLaDA2(TextFamily):
    name = "LLaDA2"
    classes = ("LLaDA2MoeModelLM", SMALL)
    since = "0.38"
    algorithms = (LOW_CONFIDENCE, JOINT_THRESHOLD)
    samples = ("temperature", "top_p", "top_k", "seed")
    block_length = 32

    def __init__(self, source: Source, class_name: str) -> None:
        # one by one: LLaDA2Pipeline cannot load what it saves
        arguments = source.hub_arguments | {"trust_remote_code": source.trust_remote_code}
        loader: Any = AutoModelForMaskedLM if class_name == SMALL else AutoModelForCausalLM
        self.tokenizer: Any = AutoTokenizer.from_pretrained(source.model, **arguments)
        if self.tokenizer.mask_token_id is None:
            raise ValueError(f"'{source.model}' is no diffusion language model: its tokenizer has no mask token")
        self.model: Any = loader.from_pretrained(source.model, dtype=source.dtype, **arguments).to(source.device).eval()
        self.context: int = self.model.config.max_position_embeddings
        self.ends = frozenset({self.tokenizer.eos_token_id})
        self._mask: int = self.tokenizer.mask_token_id
        self._device = source.device
        self._pipeline: Any = diffusers.LLaDA2Pipeline(
            model=self.model, scheduler=diffusers.BlockRefinementScheduler(), tokenizer=self.tokenizer
        )
        self._pipeline.set_progress_bar_config(disable=True)

    def generate(self, task: TextTask, prompt: list[int], algorithm: Algorithm, watcher: Watcher) -> None:
        """The pipeline tells no end of a block: without edits a block is finished as soon as no mask is left in it,
        with edits when the next block's first step comes or the call returns.
        """
        assert isinstance(algorithm, Unmasking), "it is one of this family's"
        text_end = len(prompt) + task.max_tokens
        ended = -1

        def on_step(pipeline: object, step: int, timestep: int, tensors: dict[str, Any]) -> dict[str, Any]:
            nonlocal ended
            sequence: torch.Tensor = tensors["block_x"]
            end = sequence.shape[1]
            start = end - self.block_length
            if start == ended:  # without edits the pipeline looks once more at a block that has no mask left
                return {}
            ids: list[int] = sequence[0, max(start, len(prompt)) : min(end, text_end)].tolist()
            watcher.see_step(start, ids, [token == self._mask for token in ids], last=end >= text_end)
            if not isinstance(algorithm, Editing) and self._mask not in ids:
                ended = start
                watcher.end_block()
            return {}

        self._pipeline(
            **pipeline_arguments(task, algorithm, self.block_length),
            **seeded(task, self._device),
            input_ids=torch.tensor([prompt], dtype=torch.long),
            callback_on_step_end=on_step,
            callback_on_step_end_tensor_inputs=["block_x"],
        )
        watcher.end_block()


def pipeline_arguments(task: TextTask, algorithm: Unmasking, block_length: int) -> dict[str, Any]:
    """What the pipeline takes, but for prompt, seed and callback."""
    temperature = _temperature(task)
    edits = isinstance(algorithm, Editing)
    arguments: dict[str, Any] = {
        "gen_length": task.max_tokens,
        "block_length": block_length,
        "num_inference_steps": block_length,
        "temperature": temperature,
        "sampling_method": "auto",
        "threshold": algorithm.threshold,
        # SGLang's 0 means "edit whenever the prediction differs"; diffusers reads 0 as "never edit"
        "editing_threshold": algorithm.edit_threshold or sys.float_info.min if edits else None,
        "max_post_steps": algorithm.max_post_edit_steps if edits else 0,
        "eos_early_stop": not task.ignore_eos,
        "output_type": "seq",
    }
    sampling = {"top_p": task.top_p, "top_k": task.top_k} if temperature > 0 else {}
    return arguments | {key: value for key, value in sampling.items() if value is not None}


_COLDEST = 1e-6
"""Logits divided by less are infinite in float32, and what is left to choose from is the likeliest token alone."""


def _temperature(task: TextTask) -> float:
    """The scheduler's default is greedy; a caller who asks for sampling but names no temperature gets OpenAI's, 1.

    Where only the likeliest token is left to choose from, that is greedy too: sampled, it would be certain of itself
    and the whole block would be committed in one step.
    """
    if task.top_k == 1 or task.top_p == 0:
        return 0.0
    if task.temperature is not None:
        return task.temperature if task.temperature > _COLDEST else 0.0
    sampling = (task.top_p, task.top_k, task.seed)
    return 0.0 if all(value is None for value in sampling) else 1.0
