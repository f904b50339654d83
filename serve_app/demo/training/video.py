"""Trains demo/wan-tiny: `python -m serve_app.demo.training.video --data FOLDER --out FOLDER --minutes 25`.

Needs one GPU (25 minutes on an H100) and what data.py makes. Three stages, each for a share of the time left when it
has compiled: still pictures, which teach the words; clips, a third of which begin with a given picture; and guidance
distilled into the model, so that a guidance scale of 1 looks like one of 4. Killed, it goes on from its checkpoint, for
the minutes that it is then given. `--autoencoder ""` trains an autoencoder of its own first, in a stage before these.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import shutil
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import WanPipeline
from torch import Tensor
from torch.utils.data import DataLoader

from . import clips, filming, wan
from .footage import PROMPTS, Buffer, Scenes, draw_clips, tokenize, write_film_sheet
from .muon import make_optimizers, set_rate
from .optimize import Clock
from .session import FINISHED, read_folder
from .sheets import write_parts
from .stage import LABELS

STAGES = {"autoencoder": 0.26, "stills": 0.15, "clips": 0.43, "distil": 0.16}
JOINT = 0.65
"""The share of the autoencoder's time after which only its decoder goes on, with whole clips."""
SIDE = 256
GUIDANCE = 4.0
WITH_IMAGE = 0.35
WITHOUT_WORDS = 0.1


