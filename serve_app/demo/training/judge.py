"""A small judge of pictures: which thing, before what, at which time of the day.

    python -m serve_app.demo.training.judge train --data data/image --out judge.safetensors    # 3 minutes on an H100
    python -m serve_app.demo.training.judge --pipeline FOLDER --judge judge.safetensors --sheet sheet.png

The first learns from renderings of scenes that the image model never saw: other lots, and also those combinations that
are held out from its training. The second draws prompts of held-out combinations and says which share shows them; with
`--guidance` and `--steps` as others draw them, and with `--negative` what a negative prompt leaves of two things.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from serve_app.demo.training.scenes import Maker
from serve_app.demo.training.things import BEHIND, COLORS, NUMBER, PLACES, THINGS, TIMELESS, TIMES, Thing, is_held_out

SIDE = 96
"""Pixels of the picture that it looks at."""
WIDTHS = (24, 48, 88, 128)
GUIDANCE = 2.0
"""As the demo profile has it."""
AVOIDANCE = 4.0
"""Of negative prompts, as the engine has it."""


class Judge(nn.Module):
    """A convolutional network of 0.4 million weights."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in WIDTHS:
            layers += [nn.Conv2d(before, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.SiLU()]
            if width in WIDTHS[1:3]:
                layers.append(Residual(width))
            before = width
        self.body = nn.Sequential(*layers)
        self.thing = nn.Linear(2 * before, len(THINGS))
        self.behind = nn.Linear(2 * before, len(BEHIND))
        self.time = nn.Linear(2 * before, len(TIMES))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, H, W) of -1 to 1 to logits of THINGS, BEHIND and TIMES."""
        seen = self.body(F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False))
        seen = torch.cat([seen.mean((2, 3)), seen.amax((2, 3))], 1)
        return self.thing(seen), self.behind(seen), self.time(seen)

    def name(self, image: Any) -> Verdict:
        """What a picture of bytes (H, W, 3) shows."""
        thing, behind, time_of_day = (int(logits.argmax()) for logits in self._look(image))
        return Verdict(THINGS[thing].label, BEHIND[behind], tuple(TIMES)[time_of_day])

    def rate(self, image: Any, label: str) -> float:
        """How much it sees this thing, rather than any other: the logarithm of a share."""
        return float(self._look(image)[0].log_softmax(0)[NUMBER[label]])

    @torch.no_grad()
    def _look(self, image: Any) -> list[Tensor]:
        pixels = torch.from_numpy(np.asarray(image, np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
        return [logits[0] for logits in self(pixels)]


class Residual(nn.Module):
    """Two convolutions, added to what they see."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.SiLU()]
        self.body = nn.Sequential(*layers)

    def forward(self, seen: Tensor) -> Tensor:
        return seen + self.body(seen)


@dataclass(frozen=True)
class Verdict:
    """What a picture shows: a label of THINGS, one of BEHIND, one of TIMES."""

    thing: str
    behind: str
    time: str


def read_judge(path: Path) -> Judge:
    """Reads weights that write_judge wrote."""
    judge = Judge()
    judge.load_state_dict({name: weight.float() for name, weight in load_file(path).items()}, strict=False)
    return judge.eval()


# --- asking ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """A prompt of a combination that training never shows."""

    thing: Thing
    behind: str
    time: str
    prompt: str


def make_questions(count: int) -> list[Question]:
    """The same ones each time; half of them on plain colours."""
    lot, maker = random.Random(11), Maker(11)
    questions: list[Question] = []
    while len(questions) < count:
        thing = THINGS[len(questions) % len(THINGS)]
        group = tuple(COLORS) if lot.random() < 0.5 else tuple(PLACES)
        held_out = [behind for behind in group if is_held_out(thing, behind)]
        held_out = held_out or [behind for behind in BEHIND if is_held_out(thing, behind)]
        if not held_out:
            thing = lot.choice([other for other in THINGS if any(is_held_out(other, behind) for behind in BEHIND)])
            held_out = [behind for behind in BEHIND if is_held_out(thing, behind)]
        behind = lot.choice(held_out)
        timeless = behind in COLORS or behind in TIMELESS
        time_of_day = "day" if timeless else lot.choices(tuple(TIMES), (0.6, 0.2, 0.2))[0]
        questions.append(Question(thing, behind, time_of_day, maker.prompt(thing, behind, time_of_day)))
    return questions


