"""Whether a prompt and its completion fit into a model's context. Pure: numbers in, a task out."""

from __future__ import annotations

from dataclasses import replace

from serve_app.errors import ContextLengthExceeded
from serve_app.tasks import TextTask


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
