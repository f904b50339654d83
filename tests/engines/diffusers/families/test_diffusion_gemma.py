"""DiffusionGemma: canvases of random tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    DiffusionGemmaConfig,
    DiffusionGemmaForBlockDiffusion,
    DiffusionGemmaTextConfig,
    Gemma4VisionConfig,
    GemmaTokenizer,
)

from serve_app.engines.load import load
from serve_app.model_settings import TextSettings
from serve_app.tasks import TextBlock, TextEnd, TextTask
from tests.engines.diffusers.families.parts import TextCheckpoint

SPECIALS = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
LETTERS = "abcdefghijklmnop"
VOCABULARY = {token: index for index, token in enumerate((*SPECIALS, "\u2581", *LETTERS))}
CANVAS = 16


def make(folder: Path, *, ends: str = "<eos>") -> None:
    tokenizer = GemmaTokenizer(vocab=VOCABULARY, merges=[])
    tokenizer.chat_template = "{{ bos_token }}{% for message in messages %}{{ message.content }}{% endfor %}"
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    text_config: Any = DiffusionGemmaTextConfig
    text = text_config(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        global_head_dim=8,
        max_position_embeddings=256,
        sliding_window=32,
        layer_types=["sliding_attention", "full_attention"],
        num_experts=2,
        top_k_experts=1,
        moe_intermediate_size=8,
    )
    vision = Gemma4VisionConfig(
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=8,
    )
    model: Any = DiffusionGemmaForBlockDiffusion(
        DiffusionGemmaConfig(text_config=text, vision_config=vision, canvas_length=CANVAS)
    )
    model.generation_config.eos_token_id = [VOCABULARY["<eos>"], VOCABULARY[ends]]
    model.save_pretrained(folder)


FEW_STEPS: dict[str, float | int | bool | str] = {"max_denoising_steps": 6}
CHECKPOINTS = {
    "diffusion-gemma": TextCheckpoint(make, "Gemma4Renoise", CANVAS, frozenset({"seed"}), FEW_STEPS),
}


async def write(
    folder: Path, *, ignore_eos: bool = False, **algorithm_config: float | int | bool | str
) -> tuple[str, TextEnd]:
    """The text of one request, and its end."""
    algorithm_config = {"max_denoising_steps": 4} | algorithm_config
    engine = load(TextSettings(model=str(folder), served_name="tiny", algorithm_config=algorithm_config))
    task = TextTask(id="t", model="tiny", prompt="abc", max_tokens=24, seed=7, ignore_eos=ignore_eos)
    events = [event async for event in engine.generate(task)]
    engine.close()
    assert isinstance(events[-1], TextEnd)
    return "".join(event.text for event in events if isinstance(event, TextBlock)), events[-1]


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
async def test_each_end_of_the_checkpoint_ends_the_text(tmp_path: Path) -> None:
    make(tmp_path)
    whole, end = await write(tmp_path, ignore_eos=True)
    assert (end.finish_reason, end.completion_tokens, end.denoising_steps) == ("length", 24, 8)
    make(tmp_path, ends=whole[0])
    ended, end = await write(tmp_path)
    assert (ended, end.finish_reason) == ("", "stop")


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
async def test_a_sure_canvas_is_finished_early(tmp_path: Path) -> None:
    make(tmp_path)
    _, end = await write(
        tmp_path, ignore_eos=True, max_denoising_steps=40, confidence_threshold=1000, t_max=0.01, t_min=0.0001
    )
    assert 4 <= end.denoising_steps < 80


def test_the_algorithms_of_other_families_are_refused(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(ValueError, match="'LowConfidence': the diffusers engine has Gemma4Renoise for this model"):
        load(TextSettings(model=str(tmp_path), algorithm="LowConfidence"))