class Trainer:
    """The models, how far they are, and the stages."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.out: Path = options.out
        self.out.mkdir(parents=True, exist_ok=True)
        self.device = torch.device(options.device)
        self.cuda = self.device.type == "cuda"
        self.side: int = 32 if options.tiny else SIDE
        torch.manual_seed(options.seed)
        self.began = time.monotonic()
        self.done = dict.fromkeys(STAGES, 0.0)
        self.tokenizer = wan.load_tokenizer(options.data / "tokenizer")
        self.sprites = filming.Sprites(options.data, LABELS, self.device)
        finished: Path | None = options.autoencoder
        self.vae: Any = wan.read_autoencoder(finished) if finished else wan.make_autoencoder()
        if finished:
            self.done["autoencoder"] = 1.0
        self.text: Any = wan.make_text_encoder(len(self.tokenizer))
        self.transformer: Any = wan.make_transformer()
        for model in (self.vae, self.text, self.transformer):
            model.to(self.device)
        convolutions: list[Any] = [part for part in self.vae.modules() if isinstance(part, torch.nn.Conv3d)]
        for convolution in convolutions if self.cuda else []:
            convolution.to(memory_format=torch.channels_last_3d)  # other weights have too few dimensions for it
        self.averaged: list[Tensor] = []
        self.teacher: Any = None
        compiled: Any = torch.compile if options.compile else lambda function, **_: function
        self.run_block = compiled(wan.run_block, dynamic=False)
        self.resume()

    def log(self, *words: object) -> None:
        line = f"[{time.monotonic() - self.began:7.1f} s] " + " ".join(map(str, words))
        print(line, flush=True)
        with (self.out / "train.log").open("a") as file:
            file.write(line + "\n")

    def autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.cuda)

    def batches(self, size: int, frames: int) -> Iterator[tuple[list[clips.Clip], Tensor]]:
        seed = self.options.seed + round(1000 * sum(self.done.values()))
        scenes = Scenes(self.tokenizer, seed, size, frames)
        waiting: dict[str, Any] = {"prefetch_factor": 4, "timeout": 120} if self.options.workers else {}
        return iter(DataLoader(scenes, batch_size=None, num_workers=self.options.workers, **waiting))

    def film(self, batch: list[clips.Clip]) -> Tensor:
        return filming.film(batch, self.sprites, self.side)

    # --- stages

    def train(self) -> None:
        with torch.random.fork_rng(devices=[]):
            for stage, run in (
                ("autoencoder", self.train_autoencoder),
                ("stills", self.train_stills),
                ("clips", self.train_clips),
                ("distil", self.distil),
            ):
                unmeasured = stage == "autoencoder" and set(self.vae.config.latents_std) == {1.0}
                if self.done[stage] < 1 or unmeasured:
                    self.log(f"stage {stage}")
                    run()
                    self.done[stage] = 1.0
                    self.save(stage)
        self.log("DONE")

    def start_clock(self, stage: str) -> Clock:
        later = sum(list(STAGES.values())[list(STAGES).index(stage) + 1 :])
        ends = self.began + 60 * self.options.minutes
        return Clock(self.done[stage], STAGES[stage], later, ends, self.device)

    def tick(self, stage: str, clock: Clock) -> float:
        """Once a step: saves now and then. How much of the stage is done."""
        clock.tick(self.options.save_every)
        self.done[stage] = clock.done
        if clock.save_due:
            self.save(stage)
        return clock.done

    def train_autoencoder(self) -> None:
        """Encoder and decoder on short clips; then the decoder alone on whole ones, whose colours drifted without."""
        stage, small = "autoencoder", self.options.tiny
        batches, frozen = self.batches(2 if small else 64, 5 if small else 9), False
        optimizer = torch.optim.AdamW(self.vae.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.0)
        crop, step = self.side // 2, 0
        self.autoencoder_loss(self.film(next(batches)[0])[..., :crop, :crop].contiguous(), frozen)  # chooses algorithms
        clock = self.start_clock(stage)
        while (done := self.tick(stage, clock)) < 1:
            if done > JOINT and not frozen:
                frozen = True
                self.vae.encoder.requires_grad_(False)
                self.vae.quant_conv.requires_grad_(False)
                batches = self.batches(2 if small else 32, clips.FRAMES)
            part = (done - JOINT) / (1 - JOINT) if frozen else done / JOINT
            rate = 1.2e-3 * max(0.02, 1 - part) if frozen else 2e-3 * min(1.0, 1.35 - 0.7 * part)
            optimizer.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / 150)
            top, left = torch.randint(0, self.side - crop + 1, (2,)).tolist()
            pixels = self.film(next(batches)[0])[..., top : top + crop, left : left + crop].contiguous()
            loss, errors = self.autoencoder_loss(pixels, frozen)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.vae.parameters(), 1.0)
            optimizer.step()
            if step % 100 == 0:
                first, last = (-10 * math.log10(max(1e-10, error.item() / 4)) for error in errors[[0, -1]])
                self.log(
                    f"autoencoder {step} loss {loss.item():.4f} PSNR of the first frame {first:.2f}, last {last:.2f}"
                )
            step += 1
        self.measure_latents(self.batches(2 if small else 32, clips.FRAMES))

    def autoencoder_loss(self, pixels: Tensor, frozen: bool) -> tuple[Tensor, Tensor]:
        """The loss, and the squared error of each frame."""
        with self.autocast():
            with torch.set_grad_enabled(not frozen):
                mean, logarithm = wan.encode(self.vae, pixels).float().chunk(2, 1)
            deviation = torch.exp(0.5 * logarithm.clamp(-20, 10))
            made = wan.decode(self.vae, mean + (0.5 if frozen else 1) * deviation * torch.randn_like(mean)).float()
        off = made - pixels
        edges = (off[..., 1:] - off[..., :-1]).abs().mean() + (off[..., 1:, :] - off[..., :-1, :]).abs().mean()
        drift = off.mean((3, 4)).abs().mean()  # of the mean colour of each frame
        loss = off.abs().mean() + 0.75 * edges + 2 * off.square().mean() + drift
        if not frozen:
            loss = loss + 4e-4 * 0.5 * (mean.square() + deviation.square() - 1 - 2 * deviation.log()).mean()
        return loss, off.detach().square().mean((0, 1, 3, 4))

    @torch.no_grad()
    def measure_latents(self, batches: Iterator[tuple[list[clips.Clip], Tensor]]) -> None:
        """Writes mean and deviation of each latent channel into the autoencoder's configuration."""
        pixels = torch.cat([self.film(next(batches)[0]) for _ in range(4)])
        with self.autocast():
            latents = torch.cat([wan.encode(self.vae, part).float().chunk(2, 1)[0] for part in pixels.split(8)])
            made = torch.cat([wan.decode(self.vae, part).float().clamp(-1, 1) for part in latents.split(8)])
        mean, deviation = latents.mean((0, 2, 3, 4)), latents.std((0, 2, 3, 4)).clamp(min=0.02)
        self.vae.register_to_config(latents_mean=mean.tolist(), latents_std=deviation.tolist())
        error = (made - pixels).square().mean().item() / 4
        spread = f"{deviation.min():.2f}-{deviation.max():.2f}"
        self.log(f"autoencoder PSNR {-10 * math.log10(error):.2f} dB, deviations {spread}")
        write_film_sheet(torch.stack([pixels[:6], made[:6]], 1).flatten(0, 1), self.out / "autoencoder.jpg")

    @torch.no_grad()
    def to_latents(self, batch: list[clips.Clip]) -> Tensor:
        """Normalized as the pipeline does it."""
        with self.autocast():
            latents = wan.encode(self.vae, self.film(batch)).float().chunk(2, 1)[0]
        mean, deviation = (
            torch.tensor(self.vae.config[name], device=self.device).view(1, -1, 1, 1, 1)
            for name in ("latents_mean", "latents_std")
        )
        return (latents - mean) / deviation

    def train_stills(self) -> None:
        batch = self.options.batch * 16 // 3
        self.learn("stills", frames=1, count=131072, chunk=256, batch=batch, every=2, peak=1.0, floor=0.5)

    def train_clips(self) -> None:
        batch = self.options.batch
        self.learn("clips", frames=clips.FRAMES, count=40960, chunk=32, batch=batch, every=2, peak=0.8, floor=0.05)

    def distil(self) -> None:
        path = self.out / "teacher.pt"
        self.teacher = self.averaged_copy()[1]
        if path.exists():
            self.teacher.load_state_dict(torch.load(path, map_location=self.device, weights_only=True))
        elif self.done["distil"] > 0:
            self.log("the teacher is lost: what was distilled stays as it is")
            return
        else:
            torch.save(self.teacher.state_dict(), path)
            self.load_averages()
        self.text.requires_grad_(False)
        batch = self.options.batch
        self.learn("distil", frames=clips.FRAMES, count=40960, chunk=32, batch=batch, every=4, peak=0.35, floor=0.02)

    def learn(
        self, stage: str, frames: int, count: int, chunk: int, batch: int, every: int, peak: float, floor: float
    ) -> None:
        """Flow matching on a rotating buffer, `chunk` new clips `every` steps."""
        if self.options.tiny:
            count, chunk, batch = 16, 4, 4
        self.vae.requires_grad_(False)
        trained = [self.transformer] if stage == "distil" else [self.transformer, self.text]
        weights = [weight for model in trained for weight in model.parameters()]
        if not self.averaged:
            self.averaged = [weight.detach().clone() for weight in self.weights()]
        optimizers = make_optimizers(trained, self.options.lr)
        buffer = Buffer(count, 1 + (frames - 1) // 4, self.side, self.device)
        batches = self.batches(chunk, frames)
        for _ in range(8):
            scenes, ids = next(batches)
            buffer.add(self.to_latents(scenes), ids.to(self.device))
        self.loss(*buffer.sample(batch), with_image=frames > 1).backward()  # compiles
        step, mean = 0, 0.0
        clock = self.start_clock(stage)
        self.log(f"{stage}: {sum(weight.numel() for weight in weights) / 1e6:.2f} M weights, batches of {batch}")
        marked = time.monotonic()
        while (done := self.tick(stage, clock)) < 1:
            if step % every == 0 and step:
                scenes, ids = next(batches)
                buffer.add(self.to_latents(scenes), ids.to(self.device))
            set_rate(
                optimizers, peak * min(1.0, (step + 1) / 200, floor / peak + (1 - floor / peak) * 1.6 * (1 - done))
            )
            loss = self.loss(*buffer.sample(batch), with_image=frames > 1)
            for optimizer in optimizers:
                optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            for optimizer in optimizers:
                optimizer.step()
            kept = min(0.998, (step + 1) / (step + 20))
            torch._foreach_lerp_(self.averaged, [weight.detach() for weight in self.weights()], 1 - kept)  # pyright: ignore[reportPrivateUsage]
            if step % 50 == 0:
                mean = loss.item() if step == 0 else 0.8 * mean + 0.2 * loss.item()
                speed = 50 * batch / max(1e-6, time.monotonic() - marked)
                memory = torch.cuda.max_memory_allocated() / 2**30 if self.cuda else 0
                self.log(f"{stage} {step} loss {mean:.4f} {speed:.0f} a second, {buffer.full} kept, {memory:.0f} GiB")
                marked = time.monotonic()
            step += 1

    def loss(self, latents: Tensor, ids: Tensor, with_image: bool) -> Tensor:
        """Flow matching, or what the guided teacher says; the first frame is given to some of the clips."""
        count, frames = latents.shape[0], latents.shape[2]
        wordless = torch.rand(count, device=self.device) < WITHOUT_WORDS
        nothing = self.ids_of([""])
        ids = torch.where(wordless[:, None], nothing, ids)
        level = self.noise_levels(count)
        noise = torch.randn_like(latents)
        given = torch.rand(count, device=self.device) < (WITH_IMAGE if with_image else 0.0)
        levels = level[:, None].repeat(1, frames)
        levels[:, 0] = torch.where(given, 0.0, level)
        spread = levels[:, None, :, None, None]
        noisy = (1 - spread) * latents + spread * noise
        target = noise - latents
        with self.autocast():
            text = wan.embed(self.text, ids)
            if self.teacher is not None:
                target = self.guided(noisy, 1000 * levels, text, wan.embed(self.text, nothing), wordless)
            made = wan.velocity(self.transformer, noisy, 1000 * levels, text, self.run_block).float()
        matters = (spread > 0).float().expand(-1, 1, -1, 1, 1)
        error = (made - target).square().mean((1, 3, 4), keepdim=True)
        return (error * matters).sum() / matters.sum()

    @torch.no_grad()
    def guided(self, noisy: Tensor, times: Tensor, text: Tensor, nothing: Tensor, wordless: Tensor) -> Tensor:
        without = wan.velocity(self.teacher, noisy, times, nothing.expand_as(text), self.run_block).float()
        words = wan.velocity(self.teacher, noisy, times, text, self.run_block).float()
        scale = torch.where(wordless, 1.0, GUIDANCE).view(-1, 1, 1, 1, 1)
        return without + scale * (words - without)

    def noise_levels(self, count: int) -> Tensor:
        """Mostly middling ones, shifted towards noise as the scheduler's steps are."""
        level = torch.rand(count, device=self.device)
        middling = torch.rand(count, device=self.device) < 0.6
        level = torch.where(middling, torch.sigmoid(torch.randn(count, device=self.device)), level)
        return (wan.FLOW_SHIFT * level / (1 + (wan.FLOW_SHIFT - 1) * level)).clamp(0.002, 1)

    def ids_of(self, captions: list[str]) -> Tensor:
        return tokenize(self.tokenizer, captions).to(self.device)

    # --- what is kept

    def weights(self) -> list[Tensor]:
        return [*self.transformer.parameters(), *self.text.parameters()]

    def averaged_copy(self) -> tuple[Any, Any]:
        """Text encoder and transformer with the running averages of their weights."""
        text, transformer = copy.deepcopy(self.text), copy.deepcopy(self.transformer)
        if self.averaged:
            for weight, average in zip([*transformer.parameters(), *text.parameters()], self.averaged, strict=True):
                weight.data.copy_(average)
        return text.requires_grad_(False).eval(), transformer.requires_grad_(False).eval()

    def load_averages(self) -> None:
        """What was read from a pipeline's parts is the averages already."""
        for weight, average in zip(self.weights(), self.averaged or self.weights(), strict=True):
            weight.data.copy_(average)

    def save(self, stage: str) -> None:
        """A checkpoint to go on from, the pipeline in fp16 as parts of a tar file, and a contact sheet."""
        began = time.monotonic()
        state = {name: getattr(self, name).state_dict() for name in ("vae", "text", "transformer")}
        fresh = self.out / "state.new"
        torch.save(state | {"averaged": self.averaged, "done": self.done, "config": dict(self.vae.config)}, fresh)
        fresh.rename(self.out / "state.pt")
        text, transformer = self.averaged_copy()
        folder = self.out / "wan-tiny"
        shutil.rmtree(folder, ignore_errors=True)
        wan.save(folder, self.vae, text, transformer, self.tokenizer)
        (folder / "progress.json").write_text(json.dumps(self.done))
        write_parts(folder, self.out)
        if stage != "autoencoder":
            frames = 1 if stage == "stills" else clips.FRAMES
            guidance = 1.0 if stage == "distil" and self.done[stage] > 0.2 else GUIDANCE
            self.draw_sheet(text, transformer, frames, guidance)
        self.log(f"saved in {time.monotonic() - began:.1f} s, {stage} {100 * self.done[stage]:.0f} %")

    @torch.no_grad()
    def draw_sheet(self, text: Any, transformer: Any, frames: int, guidance: float) -> None:
        prompts: list[str] = [*(PROMPTS[:2] if self.options.tiny else PROMPTS)]
        steps = 2 if self.options.tiny else 10
        with self.autocast():
            words, nothing = (wan.embed(text, self.ids_of(said)).float() for said in (prompts, [""] * len(prompts)))
            videos = draw_clips(transformer, self.vae, words, nothing, self.side, frames, steps, guidance)
        write_film_sheet(videos, self.out / "sheet.jpg")

    def resume(self) -> None:
        """Goes on from the checkpoint in the folder, or else from the parts of a pipeline that lie there."""
        path = self.out / "state.pt"
        if path.exists():
            state = torch.load(path, map_location=self.device, weights_only=True)
            for name in ("vae", "text", "transformer"):
                getattr(self, name).load_state_dict(state[name])
            self.averaged, self.done, config = state["averaged"], state["done"], state["config"]
        elif parts := sorted(self.out.glob("wan-tiny.tgz.*")):
            joined = self.out / "joined.tgz"
            joined.write_bytes(b"".join(part.read_bytes() for part in parts))
            with tarfile.open(joined) as tar:
                tar.extractall(self.out, filter="data")
            folder = self.out / "wan-tiny"
            pipeline: Any = WanPipeline.from_pretrained(str(folder), local_files_only=True)
            self.vae.load_state_dict(pipeline.vae.state_dict())
            self.text.load_state_dict(pipeline.text_encoder.state_dict())
            self.transformer.load_state_dict(pipeline.transformer.state_dict())
            self.done, config = json.loads((folder / "progress.json").read_text()), dict(pipeline.vae.config)
        else:
            return
        self.vae.register_to_config(latents_mean=config["latents_mean"], latents_std=config["latents_std"])
        self.log("goes on after", {stage: f"{done:.0%}" for stage, done in self.done.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="concepts.json, sprites.npz and tokenizer/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--autoencoder", type=read_folder, default=FINISHED / "video", help='"" trains one')
    parser.add_argument("--minutes", type=float, default=25, help="from the start of this run to its end")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=192, help="clips a step")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--save-every", type=float, default=120, help="seconds")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--tiny", action="store_true", help="a rehearsal on a CPU: small pictures, few of them")
    options = parser.parse_args()
    torch.backends.cuda.enable_cudnn_sdp(False)  # its backward pass broke on torch 2.11
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    torch._dynamo.config.suppress_errors = True  # pyright: ignore[reportPrivateUsage]
    Trainer(options).train()


if __name__ == "__main__":
    main()
