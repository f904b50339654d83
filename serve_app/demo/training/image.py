"""Trains the demo image model on scenes: FLUX with its text encoders, then its guidance; the autoencoder is finished.

    torchrun --nproc-per-node 2 -m serve_app.demo.training.image --data data/image --out out

`data` is what data.py makes. 24 minutes on two H100s (with one, give it `--minutes 48`), of which compiling takes one;
started again, it goes on from `out/state.pt`, as long as it is told. It leaves `out/pipeline`, the same as parts of a
tar, contact sheets and train.log. `--autoencoder ""` trains an autoencoder of its own first, for a fifth of the time.
Scenes and first weights are drawn from fixed seeds, but a phase ends by the clock: two runs are alike, not equal.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.distributed as dist

from serve_app.demo.training.autoencoding import AutoencoderPhase, show_autoencoder
from serve_app.demo.training.denoising import Latents, train_guidance, train_transformer
from serve_app.demo.training.feed import CROWDED, Feed
from serve_app.demo.training.optimize import rank, start_processes, world_size
from serve_app.demo.training.session import FINISHED, PHASES, Session, read_folder

TINY = {
    "device": "cpu",
    "side": 64,
    "batch": 8,
    "fresh": 8,
    "store": 64,
    "autoencoder_batch": 4,
    "workers": 1,
    "no_compile": True,
}


def main() -> None:
    """The command line."""
    arguments = read_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    feed = Feed(arguments.data, seed=1 + rank(), size=arguments.fresh, workers=arguments.workers)  # before CUDA
    train(Session(arguments, feed, start_processes(arguments.device)))


def read_arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Of `words`, or of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--autoencoder", type=read_folder, default=FINISHED / "image", help='"" trains one')
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=24.0, help="from the start of this run to its end")
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
    arguments = parser.parse_args(words)
    if arguments.tiny:
        vars(arguments).update(TINY)
    return arguments


def train(session: Session) -> None:
    """Goes through PHASES, from where the state in `out` stands."""
    at = list(PHASES).index(session.phase)
    session.log("torch", torch.__version__, "processes", world_size(), vars(session.arguments))
    if at == 0:
        session.feed.set_ease(CROWDED)
        AutoencoderPhase(session).train()
    session.autoencoder.requires_grad_(False).eval()
    show_autoencoder(session)
    session.feed.set_ease(0.0 if session.state else 1.0)
    session.feed.empty()
    latents = Latents(session)
    if at <= 1:
        train_transformer(session, latents)
    train_guidance(session, latents)
    session.export("the end", scale=0.0)
    if rank() == 0:
        session.show_guidance()
    session.log("DONE")
    if world_size() > 1:
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
