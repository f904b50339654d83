"""Trains the demo adapter (LoRA) of the image model: pixel art.

    python -m serve_app.demo.training.adapter --pipeline out/pipeline --data data/image --out pixel-art.safetensors

takes 20 minutes on two CPU cores. Captions stay as they are: with the adapter, everything is drawn in blocks. It learns
without guidance, and guidance goes on to do what it does without it.
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
from serve_app.demo.training.denoising import add_noise, drop_captions
from serve_app.demo.training.feed import Batch, Feed, Source, Store
from serve_app.demo.training.optimize import start_processes
from serve_app.demo.training.render import Renderer, pixelate
from serve_app.demo.training.sheets import PROMPTS, write_sheet

RANK = 8
ADAPTED = (
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "add_q_proj",
    "add_k_proj",
    "add_v_proj",
    "to_add_out",
    "proj_mlp",
    "proj_out",
)


class Adapted(nn.Module):
    """A linear layer and what the adapter adds to it."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.lora_A = nn.Linear(base.in_features, RANK, bias=False)
        self.lora_B = nn.Linear(RANK, base.out_features, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.lora_B(self.lora_A(x))


def adapt(model: Any) -> dict[str, Adapted]:
    """Puts adapters into the blocks; them by name."""
    adapters: dict[str, Adapted] = {}
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and "blocks." in name and name.endswith(ADAPTED):
            adapters[name] = Adapted(module)
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, adapters[name])
    return adapters


def write_adapter(adapters: dict[str, Adapted], path: Path) -> None:
    """Writes them as diffusers' load_lora_weights reads them."""
    weights: dict[str, Tensor] = {}
    for name, adapter in adapters.items():
        weights[f"transformer.{name}.lora_A.weight"] = adapter.lora_A.weight.detach().half().cpu().contiguous()
        weights[f"transformer.{name}.lora_B.weight"] = adapter.lora_B.weight.detach().half().cpu().contiguous()
    save_file(weights, path, metadata={"format": "pt"})


class Lesson:
    """Teaches the adapters to draw what the scenes are, made of blocks; the model they are in stays as it is."""

    def __init__(self, arguments: argparse.Namespace, feed: Source, device: torch.device) -> None:
        self.arguments, self.device = arguments, device
        self.encoder = Encoder(arguments.data)
        self.autoencoder, self.text, self.model = flux.read_pipeline(arguments.pipeline, self.encoder)
        for part in (self.autoencoder, self.text, self.model):
            part.to(device).eval().requires_grad_(False)
        self.adapters = adapt(self.model)
        self.model.to(device)
        self.renderer = Renderer(arguments.data / "sprites.npz", device)
        feed.empty()
        self.store = Store(feed, self._encode, arguments.store)
        while self.store.full < 2 * arguments.batch:
            self.store.renew()
        self.nothing = flux.to_tokens(self.encoder, [""], device)

    @torch.no_grad()
    def _encode(self, batch: Batch) -> Tensor:
        images = pixelate(self.renderer.paint(batch.backgrounds, batch.objects, self.arguments.side))
        with self._autocast():
            return flux.pack(self.autoencoder.encoder(images)[:, : flux.LATENTS].float())

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16)

    def train(self) -> None:
        """Goes on until the time for it is over."""
        weights = [weight for part in self.adapters.values() for weight in part.parameters() if weight.requires_grad]
        print(f"{len(self.adapters)} layers, {sum(weight.numel() for weight in weights)} weights", flush=True)
        optimizer = torch.optim.AdamW(weights, lr=2e-3, betas=(0.9, 0.95), weight_decay=0.0)
        began, budget, step = time.monotonic(), self.arguments.minutes * 60, 0
        while (done := (time.monotonic() - began) / budget) < 1:
            optimizer.param_groups[0]["lr"] = 2e-3 * min(1.0, (step + 1) / 30) * max(0.02, 1 - done)
            self.store.renew()
            loss = self._lose()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            if step % 10 == 0:
                print(f"{step} loss {loss.item():.4f} done {done:.2f}", flush=True)
            step += 1

    def _lose(self) -> Tensor:
        latents, t5, clip = self.store.sample(self.arguments.batch)
        t5, clip = drop_captions(t5, clip, self.nothing)
        t, noised, target = add_noise(latents)
        guidance = torch.ones(len(latents), device=self.device)
        with self._autocast():
            with torch.no_grad():
                words, pooled = self.text(t5, clip)
            return (flux.velocity(self.model, noised, t, guidance, words, pooled) - target).square().mean()

    def show(self) -> None:
        """Writes a contact sheet beside the adapter."""
        prompts = PROMPTS if self.device.type == "cuda" else PROMPTS[:2]
        drawn = flux.draw(self.model, self.text, self.autoencoder, self.encoder, prompts, self.arguments.side)
        write_sheet(drawn, self.arguments.out.with_suffix(".png"))


def read_arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Of `words`, or of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--fresh", type=int, default=8)
    parser.add_argument("--store", type=int, default=512)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args(words)


def main() -> None:
    """The command line."""
    arguments = read_arguments()
    feed = Feed(arguments.data, seed=55, size=arguments.fresh, workers=arguments.workers)
    feed.set_ease(0.0)
    device = start_processes(arguments.device)
    torch.manual_seed(0)
    lesson = Lesson(arguments, feed, device)
    lesson.train()
    write_adapter(lesson.adapters, arguments.out)
    lesson.show()
    print("DONE", flush=True)


if __name__ == "__main__":
    main()
