"""What SGLang 0.5.23's own configurations do not say of its families of images. Imports nothing of SGLang."""

from __future__ import annotations

INPUT_IMAGES = {
    "Flux2PipelineConfig": 10,
    "Flux2KleinPipelineConfig": 4,
    "QwenImageEditPipelineConfig": 1,
    "QwenImageEditPlusPipelineConfig": 3,
}
"""How many images an edit takes, by the class of a pipeline's configuration in SGLang."""
SINCE = "0.5.23"
"""The first release that this engine works with: it cancels and counts steps by its ways."""
