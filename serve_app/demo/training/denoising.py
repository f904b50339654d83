"""The other phases of the image training: the transformer with its text encoders, then its embedded guidance."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from serve_app.demo.training import flux
from serve_app.demo.training.feed import Batch, Store
from serve_app.demo.training.muon import make_optimizers, set_rate
from serve_app.demo.training.optimize import Average, step_together, world_size
from serve_app.demo.training.session import Session


class Latents:
    """Encoded scenes of the side asked for, and every few steps of twice the side."""

    def __init__(self, session: Session) -> None:
        arguments = self._arguments = session.arguments
        self._session = session
        encoder = copy.deepcopy(session.autoencoder.encoder)
        if session.cuda:
            encoder = encoder.to(torch.bfloat16).to(memory_format=torch.channels_last)
        self._encoder = session.compile(encoder)
        self._small = Store(session.feed, self._encode(arguments.side, 128), arguments.store)
        self._large = Store(session.feed, self._encode(2 * arguments.side, 32), max(32, arguments.store // 16))
        began = time.monotonic()
        while self._small.full < min(arguments.store, 12 * arguments.batch):
            self._small.renew()
        session.log(f"{self._small.full} pictures encoded in {time.monotonic() - began:.1f} s")

    def _encode(self, side: int, most: int) -> Callable[[Batch], Tensor]:
        """Encodes scenes at `side`, at `most` so many at once."""
        session = self._session

        def encode(batch: Batch) -> Tensor:
            latents: list[Tensor] = []
            for start in range(0, len(batch), most):
                some = slice(start, start + most)
                images = session.renderer.paint(batch.backgrounds[some], batch.objects[some], side)
                if session.cuda:
                    images = images.to(torch.bfloat16, memory_format=torch.channels_last)
                latents.append(flux.pack(self._encoder(images)[:, : flux.LATENTS].float()))
            return torch.cat(latents)

        return encode

    def sample(self, step: int, large: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Latents, T5's and CLIP's tokens of a batch for this step; with `large`, now and then of larger pictures."""
        every, size = self._arguments.large_every, self._arguments.batch
        if large and step % every == every - 1:
            if step % (4 * every) == every - 1 or not self._large.full:
                self._large.renew()
            return self._large.sample(max(2, size // 4))
        self._small.renew()
        return self._small.sample(size)


def train_transformer(session: Session, latents: Latents) -> None:
    """Transformer and text encoders learn the velocity from pictures to noise; leaves the averages of their weights."""
    arguments, text, model = session.arguments, session.text, session.model
    text.requires_grad_(True).train()
    model.requires_grad_(True).train()
    session.compile_blocks(model)
    nothing = flux.to_tokens(session.encoder, [""], session.device)

    def lose(step: int, large: bool) -> tuple[Tensor, Tensor]:
        packed, t5, clip = latents.sample(step, large)
        t5, clip = drop_captions(t5, clip, nothing)
        t, noised, target = add_noise(packed)
        guidance = 1 + 6 * torch.rand(len(packed), device=session.device)
        with session.autocast():
            loss = (flux.velocity(model, noised, t, guidance, *text(t5, clip)) - target).square().mean()
        return loss, packed

    optimizers = make_optimizers([text, model], arguments.rate)
    average = Average([text, model], 0.9993)
    warm_up(session, lose, average.params)
    clock = session.start_clock("transformer", optimizers)
    average.resume(session.state)
    meter = Meter(session)
    while True:
        clock.tick(arguments.save_s)
        if clock.done >= 1:
            break
        session.feed.set_ease(max(0.0, 1 - clock.done / 0.45))
        falls = 1.0 if clock.done < 0.5 else max(0.02, (1 - clock.done) / 0.5)
        set_rate(optimizers, min(1.0, (session.step + 1) / 200) * falls)
        loss, packed = lose(session.step, clock.done > 0.35)
        loss.backward()
        norm = step_together(average.params, optimizers)
        average.update()
        meter.count("transformer", loss, norm, packed, clock.done)
        if clock.save_due:
            session.write_state("transformer", clock.done, optimizers, **average.state())
            with average.used():
                session.export(f"step {session.step}", scale=3.0)
    average.swap()
    session.export("before guidance", scale=3.0, name="teacher.png")
    session.write_state("guidance", 0.0, [])
    session.state = {}


def train_guidance(session: Session, latents: Latents) -> None:
    """Teaches the model to do in one call what classifier-free guidance does in two, for each scale."""
    arguments, text, model = session.arguments, session.text, session.model
    teacher = flux.make_transformer().to(session.device)
    teacher.load_state_dict(session.state["teacher"] if "teacher" in session.state else model.state_dict())
    teacher.requires_grad_(False).eval()
    text.requires_grad_(False).eval()
    model.requires_grad_(True).train()
    session.compile_blocks(teacher)
    session.compile_blocks(model)
    session.feed.set_ease(0.0)
    nothing = flux.to_tokens(session.encoder, [""], session.device)

    def lose(step: int, large: bool) -> tuple[Tensor, Tensor]:
        packed, t5, clip = latents.sample(step, large)
        t5, clip = drop_captions(t5, clip, nothing)
        t, noised, _ = add_noise(packed)
        guidance = 1 + 6 * torch.rand(len(packed), device=session.device)
        with session.autocast():
            with torch.no_grad():
                words, pooled = text(t5, clip)
                target = guide(teacher, noised, t, guidance, (words, pooled), text(*nothing))
            apart = (flux.velocity(model, noised, t, guidance, words, pooled) - target).square().mean((1, 2))
            loss = (apart / (1 + 0.15 * (guidance - 1).square())).mean()
        return loss, packed

    optimizers = make_optimizers([model], arguments.rate * 0.35)
    average = Average([model], 0.998)
    warm_up(session, lose, average.params)
    clock = session.start_clock("guidance", optimizers)
    average.resume(session.state)
    meter = Meter(session)
    while True:
        clock.tick(arguments.save_s)
        if clock.done >= 1:
            break
        set_rate(optimizers, min(1.0, (average.steps + 1) / 50) * max(0.02, 1 - clock.done))
        loss, packed = lose(session.step, large=True)
        loss.backward()
        norm = step_together(average.params, optimizers)
        average.update()
        meter.count("guidance", loss, norm, packed, clock.done)
        if clock.save_due:
            more = {**average.state(), "teacher": teacher.state_dict()}
            session.write_state("guidance", clock.done, optimizers, **more)
            with average.used():
                session.export(f"step {session.step}", scale=0.0)
    average.swap()


def warm_up(session: Session, lose: Callable[[int, bool], tuple[Tensor, Tensor]], params: Sequence[Tensor]) -> None:
    """Compiles for both sizes of pictures, before the clock of a phase runs."""
    for step in (session.arguments.large_every - 1, 0):
        lose(step, True)[0].backward()
    for param in params:
        param.grad = None


def guide(
    teacher: Any,
    noised: Tensor,
    t: Tensor,
    guidance: Tensor,
    asked: tuple[Tensor, Tensor],
    nothing: tuple[Tensor, Tensor],
) -> Tensor:
    """Classifier-free guidance: as far again from what no prompt gives, as `guidance` says."""
    size = len(noised)
    wanted = flux.velocity(teacher, noised, t, guidance, *asked)
    words, pooled = nothing
    plain = flux.velocity(teacher, noised, t, guidance, words.repeat(size, 1, 1), pooled.repeat(size, 1))
    return plain + guidance.view(-1, 1, 1) * (wanted - plain)


class Meter:
    """Logs the loss every 50 steps."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._loss: Tensor | None = None
        self._began, self._seen = time.monotonic(), 0

    def count(self, phase: str, loss: Tensor, norm: Tensor, packed: Tensor, done: float) -> None:
        """Once a step; only steps of the usual size count for the loss."""
        session, (size, places) = self._session, packed.shape[:2]
        if places == (session.arguments.side // 16) ** 2:
            self._loss = loss.detach() if self._loss is None else self._loss.lerp(loss.detach(), 0.05)
        session.step += 1
        session.seen += size * world_size()
        self._seen += size * world_size()
        if session.step % 50 == 0 and self._loss is not None:
            speed = self._seen / (time.monotonic() - self._began)
            memory = f" {torch.cuda.max_memory_allocated() / 2**30:.0f} GiB" if session.cuda else ""
            session.log(
                f"{phase} {session.step} loss {self._loss.item():.4f} norm {norm.item():.2f} {speed:.0f}/s"
                f" seen {session.seen} done {done:.2f}{memory}"
            )
            self._began, self._seen = time.monotonic(), 0


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
