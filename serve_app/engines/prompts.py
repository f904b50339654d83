"""Prompts as the tokens of a model's own tokenizer, and what both engines ask of a text before they begin."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from serve_app.errors import ContextLengthExceeded
from serve_app.tasks import TextTask


def read_prompt(task: TextTask, tokenizer: Any) -> list[int]:
    """The tokens of the prompt, or of the messages, which the chat template joins where there is one."""
    if task.messages and not task.raw_prompt and tokenizer.chat_template:
        messages = [{"role": message.role, "content": message.content} for message in task.messages]
        return tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    return tokenizer("\n".join(message.content for message in task.messages) or task.prompt)["input_ids"]


def fitted(task: TextTask, prompt_tokens: int, context: int) -> TextTask:
    """The task, with a `max_tokens` of ours cut to what the context still holds beside the prompt.

    Raises ContextLengthExceeded where the prompt leaves no place, or the caller asked for more than there is.
    """
    left = context - prompt_tokens
    if left < 1:
        asked = f"your prompt has {prompt_tokens} tokens, which leaves no place for a completion"
        raise ContextLengthExceeded.of(context, asked, "messages" if task.messages else "prompt")
    if task.max_tokens <= left:
        return task
    if task.fewer_tokens:
        return replace(task, max_tokens=left)
    asked = f"you asked for {prompt_tokens + task.max_tokens} ({prompt_tokens} of prompt, {task.max_tokens} to write)"
    raise ContextLengthExceeded.of(context, asked, "max_tokens")


def name_ignored(task: TextTask, honoured: Collection[str] = ()) -> tuple[str, ...]:
    """The parameters with which the caller asked for sampling, but those `honoured`. Greedy values ask for nothing."""
    asked = {
        "temperature": task.temperature not in (None, 0, 1),
        "top_p": task.top_p not in (None, 1),
        "top_k": task.top_k not in (None, 0, 1, -1),
        "seed": task.seed is not None,
    }
    return tuple(name for name, was in asked.items() if was and name not in honoured)


class PromptCounter:
    """Of a checkpoint's tokenizers, that of the encoder that reads the longest prompts: FLUX's T5, not its CLIP."""

    def __init__(self, tokenizers: Collection[Any]) -> None:
        """`tokenizers` are transformers' own, or processors that hold one; ValueError where there is none."""
        bare = [getattr(tokenizer, "tokenizer", tokenizer) for tokenizer in tokenizers if tokenizer is not None]
        if not bare:
            raise ValueError("the checkpoint has no tokenizer")
        self._tokenizer = max(bare, key=lambda tokenizer: tokenizer.model_max_length)

    @classmethod
    def of_checkpoint(cls, model: str, revision: str | None = None) -> Self:
        """For a folder, or a hub id that is in the hub's cache. ValueError or OSError where its tokenizer is not."""
        from huggingface_hub import snapshot_download
        from transformers import AutoTokenizer

        folder = Path(model).expanduser()
        if not folder.is_dir():
            patterns = ["tokenizer*/*"]
            folder = Path(snapshot_download(model, revision=revision, allow_patterns=patterns, local_files_only=True))
        parts = sorted(part for part in folder.glob("tokenizer*") if part.is_dir())
        return cls([AutoTokenizer.from_pretrained(str(part), local_files_only=True) for part in parts])

    def count(self, prompt: str) -> int:
        """The prompt's own tokens, without those that mark its beginning and end."""
        return len(self._tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"])
