"""Trains the demo image model on scenes: the autoencoder, then FLUX with its text encoders, then its guidance.

    python -m serve_app.demo.training.captions CHARSMAP data
    torchrun --nproc-per-node 2 -m serve_app.demo.training.image --data data --out out

`data` holds sprites.npz (see sprites.py) and the tokenizers. About 25 minutes on two H100s; started again, it goes on
from `out/state.pt`. It leaves `out/pipeline`, the same as parts of a tar, and contact sheets.
"""

from __future__ import annotations

import argparse
import copy
import io
import math
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor

from serve_app.demo.training import flux
from serve_app.demo.training.captions import Encoder
from serve_app.demo.training.feed import CROWDED, Batch, Feed, Store
from serve_app.demo.training.optimize import (
    Average,
    Clock,
    make_optimizers,
    rank,
    set_rate,
    start_processes,
    step_together,
    world_size,
)
from serve_app.demo.training.render import Renderer, pixelate

PROMPTS = (
    "a red apple on a blue background",
    "A sunset over the ocean",
    "A curious raccoon exploring a garden",
    "a rocket in space",
    "two frogs on a green background",
    "a cat",
    "a dog in the snow",
    "a red car on a street",
    "a pizza on a wooden table",
    "a smiling face",
    "a house at night",
    "a sailboat on the sea at sunset",
    "an elephant in the desert",
    "a rose",
    "a robot on a yellow background",
    "three bananas",
    "a cat and a dog",
    "a castle in the mountains",
    "an astronaut in space",
    "a bicycle, flat style",
    "a slice of watermelon, 3d",
    "a penguin on the left in the snow",
    "a butterfly in a garden",
    "a small tree on a green hill",
)
PART = 15 << 20
PHASES = ("autoencoder", "transformer", "guidance")


def main() -> None:
    arguments = read_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    feed = Feed(arguments.data, seed=1 + rank(), size=arguments.fresh, workers=arguments.workers)  # before CUDA
    trainer = Trainer(arguments, feed, start_processes(arguments.device))
    trainer.train()


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, nargs=3, default=(4.0, 14.5, 4.0), metavar=PHASES)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--batch", type=int, default=512, help="pictures for each step of each process")
    parser.add_argument("--fresh", type=int, default=128, help="new pictures for each step")
    parser.add_argument("--store", type=int, default=65536)
    parser.add_argument("--autoencoder-batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--large-every", type=int, default=8, help="a step at twice the side every so often")
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--save-s", type=float, default=110)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="a dry run on a CPU")
    arguments = parser.parse_args()
    if arguments.tiny:
        tiny = {"device": "cpu", "side": 64, "batch": 8, "fresh": 8, "store": 64, "autoencoder_batch": 4, "workers": 1}
        vars(arguments).update(tiny, no_compile=True)
    return arguments


