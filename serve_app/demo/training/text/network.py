"""The network as functions over stacked weights: the same numbers as transformers' ModernBertForMaskedLM.

Knows how to write itself as that class, and how to read what it wrote.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

EPSILON = 1e-5
HEADS = 5
THETA = 10000.0
Weights = dict[str, Tensor]
Layer = Callable[..., tuple[Tensor, Tensor]]


def make_weights(vocabulary: int, width: int, layers: int, inner: int, seed: int = 0) -> Weights:
    """Random weights; those of all layers lie in one tensor each."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, std: float) -> Tensor:
        return torch.randn(*shape, generator=generator).clamp_(-3, 3) * std

    std = width**-0.5 * 0.5
    return {
        "emb": draw(vocabulary, width, std=0.02),
        "emb_norm": torch.ones(width),
        "ln1": torch.ones(layers, width),
        "wqkv": draw(layers, 3 * width, width, std=std),
        "wo": draw(layers, width, width, std=std / math.sqrt(2 * layers)),
        "ln2": torch.ones(layers, width),
        "wi": draw(layers, 2 * inner, width, std=std),
        "wo2": draw(layers, width, inner, std=inner**-0.5 * 0.5 / math.sqrt(2 * layers)),
        "final_norm": torch.ones(width),
        "dense": draw(width, width, std=std),
        "head_norm": torch.ones(width),
        "bias": torch.zeros(vocabulary),
    }


