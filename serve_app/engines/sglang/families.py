"""What SGLang 0.5.23's own configurations do not say of its families of images. Imports nothing of SGLang."""

from __future__ import annotations

INPUT_IMAGES = {
    "Flux2PipelineConfig": 10,
    "Flux2KleinPipelineConfig": 4,
    "QwenImageEditPipelineConfig": 1,
    "QwenImageEditPlusPipelineConfig": 3,
}
"""How many images an edit takes, by the class of a pipeline's configuration."""
SINCE = "0.5.23"
"""The first release that this engine works with: it cancels and counts steps by its ways."""
NATIVE = ("FLUX.1", "FLUX.2", "FLUX.2 klein", "Qwen-Image", "Qwen-Image-Edit", "Z-Image", "Wan 2.1 and 2.2", "LLaDA2")
"""Families with a pipeline of SGLang's own, by the names that they have in the table of serve_app/README.md."""
