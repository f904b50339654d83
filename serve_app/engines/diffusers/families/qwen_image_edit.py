"""Qwen-Image-Edit, of one image, and its later releases (2509, 2511), of up to three."""

from typing import Any

import torch
from transformers import AutoTokenizer, BatchFeature
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from serve_app.engines.diffusers.families.base import ReferenceEdits, Size
from serve_app.engines.diffusers.families.qwen_image import arguments_of_qwen, decode_qwen
from serve_app.engines.diffusers.loading import Source
from serve_app.tasks import ImageTask

IMAGE = "<|image_pad|>"


class PromptProcessor:
    """What Qwen2VLProcessor does for texts with images: an image's mark becomes as many as it has tokens."""

    def __init__(self, image_processor: Any, tokenizer: Any) -> None:
        self.image_processor = image_processor
        self.tokenizer = tokenizer

    def __call__(self, *, text: list[str], images: Any, padding: bool, return_tensors: str) -> BatchFeature:
        seen = self.image_processor(images=images, return_tensors=return_tensors)
        marks = iter(int(grid.prod()) // self.image_processor.merge_size**2 for grid in seen["image_grid_thw"])
        parts = [each.split(IMAGE) for each in text]
        texts = [first + "".join(IMAGE * next(marks) + part for part in rest) for first, *rest in parts]
        return BatchFeature({**self.tokenizer(texts, padding=padding, return_tensors=return_tensors), **seen})


class QwenImageEdit(ReferenceEdits):
    name = "Qwen-Image-Edit"
    classes = ("QwenImageEditPipeline", "QwenImageEditPlusPipeline")
    since = "0.36"
    num_inference_steps = 50
    guidance_scale = 4.0
    needs_image = True

    def __init__(self, source: Source, class_name: str) -> None:
        super().__init__(source, class_name)
        self.input_images = 3 if class_name == "QwenImageEditPlusPipeline" else 1

    def load_parts(self, source: Source) -> dict[str, Any]:
        # the processor that diffusers would load brings one of videos, which imports torchvision
        where: dict[str, Any] = {"subfolder": "processor", **source.hub_arguments}
        images = Qwen2VLImageProcessorPil.from_pretrained(source.model, **where)
        tokenizer = AutoTokenizer.from_pretrained(source.model, **where)
        return {"processor": PromptProcessor(images, tokenizer)}

    def arguments(self, task: ImageTask) -> dict[str, Any]:
        return arguments_of_qwen(task)

    def decode(self, latents: torch.Tensor, size: Size) -> torch.Tensor:
        return decode_qwen(self.pipeline, latents, size)
