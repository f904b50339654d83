"""The first phase of the image training: the autoencoder, encoder and decoder together, then the decoder alone."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from serve_app.demo.training import flux
from serve_app.demo.training.muon import set_rate
from serve_app.demo.training.optimize import rank, step_together, world_size
from serve_app.demo.training.render import pixelate
from serve_app.demo.training.session import Session
from serve_app.demo.training.sheets import write_sheet

JOINT = 0.7
"""The share of the time after which the encoder is kept, and only the decoder goes on learning."""


class AutoencoderPhase:
    """Trains the autoencoder of `session`; `kept` says that the encoder is finished."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.model = session.autoencoder
        self.kept = bool(session.state.get("kept", False))
        self._painted = torch.empty(0)

    def train(self) -> None:
        """Goes on until the time for it is over; leaves a state that begins with the transformer."""
        session, model = self.session, self.model
        if session.cuda:
            model.to(memory_format=torch.channels_last)
        optimizers = [self.make_optimizer()]
        encode, decode = session.compile(model.encoder), session.compile(model.decoder)
        self.compare_some(encode, decode)[0].backward()  # compiles
        model.zero_grad(set_to_none=True)
        clock = session.start_clock("autoencoder", optimizers)
        logged = time.monotonic()
        while True:
            clock.tick(session.arguments.save_s)
            if clock.done >= 1:
                break
            if clock.done > JOINT and not self.kept:
                self.kept = True
                self._fold_scale()
                optimizers = [self.make_optimizer()]
            set_rate(optimizers, self._choose_rate(clock.done))
            loss, decoded, images, mean = self.compare_some(encode, decode)
            loss.backward()
            step_together([weight for weight in model.parameters() if weight.requires_grad], optimizers)
            if session.step % 100 == 0:
                speed = 100 * len(images) / (time.monotonic() - logged)
                logged = time.monotonic()
                session.log(
                    f"autoencoder {session.step} loss {loss.item():.4f} PSNR {measure_psnr(decoded, images):.2f}"
                    f" deviation {mean.std().item():.2f} {speed:.0f}/s done {clock.done:.2f}"
                )
            session.step += 1
            if clock.save_due:
                session.write_state("autoencoder", clock.done, optimizers, kept=self.kept)
        if not self.kept:
            self._fold_scale()
        session.step, session.state = 0, {}
        session.write_state("transformer", 0.0, [])

    def _choose_rate(self, done: float) -> float:
        rise = min(1.0, (self.session.step + 1) / 150)
        return rise * (max(0.02, (1 - done) / (1 - JOINT)) if self.kept else 1 - done / 0.75 * 0.6)

    def compare_some(self, encode: Any, decode: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Loss, what was decoded, what it should be, and the means of the latents."""
        images = self._paint_some(self.session.arguments.autoencoder_batch)
        with self.session.autocast():
            with torch.set_grad_enabled(not self.kept):
                moments = (self.model.encoder if self.kept else encode)(images).float()
            mean, logvar = moments.chunk(2, 1)
            logvar = logvar.clamp(-20, 10)
            latents = mean + torch.randn_like(mean) * (0.04 if self.kept else torch.exp(0.5 * logvar))
            if not self.kept:  # smaller latents must be a smaller picture: that makes latents easy to draw
                three = len(images) * 3 // 4
                latents = torch.cat([latents[:three], flux.average_pool(latents)])
                images = torch.cat([images[:three], flux.average_pool(images)])
            # a leaf, so that the decoder is compiled once for both parts of the training
            decoded = decode(latents.requires_grad_().contiguous() if self.kept else latents.contiguous()).float()
        loss = compare(decoded, images)
        if not self.kept:
            loss = loss + 1e-3 * 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        return loss, decoded, images, mean

    def make_optimizer(self) -> torch.optim.Optimizer:
        """For all weights, or for those of the decoder."""
        self.model.encoder.requires_grad_(not self.kept)
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        rate, fused = 1e-3 if self.kept else 2e-3, self.session.cuda
        optimizer = torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.98), weight_decay=0.0, fused=fused)
        for group in optimizer.param_groups:
            group["peak"] = rate
        return optimizer

    def _paint_some(self, count: int) -> Tensor:
        session = self.session
        if len(self._painted) < count:
            batch = session.feed.get()
            self._painted = session.renderer.paint(batch.backgrounds, batch.objects, session.arguments.side)
            self._painted[::12] = pixelate(self._painted[::12])  # the adapter draws such ones
        images, self._painted = self._painted[:count], self._painted[count:]
        return images.contiguous(memory_format=torch.channels_last) if session.cuda else images

    @torch.no_grad()
    def _fold_scale(self) -> None:
        """Gives each latent channel mean 0 and deviation 1, by the weights of the convolutions beside it."""
        latents: list[Tensor] = []
        for _ in range(16):
            with self.session.autocast():
                latents.append(self.model.encoder(self._paint_some(self.session.arguments.autoencoder_batch)).float())
        values = torch.cat(latents)[:, : flux.LATENTS]
        moments = torch.stack([values.mean((0, 2, 3)), values.std((0, 2, 3)).clamp(min=0.05)])
        if world_size() > 1:
            dist.broadcast(moments, 0)
        mean, deviation = moments
        out, into = self.model.encoder.conv_out, self.model.decoder.conv_in
        into.bias += (into.weight * mean.view(1, -1, 1, 1)).sum((1, 2, 3))
        into.weight *= deviation.view(1, -1, 1, 1)
        out.bias[: flux.LATENTS] = (out.bias[: flux.LATENTS] - mean) / deviation
        out.weight[: flux.LATENTS] /= deviation.view(-1, 1, 1, 1)
        out.bias[flux.LATENTS :] -= 2 * deviation.log()
        self.session.log("deviations of the latents", [round(value, 2) for value in deviation.tolist()])


@torch.no_grad()
def show_autoencoder(session: Session) -> None:
    """Logs how well scenes come back, and writes a sheet of some before and after."""
    session.feed.set_ease(0.0)
    session.feed.empty()
    batch = session.feed.get()
    images = session.renderer.paint(batch.backgrounds[:16], batch.objects[:16], session.arguments.side)
    with session.autocast():
        decoded = session.autoencoder.decoder(session.autoencoder.encoder(images)[:, : flux.LATENTS]).float()
    session.log(f"autoencoder: PSNR {measure_psnr(decoded, images):.2f} dB on scenes")
    if rank() == 0:
        sheet = torch.stack([images, decoded], 1).flatten(0, 1)[:16]
        write_sheet(sheet, session.arguments.out / "autoencoder.png")


def compare(decoded: Tensor, images: Tensor) -> Tensor:
    """Absolute errors at several sizes and of edges, and squared ones."""
    error = decoded - images
    loss = error.abs().mean() + 4 * error.square().mean()
    for size in (2, 4, 8):
        loss = loss + 0.25 * F.avg_pool2d(error, size).abs().mean()
    across, down = error[..., 1:] - error[..., :-1], error[..., 1:, :] - error[..., :-1, :]
    return loss + 0.75 * (across.abs().mean() + down.abs().mean())


def measure_psnr(decoded: Tensor, images: Tensor) -> float:
    """Decibels, for pictures of -1 to 1."""
    error = (decoded.float().clamp(-1, 1) - images.float()).square().mean().item() / 4
    return -10 * math.log10(max(error, 1e-10))