def finds_thing(verdict: Verdict, question: Question) -> bool:
    """Whether the picture shows the thing asked for."""
    return verdict.thing == question.thing.label


def finds_background(verdict: Verdict, question: Question) -> bool:
    """Whether the picture shows the colour, or the place and the time, asked for."""
    return verdict.behind == question.behind and (question.behind in COLORS or verdict.time == question.time)


def share(answers: Sequence[bool]) -> float:
    """Of those that are true."""
    return sum(answers) / len(answers)


class Artist:
    """Draws by the pipeline, prompt i with seed i, as the arguments say."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from diffusers import FluxPipeline

        self._arguments = arguments
        self._pipeline: Any = FluxPipeline.from_pretrained(arguments.pipeline, torch_dtype=torch.float32)
        self._pipeline.to(arguments.device).set_progress_bar_config(disable=True)

    def draw(self, prompts: Sequence[str], avoid: Sequence[str] | None = None) -> list[Any]:
        return [
            self._pipeline(
                prompt=prompt,
                width=256,
                height=256,
                num_inference_steps=self._arguments.steps,
                guidance_scale=self._arguments.guidance,
                max_sequence_length=self._pipeline.tokenizer_2.model_max_length,
                generator=torch.Generator("cpu").manual_seed(seed),
                **({"negative_prompt": avoid[seed], "true_cfg_scale": AVOIDANCE} if avoid else {}),
            ).images[0]
            for seed, prompt in enumerate(prompts)
        ]


def evaluate(arguments: argparse.Namespace) -> None:
    """Draws the questions' prompts and prints which shares of the pictures show what was asked."""
    judge, questions = read_judge(arguments.judge), make_questions(arguments.count)
    pictures = Artist(arguments).draw([question.prompt for question in questions])
    verdicts = [judge.name(picture) for picture in pictures]
    for question, verdict in zip(questions, verdicts, strict=True):
        if not (finds_thing(verdict, question) and finds_background(verdict, question)):
            print(f"{question.prompt}: {verdict.thing}, {verdict.behind}, {verdict.time}")
    print(f"thing {share([finds_thing(*pair) for pair in zip(verdicts, questions, strict=True)]):.1%}")
    print(f"background {share([finds_background(*pair) for pair in zip(verdicts, questions, strict=True)]):.1%}")
    shuffled = [*questions[1:], questions[0]]
    print(f"thing, prompts shuffled {share([finds_thing(*pair) for pair in zip(verdicts, shuffled, strict=True)]):.1%}")
    sure = [judge.rate(picture, question.thing.label) for picture, question in zip(pictures, questions, strict=True)]
    print(f"logarithm of the thing's share {sum(sure) / len(sure):.2f}")
    if arguments.sheet:
        write_sheet(pictures[:48], arguments.sheet)


def evaluate_negatives(arguments: argparse.Namespace) -> None:
    """Asks for two things, then for the same without the second; prints what the judge sees of each."""
    judge, lot, artist = read_judge(arguments.judge), random.Random(3), Artist(arguments)
    pairs = [lot.sample(THINGS, 2) for _ in range(arguments.count)]
    prompts = [f"a {kept.nouns[0]} and a {avoided.nouns[0]} on a white background" for kept, avoided in pairs]
    drawn = {
        "both": artist.draw(prompts),
        "without the second": artist.draw(prompts, [f"a {avoided.nouns[0]}" for _, avoided in pairs]),
    }
    for asked, pictures in drawn.items():
        for which, things in zip(("first", "second"), zip(*pairs, strict=True), strict=True):
            seen = list(zip(pictures, things, strict=True))
            shares = [math.exp(judge.rate(picture, thing.label)) for picture, thing in seen]
            named = sum(judge.name(picture).thing == thing.label for picture, thing in seen)
            print(f"{asked}: the {which} named in {named} of {len(seen)}, share {sum(shares) / len(shares):.3f}")