def run_layer(
    x: Tensor,
    h: Tensor,
    cos: Tensor,
    sin: Tensor,
    wqkv: Tensor,
    wo: Tensor,
    ln2: Tensor,
    wi: Tensor,
    wo2: Tensor,
    ln_next: Tensor,
    heads: int,
) -> tuple[Tensor, Tensor]:
    """x is the residual stream and h what this layer's attention reads; returns both for the next layer."""
    batch, length, width = x.shape
    q, k, v = functional.linear(h, wqkv).view(batch, length, 3, heads, width // heads).unbind(2)
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    attended = functional.scaled_dot_product_attention(_rotate(q, cos, sin), _rotate(k, cos, sin), v)
    x = x + functional.linear(attended.transpose(1, 2).reshape(batch, length, width), wo)
    value, gate = functional.linear(functional.layer_norm(x, (width,), ln2, None, EPSILON), wi).chunk(2, -1)
    x = x + functional.linear(functional.gelu(value) * gate, wo2)
    return x, functional.layer_norm(x, (width,), ln_next, None, EPSILON)


def run_trunk(w: Weights, ids: Tensor, last: int, layer: Layer = run_layer) -> Tensor:
    """Hidden states (batch, last, width) of the last `last` positions."""
    x = functional.embedding(ids, w["emb"])
    x = functional.layer_norm(x, (x.shape[-1],), w["emb_norm"], None, EPSILON)
    h = x.clone()  # a compiled layer is to see two tensors, in the first layer too
    cos, sin = _turns(ids.shape[1], x.shape[-1] // HEADS, x.device)
    count = w["wqkv"].shape[0]
    stacks = [w[name].unbind(0) for name in ("wqkv", "wo", "ln2", "wi", "wo2")]
    norms = [*w["ln1"].unbind(0)[1:], w["final_norm"]]
    for i in range(count):
        x, h = layer(x, h, cos, sin, *(stack[i] for stack in stacks), norms[i], HEADS)
    return h[:, -last:]


def run_head(h: Tensor, emb: Tensor, dense: Tensor, head_norm: Tensor, bias: Tensor) -> Tensor:
    """Logits (batch, length, vocabulary)."""
    h = functional.layer_norm(functional.gelu(functional.linear(h, dense)), (h.shape[-1],), head_norm, None, EPSILON)
    return functional.linear(h, emb, bias)


def compute_loss(
    h: Tensor,
    emb: Tensor,
    dense: Tensor,
    head_norm: Tensor,
    bias: Tensor,
    target: Tensor,
    weight: Tensor,
    masked: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted cross entropy; for the log that of masked positions, and how many of those are right."""
    logits = run_head(h, emb, dense, head_norm, bias).float()
    entropy = functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view(target.shape)
    right = ((logits.detach().argmax(-1) == target) & masked).sum()
    return (entropy * weight).sum() / weight.sum().clamp(min=1), (entropy.detach() * masked).sum(), right


def head_weights(w: Weights) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return w["emb"], w["dense"], w["head_norm"], w["bias"]


def copy_function(function: Any, name: str) -> Any:
    """The same function with a code object of its own: torch.compile keeps there what it compiled."""
    code = function.__code__.replace(co_name=name)
    return types.FunctionType(code, function.__globals__, name, function.__defaults__, function.__closure__)


def _turns(length: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    inverse = 1.0 / (THETA ** (torch.arange(0, size, 2, dtype=torch.float32, device=device) / size))
    angles = torch.arange(length, device=device, dtype=torch.float32)[:, None] * inverse
    both = torch.cat((angles, angles), -1)
    return both.cos()[None, None], both.sin()[None, None]


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    y = x.float()
    a, b = y.chunk(2, -1)
    return (y * cos + torch.cat((-b, a), -1) * sin).to(x.dtype)


PLAIN = {
    "model.embeddings.tok_embeddings.weight": "emb",
    "model.embeddings.norm.weight": "emb_norm",
    "model.final_norm.weight": "final_norm",
    "head.dense.weight": "dense",
    "head.norm.weight": "head_norm",
    "decoder.bias": "bias",
}
STACKED = {
    "attn.Wqkv.weight": "wqkv",
    "attn.Wo.weight": "wo",
    "mlp_norm.weight": "ln2",
    "mlp.Wi.weight": "wi",
    "mlp.Wo.weight": "wo2",
    "attn_norm.weight": "ln1",
}


def export_model(weights: Weights, folder: Path, eos: int, pad: int, context: int) -> float:
    """Writes fp16 ModernBertForMaskedLM; the largest difference of its logits from ours, which is tiny."""
    from transformers import ModernBertConfig, ModernBertForMaskedLM

    w = {name: weight.detach().float().cpu() for name, weight in weights.items()}
    layers, width = w["wqkv"].shape[0], w["emb"].shape[1]
    rope = {"rope_type": "default", "rope_theta": THETA}
    config = ModernBertConfig(
        vocab_size=w["emb"].shape[0],
        hidden_size=width,
        intermediate_size=w["wo2"].shape[2],
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        max_position_embeddings=context,
        layer_types=["full_attention"] * layers,
        rope_parameters={"full_attention": rope, "sliding_attention": rope},
        tie_word_embeddings=True,
        pad_token_id=pad,
        eos_token_id=eos,
        bos_token_id=None,
        cls_token_id=None,
        sep_token_id=None,
    )
    model: Any = ModernBertForMaskedLM(config).eval()
    state = {theirs: w[ours] for theirs, ours in PLAIN.items()} | {"decoder.weight": w["emb"]}
    for i in range(layers):
        for theirs, ours in STACKED.items():
            if i or ours != "ln1":  # the first layer has no norm before its attention
                state[f"model.layers.{i}.{theirs}"] = w[ours][i]
    missing, unexpected = model.load_state_dict(state, strict=False)
    left_out = [name for name in missing if "inv_freq" not in name]
    if unexpected or left_out:
        raise ValueError(f"the layout of ModernBert has changed: {left_out} are missing, {unexpected} unknown")
    model.tie_weights()
    ids = torch.randint(0, config.vocab_size, (2, 64), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = run_head(run_trunk(w, ids, 64), *head_weights(w))
        places = torch.arange(64)[None].expand(2, -1)
        theirs = model(ids, attention_mask=torch.ones_like(ids), position_ids=places).logits
    error = float((ours - theirs).abs().max())
    if error > 2e-2:
        raise ValueError(f"the logits of what was exported differ by {error}")
    model.half().save_pretrained(folder)
    return error


def read_export(file: Path) -> Weights:
    """The weights of a model.safetensors that `export_model` wrote."""
    state = {name: weight.float() for name, weight in load_file(file).items()}
    layers = 1 + max(int(name.split(".")[2]) for name in state if name.startswith("model.layers."))
    w = {ours: state[theirs] for theirs, ours in PLAIN.items()}
    for theirs, ours in STACKED.items():
        rows = [state.get(f"model.layers.{i}.{theirs}") for i in range(layers)]
        first = next(row for row in rows if row is not None)
        w[ours] = torch.stack([torch.ones_like(first) if row is None else row for row in rows])
    return w
