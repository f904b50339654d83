"""FLUX.2: dev, klein and the undistilled klein."""

from __future__ import annotations

import io
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLFlux2, Flux2KleinPipeline, Flux2Pipeline, Flux2Transformer2DModel
from PIL import Image
from transformers import Mistral3Config, Mistral3ForConditionalGeneration, Qwen3Config, Qwen3ForCausalLM

from serve_app.engines.load import load
from serve_app.errors import InvalidRequest
from serve_app.model_settings import ImageSettings
from serve_app.tasks import ImageTask
from tests.engines.diffusers.families import parts

HIDDEN = 8
DEV_CHAT = (
    "{% for message in messages %}<|im_start|>"
    "{% for part in message.content %}{{ part.text }}{% endfor %}<|im_end|>{% endfor %}"
)


def transformer(**changes: Any) -> Any:
    torch.manual_seed(0)
    return Flux2Transformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * HIDDEN,
        axes_dims_rope=(4, 4, 4, 4),
        **changes,
    )


def vae() -> Any:
    torch.manual_seed(1)
    return AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4,) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=1,
    ).eval()


def make_dev(folder: Path) -> None:
    torch.manual_seed(2)
    config = Mistral3Config(
        text_config={
            "model_type": "mistral",
            "vocab_size": parts.VOCABULARY,
            "hidden_size": HIDDEN,
            "intermediate_size": HIDDEN,
            "num_attention_heads": 2,
            "num_hidden_layers": 31,
            "num_key_value_heads": 2,
            "head_dim": 4,
        },
        vision_config={
            "model_type": "pixtral",
            "hidden_size": HIDDEN,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": HIDDEN,
        },
    )
    tokenizer = parts.qwen_tokenizer()
    tokenizer.chat_template = DEV_CHAT
    pipeline = Flux2Pipeline(
        scheduler=parts.flow_scheduler(use_dynamic_shifting=True),
        vae=vae(),
        text_encoder=Mistral3ForConditionalGeneration(config).eval(),
        tokenizer=tokenizer,
        transformer=transformer(),
    )
    pipeline.save_pretrained(folder)
    index = folder / "model_index.json"  # as the real checkpoint: a processor that needs torchvision
    index.write_text(json.dumps(json.loads(index.read_text()) | {"tokenizer": ["transformers", "PixtralProcessor"]}))


def make_klein(folder: Path, *, is_distilled: bool) -> None:
    torch.manual_seed(3)
    config = Qwen3Config(
        vocab_size=parts.VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=HIDDEN,
        num_hidden_layers=28,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=4,
    )
    Flux2KleinPipeline(
        scheduler=parts.flow_scheduler(use_dynamic_shifting=True),
        vae=vae(),
        text_encoder=Qwen3ForCausalLM(config).eval(),
        tokenizer=parts.qwen_tokenizer(),
        transformer=transformer(guidance_embeds=False),
        is_distilled=is_distilled,
    ).save_pretrained(folder)


EDITS = frozenset({"edit", "mask"})
CHECKPOINTS = {
    "flux2": parts.Checkpoint(make_dev, 50, 4.0, frozenset({"edit"}), 10),
    "flux2-klein": parts.Checkpoint(partial(make_klein, is_distilled=True), 4, 1.0, EDITS, 4),
    "flux2-klein-base": parts.Checkpoint(partial(make_klein, is_distilled=False), 50, 4.0, EDITS, 4),
}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
async def test_a_mask_keeps_what_is_outside_and_a_second_image_is_looked_at(tmp_path: Path) -> None:
    make_klein(tmp_path, is_distilled=True)
    engine = load(ImageSettings(model=str(tmp_path)))
    mask = Image.new("L", (64, 64), "black")
    mask.paste("white", (0, 0, 32, 64))

    async def draw(*colors: str, **changes: Any) -> Any:
        images = tuple(png(Image.new("RGB", (64, 64), color)) for color in colors)
        values: dict[str, Any] = {"id": "i", "model": "m", "prompt": "a cat", "width": 64, "height": 64, "seed": 7}
        values["input_images"], values["mask"] = images, png(mask)
        task = ImageTask(**(values | changes))
        return (await engine.generate(task, lambda _: None)).pixels[0]

    drawn = await draw("navy")
    assert (drawn[:, 32:] == (0, 0, 128)).all()
    assert (drawn[:, :32] != (0, 0, 128)).any()
    assert (await draw("navy", "olive") != drawn).any()
    with pytest.raises(InvalidRequest, match="looks at two images at most") as caught:
        await draw("navy", "olive", "maroon")
    assert caught.value.param == "image"
    with pytest.raises(InvalidRequest, match="1048576 pixels at most") as caught:
        await draw("navy", width=1040, height=1024)
    assert caught.value.param == "size"
    engine.close()


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