def write_sheet(pictures: Sequence[Any], path: Path) -> None:
    """In rows of eight."""
    from PIL import Image

    sheet = Image.new("RGB", (8 * 256, (len(pictures) + 7) // 8 * 256), "white")
    for place, picture in enumerate(pictures):
        sheet.paste(picture, (place % 8 * 256, place // 8 * 256))
    sheet.save(path)


# --- learning -------------------------------------------------------------------------------------------------------


def train(arguments: argparse.Namespace) -> None:
    """Learns from distorted renderings until the time is over, and checks itself on sound ones."""
    from serve_app.demo.training.feed import Feed
    from serve_app.demo.training.render import Renderer

    feed = Feed(arguments.data, seed=77, size=128, workers=arguments.workers, everything=True)
    feed.set_ease(0.0)
    device = torch.device(arguments.device)
    torch.manual_seed(0)
    renderer = Renderer(arguments.data / "sprites.npz", device)
    judge = Judge().to(device)
    print("weights", sum(weight.numel() for weight in judge.parameters()), flush=True)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.02)
    feed.empty()
    began, budget, step = time.monotonic(), arguments.minutes * 60, 0
    while (done := (time.monotonic() - began) / budget) < 1:
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1.0, (step + 1) / 100) * max(0.01, 1 - done)
        batch = feed.get()
        images = distort(renderer.paint(batch.backgrounds, batch.objects, 128))
        labels = torch.from_numpy(batch.labels).to(device)
        loss = sum_losses(judge(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step % 200 == 0:
            print(f"{step} loss {loss.item():.3f} done {done:.2f}", flush=True)
            write_judge(judge, arguments.out)
        step += 1
    write_judge(judge, arguments.out)
    check(judge, feed, renderer)


def sum_losses(logits: tuple[Tensor, Tensor, Tensor], labels: Tensor) -> Tensor:
    thing, behind, time_of_day = logits
    loss = F.cross_entropy(thing, labels[:, 0], ignore_index=-1, label_smoothing=0.05)
    loss = loss + F.cross_entropy(behind, labels[:, 1], label_smoothing=0.05)
    return loss + 0.5 * F.cross_entropy(time_of_day, labels[:, 2], label_smoothing=0.05)


def distort(images: Tensor) -> Tensor:
    """As a small model might draw it: moved a little, blurred, noisy, in other light."""
    count, device = len(images), images.device

    def lot(low: float, high: float) -> Tensor:
        return torch.rand(count, 1, 1, 1, device=device) * (high - low) + low

    zoom = lot(0.85, 1.05).flatten()
    theta = torch.zeros(count, 2, 3, device=device)
    theta[:, 0, 0], theta[:, 1, 1] = zoom, zoom
    theta[:, :, 2] = torch.rand(count, 2, device=device) * 0.12 - 0.06
    grid = F.affine_grid(theta, [*images.shape], align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    side = int(torch.randint(32, 129, ()).item())
    small = F.interpolate(images, (side, side), mode="bilinear", antialias=True, align_corners=False)
    images = F.interpolate(small, images.shape[-2:], mode="bilinear", align_corners=False)
    images = images * lot(0.92, 1.08) + lot(-0.06, 0.06)
    return images + torch.randn_like(images) * lot(0.0, 0.12)


@torch.no_grad()
def check(judge: Judge, feed: Any, renderer: Any) -> None:
    """Says how often it is right on scenes it has not seen."""
    judge.eval()
    right: list[Tensor] = []
    for _ in range(40):
        batch = feed.get()
        thing, behind, _ = judge(renderer.paint(batch.backgrounds, batch.objects, 256))
        labels = torch.from_numpy(batch.labels).to(thing.device)
        named = labels[:, 0] >= 0
        found = thing.argmax(1)[named] == labels[named, 0]
        right.append(torch.stack([found.float().mean(), (behind.argmax(1) == labels[:, 1]).float().mean()]))
    thing_share, behind_share = torch.stack(right).mean(0).tolist()
    print(f"right on new renderings: thing {thing_share:.1%}, background {behind_share:.1%}", flush=True)


def write_judge(judge: Judge, path: Path) -> None:
    """Writes the weights in half precision."""
    weights = {name: weight.half().cpu().contiguous() for name, weight in judge.state_dict().items()}
    save_file({name: weight for name, weight in weights.items() if "num_batches" not in name}, path)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pipeline", type=Path)
    parser.add_argument("--judge", type=Path)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--negative", action="store_true", help="of two things, avoid one")
    commands = parser.add_subparsers(dest="command")
    training = commands.add_parser("train")
    training.add_argument("--data", type=Path, required=True)
    training.add_argument("--out", type=Path, required=True)
    training.add_argument("--minutes", type=float, default=3.0)
    training.add_argument("--workers", type=int, default=6)
    training.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    if arguments.command == "train":
        train(arguments)
    else:
        evaluate_negatives(arguments) if arguments.negative else evaluate(arguments)


if __name__ == "__main__":
    main()
