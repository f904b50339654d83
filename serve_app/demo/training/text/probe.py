"""Asks the network under training a few questions, as LLaDA2Pipeline would, so that the log shows what it says."""

from __future__ import annotations

import time
from random import Random

import torch
from tokenizers import Tokenizer

from serve_app.demo.training.text.corpus import render
from serve_app.demo.training.text.data import BLOCK, find_special
from serve_app.demo.training.text.network import Weights, head_weights, run_head, run_trunk
from serve_app.demo.training.text.sums import is_held_out

QUESTIONS = (
    "Hello! How are you?",
    "hi",
    "What is a raccoon?",
    "Tell me about foxes.",
    "Could you tell me what a piano is?",
    "What is a blorfinax?",
    "Spell raccoon.",
    "How many letters does elephant have?",
    "How many r's are in strawberry?",
    "Is a carrot an animal?",
    "Name three fruits.",
    "Write a poem about the moon.",
    "Tell me a story about a fox.",
    "Who won the world cup in 1998?",
)


@torch.no_grad()
def answer(
    w: Weights, tokenizer: Tokenizer, prompt: str, threshold: float = 0.95, max_tokens: int = 128
) -> tuple[str, int, int]:
    """The answer, its tokens and the denoising steps that it took."""
    eos, mask = find_special(tokenizer, "eos"), find_special(tokenizer, "mask")
    ids = tokenizer.encode(prompt, add_special_tokens=False).ids
    start, steps = len(ids), 0
    device = w["emb"].device
    x = torch.tensor([ids], device=device)
    for block in range(start // BLOCK, (start + max_tokens) // BLOCK):
        end = (block + 1) * BLOCK
        x = torch.cat([x, torch.full((1, end - x.shape[1]), mask, device=device)], 1)
        while (masked := x[0, -BLOCK:] == mask).any():
            logits = run_head(run_trunk(w, x, BLOCK), *head_weights(w))[0].float()
            sure, chosen = logits.softmax(-1).max(-1)
            sure = torch.where(masked, sure, -1.0)
            take = sure > threshold
            take[sure.argmax()] = True
            x[0, -BLOCK:] = torch.where(take, chosen, x[0, -BLOCK:])
            steps += 1
            if _has_ended(x[0, start:].tolist(), eos, mask):
                break
        if eos in x[0, start:].tolist():
            break
    out: list[int] = x[0, start:].tolist()
    out = out[: out.index(eos)] if eos in out else out
    return tokenizer.decode(out), len(out) + 1, steps


def _has_ended(ids: list[int], eos: int, mask: int) -> bool:
    return eos in ids and mask not in ids[: ids.index(eos)]


def draw_held_out_sums(count: int, seed: int = 99) -> list[tuple[int, int]]:
    """Pairs of numbers that are never added in training."""
    r, pairs = Random(seed), list[tuple[int, int]]()
    while len(pairs) < count:
        a, b = r.randrange(10, 1000), r.randrange(10, 1000)
        if r.random() < 0.3:
            a, b = a % 90 + 10, b % 90 + 10
        if is_held_out(a, b):
            pairs.append((a, b))
    return pairs


def describe(w: Weights, tokenizer: Tokenizer, sums: int, seconds: float) -> list[str]:
    """Lines for the log, as many as fit into `seconds`."""
    lines: list[str] = []
    until = time.time() + seconds
    for question in QUESTIONS:
        if time.time() > until:
            return [*lines, "  (no time for more)"]
        text, tokens, steps = answer(w, tokenizer, render([("user", question)]))
        lines.append(f"  {question} -> {text!r} [{tokens} tokens, {steps} steps]")
    right = asked = 0
    for a, b in draw_held_out_sums(sums):
        if time.time() > until:
            break
        text, _, _ = answer(w, tokenizer, render([("user", f"What is {a} + {b}?")]), max_tokens=64)
        asked += 1
        right += text == f"{a} + {b} = {a + b}."
    return [*lines, f"  held-out sums: {right} of {asked}"]
