"""What a task asks of a model beyond a prompt and a size, and whether the model's card has it.

The ingress looks before a request waits for the model, the engines again: the words of a refusal stand here alone.
"""

from typing import NamedTuple

from serve_app.errors import InvalidRequest, UnsupportedParameter
from serve_app.tasks import ImageTask, ModelCard, VideoTask


class Requirement(NamedTuple):
    """One thing that not every model can do: its word in a card, the caller's field, and how a refusal ends."""

    capability: str
    param: str
    lacking: str


def requirements_of(task: ImageTask | VideoTask, *, images: int = 0) -> list[Requirement]:
    """`images` is how many frames a video is made from: its task only holds their keys, and not yet at the ingress."""
    asked = {
        Requirement("negative_prompt", "nvext.negative_prompt", "takes no negative prompt"): bool(task.negative_prompt)
    }
    if isinstance(task, ImageTask):
        asked[Requirement("edit", "image", "cannot edit images")] = bool(task.input_images)
        asked[Requirement("mask", "mask", "takes no mask")] = task.mask is not None
    else:
        asked[Requirement("image_to_video", "input_reference", "makes videos from text alone")] = images > 0
        asked[Requirement("last_frame", "last_frame", "takes no last frame")] = images > 1
        for name in ("boundary_ratio", "guidance_scale_2"):
            lacking = f"has one expert; {name} is for models of two"
            asked[Requirement("two_experts", f"nvext.{name}", lacking)] = getattr(task, name) is not None
    return [requirement for requirement, is_asked in asked.items() if is_asked]


def refuse_what_it_lacks(
    task: ImageTask | VideoTask, card: ModelCard, *, images: int = 0, image_field: str = "image"
) -> None:
    """Raises UnsupportedParameter, or InvalidRequest for too many images, that names field and limit."""
    if isinstance(task, ImageTask):
        refuse_images(len(task.input_images), card, image_field)
    for requirement in requirements_of(task, images=images):
        if requirement.capability not in card.capabilities:
            raise UnsupportedParameter(f"The model '{card.model}' {requirement.lacking}.", param=requirement.param)
    for name in task.parameters:
        if name not in card.parameters:
            known = f"it has {', '.join(sorted(card.parameters))}" if card.parameters else "it has none of its own"
            raise UnsupportedParameter(f"The model '{card.model}' has no {name}: {known}.", param=f"nvext.{name}")


def refuse_images(given: int, card: ModelCard, field: str) -> None:
    """Raises for images to edit that the model cannot take, or so many of them."""
    if given and "edit" not in card.capabilities:
        raise UnsupportedParameter(f"The model '{card.model}' cannot edit images.", param=field)
    if given > max(card.input_images, 1):
        raise InvalidRequest(
            f"'{field}' holds {given} images; the model '{card.model}' takes {card.input_images}.", param=field
        )