class Trainer:
    """Goes through PHASES, from where the state in `out` stands."""

    def __init__(self, arguments: argparse.Namespace, feed: Feed, device: torch.device) -> None:
        self.arguments, self.feed, self.device = arguments, feed, device
        self.began = time.monotonic()
        self.cuda = device.type == "cuda"
        self.compiled = self.cuda and not arguments.no_compile
        if self.compiled:
            allow_fallback()
        self.encoder = Encoder(arguments.data)
        self.renderer = Renderer(arguments.data / "sprites.npz", device)
        torch.manual_seed(0)
        self.autoencoder = flux.make_autoencoder().to(device)
        self.text = flux.Text(self.encoder).to(device)
        self.model = flux.make_transformer().to(device)
        self.step, self.seen = 0, 0
        self._painted = torch.empty(0)
        self.state = self._read_state()
        torch.manual_seed(1000 + rank() + 10 * self.step)
        count = {
            name: sum(weight.numel() for weight in part.parameters())
            for name, part in (("autoencoder", self.autoencoder), ("t5", self.text.t5), ("clip", self.text.clip))
        }
        self.log("parameters", count, "transformer", sum(weight.numel() for weight in self.model.parameters()))

    def log(self, *words: object) -> None:
        if rank() == 0:
            line = f"[{time.monotonic() - self.began:7.1f}s] " + " ".join(str(word) for word in words)
            print(line, flush=True)
            with (self.arguments.out / "train.log").open("a") as file:
                file.write(line + "\n")

    def train(self) -> None:
        at = PHASES.index(self.state["phase"]) if self.state else 0
        self.log("torch", torch.__version__, "processes", world_size(), vars(self.arguments))
        if at == 0:
            self.feed.set_ease(CROWDED)
            self.train_autoencoder()
        self.autoencoder.requires_grad_(False).eval()
        self.show_autoencoder()
        self.feed.set_ease(1.0 if at < 1 else 0.0)
        self.feed.empty()
        self._make_stores()
        if at <= 1:
            self.train_transformer()
        self.train_guidance()
        if rank() == 0:
            self.export("the end", scale=0.0)
            self.show_guidance()
        self.log("DONE")
        if world_size() > 1:
            dist.barrier()
            dist.destroy_process_group()

    # --- state --------------------------------------------------------------------------------------------------------

    def _read_state(self) -> dict[str, Any]:
        path = self.arguments.out / "state.pt"
        if not path.exists():
            return {}
        state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=False)
        self.autoencoder.load_state_dict(state["autoencoder"])
        self.text.load_state_dict(state["text"])
        self.model.load_state_dict(state["model"])
        self.step, self.seen = state["step"], state["seen"]
        self.log(f"goes on in phase {state['phase']} after {state['spent_s']:.0f} s, at step {self.step}")
        return state

    def _write_state(self, phase: str, spent_s: float, optimizers: Sequence[Any], **more: Any) -> None:
        state = {
            "phase": phase,
            "spent_s": spent_s,
            "step": self.step,
            "seen": self.seen,
            "autoencoder": self.autoencoder.state_dict(),
            "text": self.text.state_dict(),
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            **more,
        }
        path = self.arguments.out / "state.pt"
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def _resume(self, phase: str, optimizers: Sequence[Any]) -> float:
        """Puts the saved state of a phase back; the seconds spent in it."""
        if self.state.get("phase") != phase or len(self.state["optimizers"]) != len(optimizers):
            return 0.0
        for optimizer, saved in zip(optimizers, self.state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        return float(self.state["spent_s"])

    # --- the autoencoder ----------------------------------------------------------------------------------------------

    def train_autoencoder(self) -> None:
        """Encoder and decoder together; then the encoder is kept and the decoder learns on."""
        model, arguments = self.autoencoder, self.arguments
        if self.cuda:
            model.to(memory_format=torch.channels_last)
        kept = bool(self.state.get("kept", False))
        optimizers = [self._autoencoder_optimizer(kept)]
        clock = Clock(arguments.minutes[0], self._resume("autoencoder", optimizers), self.device)
        encode, decode = self.compile(model.encoder), self.compile(model.decoder)
        encode_only = model.encoder
        logged = time.monotonic()
        while True:
            clock.tick(arguments.save_s)
            if clock.done >= 1:
                break
            if clock.done > 0.7 and not kept:
                kept = True
                self.fold_scale()
                optimizers = [self._autoencoder_optimizer(kept)]
            rise = min(1.0, (self.step + 1) / 150)
            set_rate(
                optimizers, rise * (1 - clock.done / 0.75 * 0.6 if not kept else max(0.02, (1 - clock.done) / 0.3))
            )
            images = self._paint_some(arguments.autoencoder_batch)
            with self.autocast():
                with torch.set_grad_enabled(not kept):
                    moments = (encode_only if kept else encode)(images).float()
                mean, logvar = moments.chunk(2, 1)
                logvar = logvar.clamp(-20, 10)
                latents = mean + torch.randn_like(mean) * (0.04 if kept else torch.exp(0.5 * logvar))
                if not kept:  # smaller latents must be a smaller picture: that makes latents easy to draw
                    three = len(images) * 3 // 4
                    latents = torch.cat([latents[:three], flux.average_pool(latents)])
                    images = torch.cat([images[:three], flux.average_pool(images)])
                # a leaf, so that the decoder is compiled once for both parts of the training
                decoded = decode(latents.requires_grad_().contiguous() if kept else latents.contiguous()).float()
            loss = compare(decoded, images)
            if not kept:
                loss = loss + 1e-3 * 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
            loss.backward()
            step_together([weight for weight in model.parameters() if weight.requires_grad], optimizers)
            if self.step % 100 == 0:
                speed = 100 * len(images) / (time.monotonic() - logged)
                logged = time.monotonic()
                self.log(
                    f"autoencoder {self.step} loss {loss.item():.4f} PSNR {psnr(decoded, images):.2f}"
                    f" deviation {mean.std().item():.2f} {speed:.0f}/s done {clock.done:.2f}"
                )
            self.step += 1
            if clock.save_due and rank() == 0:
                self._write_state("autoencoder", clock.spent_s, optimizers, kept=kept)
        if not kept:
            self.fold_scale()
        self.step, self.state = 0, {}
        if rank() == 0:
            self._write_state("transformer", 0.0, [])

    def _autoencoder_optimizer(self, kept: bool) -> Any:
        self.autoencoder.encoder.requires_grad_(not kept)
        weights = [weight for weight in self.autoencoder.parameters() if weight.requires_grad]
        rate = 1e-3 if kept else 2e-3
        optimizer = torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.98), weight_decay=0.0, fused=self.cuda)
        for group in optimizer.param_groups:
            group["peak"] = rate
        return optimizer

    def _paint_some(self, count: int) -> Tensor:
        if len(self._painted) < count:
            batch = self.feed.get()
            self._painted = self.renderer.paint(batch.backgrounds, batch.objects, self.arguments.side)
            self._painted[::12] = pixelate(self._painted[::12])  # the adapter draws such ones
        images, self._painted = self._painted[:count], self._painted[count:]
        return images.contiguous(memory_format=torch.channels_last) if self.cuda else images

    @torch.no_grad()
    def fold_scale(self) -> None:
        """Gives each latent channel mean 0 and deviation 1, by the weights of the convolutions beside it."""
        latents = []
        for _ in range(16):
            with self.autocast():
                latents.append(self.autoencoder.encoder(self._paint_some(self.arguments.autoencoder_batch)).float())
        values = torch.cat(latents)[:, : flux.LATENTS]
        moments = torch.stack([values.mean((0, 2, 3)), values.std((0, 2, 3)).clamp(min=0.05)])
        if world_size() > 1:
            dist.broadcast(moments, 0)
        mean, deviation = moments
        out, into = self.autoencoder.encoder.conv_out, self.autoencoder.decoder.conv_in
        into.bias += (into.weight * mean.view(1, -1, 1, 1)).sum((1, 2, 3))
        into.weight *= deviation.view(1, -1, 1, 1)
        out.bias[: flux.LATENTS] = (out.bias[: flux.LATENTS] - mean) / deviation
        out.weight[: flux.LATENTS] /= deviation.view(-1, 1, 1, 1)
        out.bias[flux.LATENTS :] -= 2 * deviation.log()
        self.log("deviations of the latents", [round(value, 2) for value in deviation.tolist()])

    @torch.no_grad()
    def show_autoencoder(self) -> None:
        self.feed.set_ease(0.0)
        self.feed.empty()
        self._painted = torch.empty(0)
        batch = self.feed.get()
        images = self.renderer.paint(batch.backgrounds[:16], batch.objects[:16], self.arguments.side)
        with self.autocast():
            decoded = self.autoencoder.decoder(self.autoencoder.encoder(images)[:, : flux.LATENTS]).float()
        self.log(f"autoencoder: PSNR {psnr(decoded, images):.2f} dB on scenes")
        if rank() == 0:
            write_sheet(torch.stack([images, decoded], 1).flatten(0, 1)[:16], self.arguments.out / "autoencoder.png")

    # --- the transformer ----------------------------------------------------------------------------------------------

    def _make_stores(self) -> None:
        arguments = self.arguments
        fast = copy.deepcopy(self.autoencoder.encoder)
        if self.cuda:
            fast = fast.to(torch.bfloat16).to(memory_format=torch.channels_last)
        fast = self.compile(fast)

        def encode(side: int, most: int) -> Any:
            def encode_batch(batch: Batch) -> Tensor:
                latents = []
                for start in range(0, len(batch), most):
                    some = slice(start, start + most)
                    images = self.renderer.paint(batch.backgrounds[some], batch.objects[some], side)
                    if self.cuda:
                        images = images.to(torch.bfloat16, memory_format=torch.channels_last)
                    latents.append(flux.pack(fast(images)[:, : flux.LATENTS].float()))
                return torch.cat(latents)

            return encode_batch

        self.store = Store(self.feed, encode(arguments.side, 128), arguments.store)
        self.large = Store(self.feed, encode(2 * arguments.side, 32), max(32, arguments.store // 16))
        began = time.monotonic()
        while self.store.full < min(arguments.store, 12 * arguments.batch):
            self.store.renew()
        self.log(f"{self.store.full} pictures encoded in {time.monotonic() - began:.1f} s")

    def _sample(self, step: int, size: int, large: bool) -> tuple[Tensor, Tensor, Tensor]:
        """A batch; every few steps one of larger pictures."""
        every = self.arguments.large_every
        if large and step % every == every - 1:
            if step % (4 * every) == every - 1 or not self.large.full:
                self.large.renew()
            return self.large.sample(max(2, size // 4))
        self.store.renew()
        return self.store.sample(size)

    def train_transformer(self) -> None:
        arguments, text, model = self.arguments, self.text, self.model
        text.requires_grad_(True).train()
        model.requires_grad_(True).train()
        self.compile_blocks(model)
        optimizers = make_optimizers([text, model], arguments.rate)
        average = Average([text, model], 0.9993)
        clock = Clock(arguments.minutes[1], self._resume("transformer", optimizers), self.device)
        if "mean" in self.state:
            average.mean, average.steps = self.state["mean"], self.state["averaged"]
        params = average.params
        nothing = flux.to_tokens(self.encoder, [""], self.device)
        meter = Meter(self)
        while True:
            clock.tick(arguments.save_s)
            if clock.done >= 1:
                break
            self.feed.set_ease(max(0.0, 1 - clock.done / 0.45))
            falls = 1.0 if clock.done < 0.5 else max(0.02, (1 - clock.done) / 0.5)
            set_rate(optimizers, min(1.0, (self.step + 1) / 200) * falls)
            latents, t5, clip = self._sample(self.step, arguments.batch, clock.done > 0.35)
            t5, clip = drop_captions(t5, clip, nothing)
            t, noised, target = add_noise(latents)
            guidance = 1 + 6 * torch.rand(len(latents), device=self.device)
            with self.autocast():
                loss = (flux.velocity(model, noised, t, guidance, *text(t5, clip)) - target).square().mean()
            loss.backward()
            norm = step_together(params, optimizers)
            average.update()
            meter.count("transformer", loss, norm, len(latents), latents.shape[1], clock.done)
            if clock.save_due and rank() == 0:
                mean = {"mean": average.mean, "averaged": average.steps}
                self._write_state("transformer", clock.spent_s, optimizers, **mean)
                average.swap()
                self.export(f"step {self.step}", scale=3.0)
                average.swap()
        average.swap()
        if rank() == 0:
            self.export("before guidance", scale=3.0, name="teacher.png")
            self._write_state("guidance", 0.0, [])
        self.state = {}

    def train_guidance(self) -> None:
        """Teaches the model to do in one call what classifier-free guidance does in two, for each scale."""
        arguments, text, model = self.arguments, self.text, self.model
        teacher = flux.make_transformer().to(self.device)
        teacher.load_state_dict(self.state["teacher"] if "teacher" in self.state else model.state_dict())
        teacher.requires_grad_(False).eval()
        text.requires_grad_(False).eval()
        model.requires_grad_(True).train()
        self.compile_blocks(teacher)
        self.compile_blocks(model)
        optimizers = make_optimizers([model], arguments.rate * 0.35)
        average = Average([model], 0.998)
        clock = Clock(arguments.minutes[2], self._resume("guidance", optimizers), self.device)
        if "mean" in self.state:
            average.mean, average.steps = self.state["mean"], self.state["averaged"]
        self.feed.set_ease(0.0)
        nothing = flux.to_tokens(self.encoder, [""], self.device)
        meter = Meter(self)
        while True:
            clock.tick(arguments.save_s)
            if clock.done >= 1:
                break
            set_rate(optimizers, min(1.0, (average.steps + 1) / 50) * max(0.02, 1 - clock.done))
            latents, t5, clip = self._sample(self.step, arguments.batch, large=True)
            t5, clip = drop_captions(t5, clip, nothing)
            t, noised, _ = add_noise(latents)
            size = len(latents)
            guidance = 1 + 6 * torch.rand(size, device=self.device)
            with self.autocast():
                with torch.no_grad():
                    words, pooled = text(t5, clip)
                    no_words, no_pooled = text(*nothing)
                    asked = flux.velocity(teacher, noised, t, guidance, words, pooled)
                    nothings = no_words.repeat(size, 1, 1), no_pooled.repeat(size, 1)
                    plain = flux.velocity(teacher, noised, t, guidance, *nothings)
                    target = plain + guidance.view(-1, 1, 1) * (asked - plain)
                apart = (flux.velocity(model, noised, t, guidance, words, pooled) - target).square().mean((1, 2))
                loss = (apart / (1 + 0.15 * (guidance - 1).square())).mean()
            loss.backward()
            norm = step_together(average.params, optimizers)
            average.update()
            meter.count("guidance", loss, norm, size, latents.shape[1], clock.done)
            if clock.save_due and rank() == 0:
                more = {"mean": average.mean, "averaged": average.steps, "teacher": teacher.state_dict()}
                self._write_state("guidance", clock.spent_s, optimizers, **more)
                average.swap()
                self.export(f"step {self.step}", scale=0.0)
                average.swap()
        average.swap()

    # --- helpers ------------------------------------------------------------------------------------------------------

    def autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.cuda)

    def compile(self, function: Any) -> Any:
        return torch.compile(function, dynamic=False) if self.compiled else function

    def compile_blocks(self, model: Any) -> None:
        if self.compiled:
            for block in (*model.transformer_blocks, *model.single_transformer_blocks):
                if block._compiled_call_impl is None:
                    block.compile(dynamic=False)

    def export(self, note: str, scale: float, name: str = "sheet.png") -> None:
        """The pipeline as it stands, packed in parts, and a contact sheet of PROMPTS."""
        began, out = time.monotonic(), self.arguments.out
        folder = out / "pipeline"
        flux.write_pipeline(folder, self.arguments.data, self.autoencoder, self.text, self.model)
        write_parts(folder, out)
        plain = self._copy_model()
        prompts = PROMPTS if self.cuda else PROMPTS[:2]
        side = self.arguments.side
        drawn = flux.draw(plain, self.text, self.autoencoder, self.encoder, prompts, side, scale=scale)
        write_sheet(drawn, out / name)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        self.log(f"saved {note}: {size / 1e6:.2f} MB, took {time.monotonic() - began:.1f} s")

    def _copy_model(self) -> Any:
        """Not compiled: drawing meets other shapes."""
        plain = flux.make_transformer().to(self.device)
        plain.load_state_dict(self.model.state_dict())
        return plain.eval()

    def show_guidance(self) -> None:
        """Rows of a few prompts at guidance 1, 2, 3.5 and 6, and two pictures of twice the side."""
        model, side = self._copy_model(), self.arguments.side
        parts = (model, self.text, self.autoencoder, self.encoder)
        rows = [flux.draw(*parts, PROMPTS[:6], side, guidance=guidance) for guidance in (1.0, 2.0, 3.5, 6.0)]
        write_sheet(torch.cat(rows), self.arguments.out / "guidance.png", columns=6)
        write_sheet(flux.draw(*parts, PROMPTS[1:5], 2 * side), self.arguments.out / "large.png", columns=4)


class Meter:
    """Logs the loss every 50 steps."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._loss: Tensor | None = None
        self._began, self._seen = time.monotonic(), 0

    def count(self, phase: str, loss: Tensor, norm: Tensor, size: int, places: int, done: float) -> None:
        trainer = self._trainer
        if places == (trainer.arguments.side // 16) ** 2:
            self._loss = loss.detach() if self._loss is None else self._loss.lerp(loss.detach(), 0.05)
        trainer.step += 1
        trainer.seen += size * world_size()
        self._seen += size * world_size()
        if trainer.step % 50 == 0 and self._loss is not None:
            speed = self._seen / (time.monotonic() - self._began)
            memory = f" {torch.cuda.max_memory_allocated() / 2**30:.0f} GiB" if trainer.cuda else ""
            trainer.log(
                f"{phase} {trainer.step} loss {self._loss.item():.4f} norm {norm.item():.2f} {speed:.0f}/s"
                f" seen {trainer.seen} done {done:.2f}{memory}"
            )
            self._began, self._seen = time.monotonic(), 0


def allow_fallback() -> None:
    """What does not compile runs uncompiled."""
    import torch._dynamo

    config: Any = torch._dynamo.config
    config.suppress_errors = True
    for name in ("recompile_limit", "cache_size_limit"):
        if hasattr(config, name):
            setattr(config, name, 64)


def compare(decoded: Tensor, images: Tensor) -> Tensor:
    """Absolute errors at several sizes and of edges, and squared ones."""
    error = decoded - images
    loss = error.abs().mean() + 4 * error.square().mean()
    for size in (2, 4, 8):
        loss = loss + 0.25 * torch.nn.functional.avg_pool2d(error, size).abs().mean()
    across, down = error[..., 1:] - error[..., :-1], error[..., 1:, :] - error[..., :-1, :]
    return loss + 0.75 * (across.abs().mean() + down.abs().mean())


def psnr(decoded: Tensor, images: Tensor) -> float:
    error = (decoded.float().clamp(-1, 1) - images.float()).square().mean().item() / 4
    return -10 * math.log10(max(error, 1e-10))


def drop_captions(t5: Tensor, clip: Tensor, nothing: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """A tenth of them becomes the empty one."""
    dropped = torch.rand(len(t5), 1, device=t5.device) < 0.1
    return torch.where(dropped, nothing[0], t5), torch.where(dropped, nothing[1], clip)


def add_noise(latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Times, noised latents, and the velocity from picture to noise. Times are as the pipeline shifts them."""
    count, device = len(latents), latents.device
    times = torch.sigmoid(torch.randn(count, device=device))
    even = torch.rand(count, device=device)
    times = torch.where(torch.rand(count, device=device) < 0.2, even, times).clamp(1e-4, 1 - 1e-4)
    times = flux.shift_times(times, latents.shape[1])
    times = torch.where(torch.rand(count, device=device) < 0.04, torch.ones_like(times), times)
    noise = torch.randn_like(latents)
    mixed = times.view(-1, 1, 1)
    return times, (1 - mixed) * latents + mixed * noise, noise - latents


def write_sheet(images: Tensor, path: Path, columns: int = 8) -> None:
    pixels = ((images.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    blank = np.full((-len(pixels) % columns, *pixels.shape[1:]), 255, np.uint8)
    pixels = np.concatenate([pixels, blank])
    rows = [np.concatenate(list(pixels[start : start + columns]), 1) for start in range(0, len(pixels), columns)]
    Image.fromarray(np.concatenate(rows)).save(path)


def write_parts(folder: Path, out: Path) -> None:
    """A tar of the folder in parts that fit through a small door."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
        tar.add(folder, folder.name)
    whole = packed.getvalue()
    for part, start in enumerate(range(0, len(whole), PART)):
        path = out / f"{folder.name}.tgz.{part}"
        path.with_suffix(".new").write_bytes(whole[start : start + PART])
        path.with_suffix(".new").replace(path)


if __name__ == "__main__":
    main()
