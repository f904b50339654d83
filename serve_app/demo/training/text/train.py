"""Trains the network: `python -m serve_app.demo.training.text.train --out FOLDER --minutes 20` (one H100).

A training example is what LLaDA2Pipeline shows the model: the whole text up to the end of one block of 32 tokens, of
which the answer's tokens in that last block are noised. The pipeline passes no block-causal mask, so attention is full.
Goes on from FOLDER/state.pt where that exists; FOLDER/model is what it has come to, replaced every minute or two.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from serve_app.demo.training.text import network, probe
from serve_app.demo.training.text.data import BLOCK, Store, find_special, start_workers
from serve_app.demo.training.text.muon import Muon
from serve_app.demo.training.text.tokenizer import CONTEXT
from serve_app.demo.training.text.words import require_words

MUON_RATE, ADAM_RATE = 0.02, 0.003
WARM_STEPS = 150
STATIC_BLOCKS = 4
"""Windows of up to so many blocks are compiled for their size, all longer ones together."""
OWN_AFTER, OWN_EVERY = 0.25, 4
"""From this part of the training on, every so many steps some tokens are what the model itself would write."""
LONG_AFTER = 2 / 3
"""From this part of the training on, long windows too: the text of short ones is learned by then."""
CUT_EVERY = 29
"""Every so many steps the window ends within a block, as max_tokens ends a reply."""
WRONG_WEIGHT, KEPT_WEIGHT = 0.5, 0.1
"""How much wrong and right visible tokens count beside masked ones: by the former the model learns to edit."""
COMPILED = {"layer": network.run_layer, "loss": network.compute_loss}


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="a folder that tokenizer.py wrote")
    parser.add_argument(
        "--minutes", type=float, default=18.0, help="of training, all starts together, without compiling"
    )
    parser.add_argument("--save-seconds", type=float, default=120.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--inner", type=int, default=640)
    parser.add_argument("--tokens", type=int, default=98304, help="of a batch")
    parser.add_argument("--longest", type=int, default=CONTEXT, help="tokens of a window")
    parser.add_argument("--shards", type=int, default=240)
    parser.add_argument("--shard-examples", type=int, default=40000)
    parser.add_argument("--workers", type=int, default=max(1, min(16, len(os.sched_getaffinity(0)) - 1)))
    parser.add_argument("--init", type=Path, help="a model.safetensors to begin with")
    parser.add_argument("--sums", type=int, default=100, help="held-out sums asked at each save")
    parser.add_argument("--probe-seconds", type=float, default=5.0, help="of asking, at each save")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="a rehearsal in a minute on a CPU, on the sample of words")
    return parser.parse_args(arguments)


def make_tiny(args: argparse.Namespace) -> None:
    args.width, args.layers, args.inner, args.tokens = 80, 2, 160, 2048
    args.shards, args.shard_examples, args.workers, args.sums = 2, 400, 1, 2
    args.device, args.no_compile, args.probe_seconds = "cpu", True, 0.5
    torch.set_num_threads(1)  # threads of a busy machine wait for each other


class Training:
    """Weights, optimizers and what has been done so far."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.began = time.time()
        args.out.mkdir(parents=True, exist_ok=True)
        self.device = args.device
        self.on_gpu = self.device.startswith("cuda")
        self.half = torch.bfloat16 if self.on_gpu else torch.float32
        self.tokenizer = Tokenizer.from_file(str(args.tokenizer / "tokenizer.json"))
        self.pad, self.mask, self.eos = (find_special(self.tokenizer, name) for name in ("pad", "mask", "eos"))
        self.vocabulary = self.tokenizer.get_vocab_size()
        torch.manual_seed(0)
        self.pick = Random(0)
        start = (
            network.read_export(args.init)
            if args.init
            else network.make_weights(self.vocabulary, args.width, args.layers, args.inner)
        )
        self.w = {name: weight.to(self.device).requires_grad_() for name, weight in start.items()}
        self.average = {name: weight.detach().clone() for name, weight in self.w.items()}
        matrices = {name: self.w[name] for name in ("wqkv", "wo", "wi", "wo2", "dense")}
        self.muon = Muon(matrices, {"wqkv": 3, "wi": 2}, self.half)
        self.others = [self.w["emb"]] + [self.w[n] for n in self.w if n not in matrices and n != "emb"]
        groups = [{"params": self.others[:1], "weight_decay": 0.02}, {"params": self.others[1:], "weight_decay": 0.0}]
        self.adam = torch.optim.AdamW(groups, lr=ADAM_RATE, betas=(0.9, 0.98), eps=1e-9)
        self.step, self.seconds = 0, 0.0
        self.compiled: dict[str, dict[str, Callable[..., Any]]] = {"static": dict(COMPILED), "any": dict(COMPILED)}
        self.static_blocks: set[int] = set()

    @property
    def progress(self) -> float:
        return min(1.0, self.seconds / (self.args.minutes * 60))

    def read_minutes(self) -> None:
        """A file `minutes` in the folder makes the training longer or shorter while it runs."""
        file = self.args.out / "minutes"
        if file.exists():
            self.args.minutes = float(file.read_text())

    def log(self, *parts: object) -> None:
        line = f"[{time.time() - self.began:6.1f} s] " + " ".join(map(str, parts))
        print(line, flush=True)

    def cast(self) -> network.Weights:
        return {name: weight.to(self.half) for name, weight in self.w.items()}

    def functions(self, block: int, cut: int) -> dict[str, Callable[..., Any]]:
        return self.compiled["static" if block in self.static_blocks and not cut else "any"]

    def rows(self, block: int) -> int:
        return max(8, self.args.tokens // ((block + 1) * BLOCK))


def noise(t: Training, block: Tensor, first: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(noised, masked, answer, wrong) of clean blocks (n, size) whose answers begin at `first`."""
    n, size = block.shape
    device = block.device

    def chance(*shape: int) -> Tensor:
        return torch.rand(*shape, device=device)

    answer = torch.arange(size, device=device)[None] >= first[:, None]
    level = torch.where(chance(n, 1) < 0.2, 1.0, chance(n, 1))  # one in five as at the first step: all is masked
    masked = (chance(n, size) < level) & answer
    rate = chance(n, 1) * 0.25 * (chance(n, 1) < 0.4)
    wrong = (chance(n, size) < rate) & answer & ~masked
    elsewhere = block[torch.randperm(n, device=device)].roll(t.pick.randint(-2, 2), 1)
    other = torch.where(chance(n, size) < 0.4, torch.randint(t.vocabulary - 3, (n, size), device=device), elsewhere)
    noised = torch.where(masked, t.mask, torch.where(wrong, other, block))
    return noised, masked, answer, wrong & (noised != block)


def show_own(
    t: Training, before: Tensor, target: Tensor, noised: Tensor, masked: Tensor, wrong: Tensor, layer: network.Layer
) -> tuple[Tensor, Tensor, Tensor]:
    """Some masked tokens become what the model would write, right or wrong."""
    w = t.cast()
    # with gradients only so that nothing is compiled twice
    h = network.run_trunk(w, torch.cat([before, noised], 1), target.shape[1], layer).detach()
    with torch.no_grad():
        logits = network.run_head(h, *network.head_weights(w)).float()
        gumbel = -torch.log(-torch.log(torch.rand_like(logits).clamp(1e-9, 1 - 1e-7)))
        own = (logits + 0.6 * gumbel).argmax(-1)
        own = torch.where(own == t.mask, t.pad, own)
        share = torch.rand(masked.shape[0], 1, device=masked.device) * 0.6
        shown = masked & (torch.rand(masked.shape, device=masked.device) < share)
    return torch.where(shown, own, noised), masked & ~shown, wrong | (shown & (own != target))


def train_step(t: Training, store: Store) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    """(loss, entropy, right, masked) and how many tokens the step took; leaves gradients."""
    block = store.choose_block(t.pick, with_long=t.progress >= LONG_AFTER)
    ids, first = store.draw(block, t.rows(block))
    cut = t.pick.choice((8, 16, 24)) if t.step % CUT_EVERY == 7 else 0
    ids = ids[:, :-cut] if cut else ids
    size = BLOCK - cut
    before, target = ids[:, :-size], ids[:, -size:].contiguous()
    run = t.functions(block, cut)
    noised, masked, answer, wrong = noise(t, target, first)
    if t.progress > OWN_AFTER and t.step % OWN_EVERY == 3:
        noised, masked, wrong = show_own(t, before, target, noised, masked, wrong, run["layer"])
    weight = masked.float() + WRONG_WEIGHT * wrong.float() + KEPT_WEIGHT * (answer & ~masked & ~wrong).float()
    w = t.cast()
    h = network.run_trunk(w, torch.cat([before, noised], 1), size, run["layer"])
    loss, entropy, right = run["loss"](h.contiguous(), *network.head_weights(w), target, weight, masked)
    # all windows count the same: a batch of long ones holds few, and its noise would drown what the others say
    (loss * (t.rows(block) * 2 * BLOCK / t.args.tokens)).backward()
    return loss.detach(), entropy, right, masked.sum(), ids.numel()


def update(t: Training) -> float:
    """One step of both optimizers; returns the learning rate's factor."""
    scale = min(1.0, (t.step + 1) / WARM_STEPS) * (0.5 * (1 + math.cos(math.pi * t.progress)) * 0.99 + 0.01)
    torch.nn.utils.clip_grad_norm_(t.others, 1.0)
    for group in t.adam.param_groups:
        group["lr"] = ADAM_RATE * scale
    t.adam.step()
    t.muon.step(MUON_RATE * scale)
    for weight in t.w.values():
        weight.grad = None
    decay = min(0.998, (1 + t.step) / (10 + t.step))
    current = [weight.detach() for weight in t.w.values()]
    torch._foreach_lerp_(list(t.average.values()), current, 1 - decay)  # pyright: ignore[reportPrivateUsage]
    t.step += 1
    return scale


def compile_functions(t: Training, store: Store) -> None:
    """Compiles layer and loss for short windows one by one, and for all others together; eager where that fails."""
    import torch._dynamo

    for name in ("recompile_limit", "cache_size_limit"):
        if hasattr(torch._dynamo.config, name):
            setattr(torch._dynamo.config, name, 64)
    short = [(block, 0) for block in store.blocks if block < STATIC_BLOCKS]
    long = [(block, 0) for block in store.blocks if block >= STATIC_BLOCKS][:2]
    backend = "inductor" if t.on_gpu else "aot_eager"
    for kind, sizes in (("static", short), ("any", [*long, (1, 8)])):
        began = time.time()
        try:
            t.compiled[kind] = {
                name: torch.compile(
                    network.copy_function(function, f"{name}_{kind}"), dynamic=kind == "any", backend=backend
                )
                for name, function in COMPILED.items()
            }
            for block, cut in sizes:
                _try_size(t, store, kind, block, cut)
                if kind == "static":
                    t.static_blocks.add(block)
                t.log("compiled", kind, "for", (block + 1) * BLOCK - cut, f"tokens, {time.time() - began:.0f} s")
        except Exception as error:  # noqa: BLE001 - a compiler's failure costs speed, not the training
            t.log(f"compiling ({kind}) failed, going on without:", repr(error)[:500])
            t.compiled[kind] = dict(COMPILED)
            t.static_blocks.clear()
    for weight in t.w.values():
        weight.grad = None


def _try_size(t: Training, store: Store, kind: str, block: int, cut: int) -> None:
    ids, first = store.draw(block, t.rows(block))
    ids, size = ids[:, : (block + 1) * BLOCK - cut], BLOCK - cut
    target = ids[:, -size:].contiguous()
    noised, masked, _, _ = noise(t, target, first)
    w, run = t.cast(), t.compiled[kind]
    h = network.run_trunk(w, torch.cat([ids[:, :-size], noised], 1), size, run["layer"])
    run["loss"](h.contiguous(), *network.head_weights(w), target, masked.float(), masked)[0].backward()
    if t.on_gpu:
        torch.cuda.synchronize()


def save(t: Training) -> None:
    """Writes state.pt and the model, each in place of the one before."""
    state = {
        "w": {name: weight.detach() for name, weight in t.w.items()},
        "average": t.average,
        "adam": t.adam.state_dict(),
        "momentum": t.muon.momentum,
        "step": t.step,
        "seconds": t.seconds,
    }
    torch.save(state, t.args.out / "state.tmp")
    os.replace(t.args.out / "state.tmp", t.args.out / "state.pt")
    new, model = t.args.out / "model.new", t.args.out / "model"
    shutil.rmtree(new, ignore_errors=True)
    error = network.export_model(t.average, new, t.eos, t.pad, CONTEXT)
    for file in t.args.tokenizer.iterdir():
        shutil.copy(file, new / file.name)
    shutil.rmtree(t.args.out / "model.old", ignore_errors=True)
    if model.exists():
        os.replace(model, t.args.out / "model.old")
    os.replace(new, model)
    t.log(f"saved at step {t.step} after {t.seconds:.0f} s of training; logits differ by {error:.1e}")
    for line in probe.describe(t.average, t.tokenizer, t.args.sums, t.args.probe_seconds):
        t.log(line)


def resume(t: Training) -> None:
    file = t.args.out / "state.pt"
    if not file.exists():
        return
    state = torch.load(file, map_location=t.device, weights_only=True)
    with torch.no_grad():
        for name, weight in t.w.items():
            weight.copy_(state["w"][name])
            t.average[name].copy_(state["average"][name])
        for name, momentum in t.muon.momentum.items():
            momentum.copy_(state["momentum"][name])
    t.adam.load_state_dict(state["adam"])
    t.step, t.seconds = state["step"], state["seconds"]
    torch.manual_seed(t.step)
    t.pick = Random(t.step)
    t.log(f"goes on from step {t.step} after {t.seconds:.0f} s of training")


def train(t: Training, store: Store) -> None:
    """Until the time is up; raises where the loss is no number."""
    saved = logged = polled = last = time.time()
    sums, tokens = [torch.zeros((), device=t.device) for _ in range(4)], 0
    while t.progress < 1.0:
        *figures, count = train_step(t, store)
        scale = update(t)
        for total, figure in zip(sums, figures, strict=True):
            total += figure
        tokens += count
        now = time.time()
        t.seconds, last = t.seconds + now - last, now
        if t.step % 100 == 0:
            loss, entropy, right, masked = (float(total) for total in sums)
            speed = tokens / (time.time() - logged) / 1000
            memory = f" GiB {torch.cuda.max_memory_allocated() / 2**30:.1f}" if t.on_gpu else ""
            t.log(
                f"step {t.step} loss {loss / 100:.4f} entropy {entropy / masked:.4f} right {right / masked:.4f} "
                f"rate {scale:.3f} ktok/s {speed:.0f} examples {store.examples}{memory}"
            )
            if not math.isfinite(loss):
                raise ValueError("the loss is no number")
            sums, tokens, logged = [torch.zeros((), device=t.device) for _ in range(4)], 0, time.time()
            t.read_minutes()
        if store.shards < t.args.shards and now - polled > 4:
            store.poll()
            polled = time.time()
        if now - saved > t.args.save_seconds:
            save(t)
            saved = logged = time.time()
            tokens = 0


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    if args.tiny:
        make_tiny(args)
    else:
        require_words()
    t = Training(args)
    workers = start_workers(
        args.out / "shards", args.tokenizer / "tokenizer.json", args.workers, args.shards, args.shard_examples
    )
    try:
        if t.on_gpu:
            torch.set_float32_matmul_precision("high")
            torch.backends.cuda.enable_cudnn_sdp(False)  # its backward pass broke on an H100 with torch 2.11
        t.log(
            sum(weight.numel() for weight in t.w.values()),
            "parameters,",
            torch.__version__,
            "on",
            t.device,
            args.workers,
            "workers",
        )
        resume(t)
        store = Store(args.out / "shards", t.device, t.pad, args.longest)
        while store.shards < min(2, args.shards):
            store.poll()
            time.sleep(0.2)
        t.log(store.shards, "shards,", store.examples, "examples")
        if not args.no_compile:
            compile_functions(t, store)
        train(t, store)
        save(t)
        t.log("done:", t.step, "steps,", store.examples, "examples")
        (args.out / "done").touch()
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()


if __name__ == "__main__":
    main()
