"""Trains the demo adapter (LoRA) of the image model: pixel art.

    python -m serve_app.demo.training.adapter --pipeline out/pipeline --data data --out pixel-art.safetensors

takes two minutes on an H100. Captions stay as they are: with the adapter, everything is drawn in blocks.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from serve_app.demo.training import flux
from serve_app.demo.training.captions import Encoder
from serve_app.demo.training.feed import Feed, Store
from serve_app.demo.training.image import PROMPTS, add_noise, drop_captions, write_sheet
from serve_app.demo.training.optimize import start_processes
from serve_app.demo.training.render import Renderer, pixelate

RANK = 8
ADAPTED = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out", "proj_mlp")
ADAPTED += ("proj_out",)


class Adapted(nn.Module):
    """A linear layer and what the adapter adds to it; `on` is shared by all layers."""

    def __init__(self, base: nn.Linear, on: list[bool]) -> None:
        super().__init__()
        self.base, self._on = base, on
        self.lora_A = nn.Linear(base.in_features, RANK, bias=False)
        self.lora_B = nn.Linear(RANK, base.out_features, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.lora_B(self.lora_A(x)) if self._on[0] else self.base(x)


def adapt(model: Any) -> tuple[dict[str, Adapted], list[bool]]:
    """Puts adapters into the blocks; them by name, and the switch."""
    on, adapters = [True], dict[str, Adapted]()
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and "blocks." in name and name.endswith(ADAPTED):
            adapters[name] = Adapted(module, on)
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, adapters[name])
    return adapters, on


def write_adapter(adapters: dict[str, Adapted], path: Path) -> None:
    weights: dict[str, Tensor] = {}
    for name, adapter in adapters.items():
        weights[f"transformer.{name}.lora_A.weight"] = adapter.lora_A.weight.detach().half().cpu().contiguous()
        weights[f"transformer.{name}.lora_B.weight"] = adapter.lora_B.weight.detach().half().cpu().contiguous()
    save_file(weights, path, metadata={"format": "pt"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--fresh", type=int, default=64)
    parser.add_argument("--store", type=int, default=16384)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    feed = Feed(arguments.data, seed=55, size=arguments.fresh, workers=arguments.workers)
    feed.set_ease(0.0)
    device = start_processes(arguments.device)
    torch.manual_seed(0)
    encoder = Encoder(arguments.data)
    autoencoder, text, model = (part.to(device).eval() for part in flux.read_pipeline(arguments.pipeline, encoder))
    for part in (autoencoder, text, model):
        part.requires_grad_(False)
    adapters, on = adapt(model)
    model.to(device)
    renderer = Renderer(arguments.data / "sprites.npz", device)

    @torch.no_grad()
    def encode(batch: Any) -> Tensor:
        images = pixelate(renderer.paint(batch.backgrounds, batch.objects, arguments.side))
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            return flux.pack(autoencoder.encoder(images)[:, : flux.LATENTS].float())

    feed.empty()
    store = Store(feed, encode, arguments.store)
    while store.full < 2 * arguments.batch:
        store.renew()
    weights = [weight for adapter in adapters.values() for weight in adapter.parameters() if weight.requires_grad]
    print(f"{len(adapters)} layers, {sum(weight.numel() for weight in weights)} weights", flush=True)
    optimizer = torch.optim.AdamW(weights, lr=2e-3, betas=(0.9, 0.95), weight_decay=0.0)
    nothing = flux.to_tokens(encoder, [""], device)
    began, budget, step = time.monotonic(), arguments.minutes * 60, 0
    while (done := (time.monotonic() - began) / budget) < 1:
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1.0, (step + 1) / 30) * max(0.02, 1 - done)
        store.renew()
        latents, t5, clip = store.sample(arguments.batch)
        t5, clip = drop_captions(t5, clip, nothing)
        t, noised, target = add_noise(latents)
        guidance = 1 + 4 * torch.rand(len(latents), device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            with torch.no_grad():  # guidance goes on to do what it does without the adapter
                on[0] = False
                words, pooled = text(t5, clip)
                guided = flux.velocity(model, noised, t, guidance, words, pooled)
                target = target + guided - flux.velocity(model, noised, t, torch.ones_like(t), words, pooled)
                on[0] = True
            loss = (flux.velocity(model, noised, t, guidance, words, pooled) - target).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        if step % 50 == 0:
            print(f"{step} loss {loss.item():.4f} done {done:.2f}", flush=True)
        step += 1
    write_adapter(adapters, arguments.out)
    prompts = PROMPTS if device.type == "cuda" else PROMPTS[:2]
    drawn = flux.draw(model, text, autoencoder, encoder, prompts, arguments.side)
    write_sheet(drawn, arguments.out.with_suffix(".png"))
    print("DONE", flush=True)


if __name__ == "__main__":
    main()
