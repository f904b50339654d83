"""What the phases of the image training share: its parts on their device, its log, its state on disk, its exports."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from serve_app.demo.training import flux
from serve_app.demo.training.captions import Encoder
from serve_app.demo.training.feed import Source
from serve_app.demo.training.optimize import Clock, rank
from serve_app.demo.training.render import Renderer
from serve_app.demo.training.sheets import PROMPTS, write_parts, write_sheet

PHASES = {"autoencoder": 0.2, "transformer": 0.6, "guidance": 0.2}
"""Shares of the time."""
FINISHED = Path(__file__).parent / "autoencoders"
"""Autoencoders that need no more training: `image` and `video`, each what its pipeline has in the folder vae."""


def read_folder(word: str) -> Path | None:
    """What a word of the command line names: a folder, or none."""
    return Path(word) if word else None


class Session:
    """The parts of the model, as the state in `out` left them, and the means to train and to show them.

    `phase` is the one to begin with. `step` and `seen` count the steps and pictures of the transformer; in the
    autoencoder's phase, `step` its own steps.
    """

    def __init__(self, arguments: argparse.Namespace, feed: Source, device: torch.device) -> None:
        self.arguments, self.feed, self.device = arguments, feed, device
        self.began = time.monotonic()
        self.cuda = device.type == "cuda"
        self.compiled = self.cuda and not arguments.no_compile
        if self.compiled:
            allow_fallback()
        self.encoder = Encoder(arguments.data)
        self.renderer = Renderer(arguments.data / "sprites.npz", device)
        torch.manual_seed(0)
        finished: Path | None = arguments.autoencoder
        autoencoder = flux.read_autoencoder(finished) if finished else flux.make_autoencoder()
        self.autoencoder = autoencoder.to(device)
        self.text = flux.Text(self.encoder).to(device)
        self.model = flux.make_transformer().to(device)
        self.step, self.seen = 0, 0
        self.state = self._read_state()
        self.phase: str = self.state.get("phase", "transformer" if finished else "autoencoder")
        torch.manual_seed(1000 + rank() + 10 * self.step)
        parts = {"autoencoder": self.autoencoder, "t5": self.text.t5, "clip": self.text.clip, "transformer": self.model}
        count = {name: sum(weight.numel() for weight in part.parameters()) for name, part in parts.items()}
        self.log("parameters", count)

    def log(self, *words: object) -> None:
        if rank() == 0:
            line = f"[{time.monotonic() - self.began:7.1f}s] " + " ".join(str(word) for word in words)
            print(line, flush=True)
            with (self.arguments.out / "train.log").open("a") as file:
                file.write(line + "\n")

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
        self.log(f"goes on in phase {state['phase']} of which {state['done']:.0%} is done, at step {self.step}")
        return state

    def write_state(self, phase: str, done: float, optimizers: Sequence[Any], **more: Any) -> None:
        """Keeps where `phase` stands, by the first process."""
        if rank() != 0:
            return
        state = {
            "phase": phase,
            "done": done,
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

    def start_clock(self, phase: str, optimizers: Sequence[Any]) -> Clock:
        """Puts the saved state of `phase` back, if there is one, and starts the time for the rest of it."""
        done = 0.0
        if self.state.get("phase") == phase and len(self.state["optimizers"]) == len(optimizers):
            for optimizer, saved in zip(optimizers, self.state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            done = float(self.state["done"])
        later = sum(list(PHASES.values())[list(PHASES).index(phase) + 1 :])
        return Clock(done, PHASES[phase], later, self.began + 60 * self.arguments.minutes, self.device)

    # --- running ------------------------------------------------------------------------------------------------------

    def autocast(self) -> Any:
        """In bfloat16 on a GPU, in full precision elsewhere."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.cuda)

    def compile(self, function: Any) -> Any:
        """`function`, compiled where that is wanted."""
        return torch.compile(function, dynamic=False) if self.compiled else function

    def compile_blocks(self, model: Any) -> None:
        """Compiles each block of a transformer, once."""
        if self.compiled:
            for block in (*model.transformer_blocks, *model.single_transformer_blocks):
                if block._compiled_call_impl is None:
                    block.compile(dynamic=False)

    # --- showing ------------------------------------------------------------------------------------------------------

    def export(self, note: str, scale: float, name: str = "sheet.png") -> None:
        """Writes the pipeline as it stands, packed in parts, and a contact sheet of PROMPTS; by the first process."""
        if rank() != 0:
            return
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
        """Draws rows of a few prompts at guidance 1, 2, 3.5 and 6, and two pictures of twice the side."""
        model, side = self._copy_model(), self.arguments.side
        parts = (model, self.text, self.autoencoder, self.encoder)
        rows = [flux.draw(*parts, PROMPTS[:6], side, guidance=guidance) for guidance in (1.0, 2.0, 3.5, 6.0)]
        write_sheet(torch.cat(rows), self.arguments.out / "guidance.png", columns=6)
        write_sheet(flux.draw(*parts, PROMPTS[1:5], 2 * side), self.arguments.out / "large.png", columns=4)


def allow_fallback() -> None:
    """What does not compile runs uncompiled."""
    import torch._dynamo

    config: Any = torch._dynamo.config
    config.suppress_errors = True
    for name in ("recompile_limit", "cache_size_limit"):
        if hasattr(config, name):
            setattr(config, name, 64)
