"""Qwen-Image-Edit: its processor is put together without torchvision."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from diffusers import QwenImageEditPipeline, QwenImageEditPlusPipeline
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from tests.engines.diffusers.families import parts
from tests.engines.diffusers.families.test_qwen_image import transformer


def make(folder: Path, cls: Any) -> None:
    tokenizer = parts.qwen_tokenizer()
    pipeline = cls(
        scheduler=parts.flow_scheduler(use_dynamic_shifting=True),
        vae=parts.qwen_vae(halvings=5),  # it looks at images in a megapixel
        text_encoder=parts.qwen_encoder(),
        tokenizer=tokenizer,
        processor=None,
        transformer=transformer(),
    )
    pipeline.save_pretrained(folder)
    tokenizer.save_pretrained(folder / "processor")
    Qwen2VLImageProcessorPil(max_pixels=28 * 28 * 16).save_pretrained(folder / "processor")
    index = folder / "model_index.json"  # as the real checkpoints: a processor that needs torchvision
    index.write_text(json.dumps(json.loads(index.read_text()) | {"processor": ["transformers", "Qwen2VLProcessor"]}))


CAN = frozenset({"edit", "negative_prompt"})
CHECKPOINTS = {
    "qwen-image-edit": parts.Checkpoint(partial(make, cls=QwenImageEditPipeline), 50, 4.0, CAN),
    "qwen-image-edit-plus": parts.Checkpoint(partial(make, cls=QwenImageEditPlusPipeline), 50, 4.0, CAN, 3),
}
