"""The corpus as token ids: shards that workers write, and the store on the device that training draws windows from.

`python -m serve_app.demo.training.text.data FOLDER TOKENIZER WORKER WORKERS SHARDS EXAMPLES` is one worker.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
from tokenizers import Tokenizer

from serve_app.demo.training.text.corpus import draw_examples

BLOCK = 32
FIRST_SEED = 1000
LONG_BLOCKS, LONG_SHARE = 12, 0.3
"""Windows beyond so many blocks are drawn less often than they occur: they cost much and teach little else."""


def find_special(tokenizer: Tokenizer, name: str) -> int:
    """The id of the token `eos`, `pad` or `mask`; ValueError where the tokenizer has none."""
    token = tokenizer.token_to_id(f"<|{name}|>")
    if token is None:
        raise ValueError(f"the tokenizer has no token <|{name}|>")
    return token


def make_shard(tokenizer: Tokenizer, seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """All ids in one row, and for each example its offset, prompt length and whole length, EOS included."""
    pairs = draw_examples(seed, count)
    prompts = tokenizer.encode_batch([prompt for prompt, _ in pairs], add_special_tokens=False)
    answers = tokenizer.encode_batch([answer for _, answer in pairs], add_special_tokens=False)
    eos = find_special(tokenizer, "eos")
    ids: list[int] = []
    rows: list[tuple[int, int, int]] = []
    for prompt, answer in zip(prompts, answers, strict=True):
        example = [*prompt.ids, *answer.ids, eos]
        rows.append((len(ids), len(prompt.ids), len(example)))
        ids += example
    return np.array(ids, dtype=np.uint16), np.array(rows, dtype=np.int64)


def write_shards(folder: Path, tokenizer: Path, worker: int, workers: int, shards: int, examples: int) -> None:
    loaded = Tokenizer.from_file(str(tokenizer))
    for number in range(worker, shards, workers):
        target = folder / f"shard{number}.npz"
        if target.exists():
            continue
        ids, rows = make_shard(loaded, FIRST_SEED + number, examples)
        temporary = folder / f".{number}.npz"
        np.savez(temporary, ids=ids, rows=rows)
        os.replace(temporary, target)


def start_workers(
    folder: Path, tokenizer: Path, workers: int, shards: int, examples: int
) -> list[subprocess.Popen[bytes]]:
    """Processes of low priority that write the shards, the first ones first."""
    folder.mkdir(parents=True, exist_ok=True)
    fixed = ["nice", "-n", "10", sys.executable, "-m", "serve_app.demo.training.text.data", str(folder), str(tokenizer)]
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen([*fixed, str(i), str(workers), str(shards), str(examples)], env=environment)
        for i in range(workers)
    ]


class Store:
    """The corpus on the device, growing: for each block index the windows (offset, prompt, length) that end with it."""

    def __init__(self, folder: Path, device: str, pad: int, longest: int) -> None:
        import torch

        self._torch = torch
        self._folder, self._device, self._pad = folder, device, pad
        self._blocks = longest // BLOCK
        self._seen: set[str] = set()
        self._ids = torch.zeros(0, dtype=torch.int16, device=device)
        self._rows: dict[int, torch.Tensor] = {}
        self.examples = 0

    @property
    def shards(self) -> int:
        return len(self._seen)

    @property
    def blocks(self) -> list[int]:
        return sorted(self._rows)

    def poll(self, most: int = 12) -> None:
        """Takes in shards that have been written since."""
        new = [file for file in sorted(self._folder.glob("shard*.npz")) if file.name not in self._seen][:most]
        flat, rows, size = [self._ids], {block: [self._rows[block]] for block in self._rows}, self._ids.shape[0]
        for file in new:
            self._seen.add(file.name)
            with np.load(file) as shard:
                ids, examples = shard["ids"], shard["rows"]
            first, last = examples[:, 1] // BLOCK, (examples[:, 2] - 1) // BLOCK
            moved = examples + np.array([size, 0, 0])
            for block in range(self._blocks):
                these = moved[(first <= block) & (block <= last)]
                if len(these):
                    rows.setdefault(block, []).append(self._torch.from_numpy(these).to(self._device))
            flat.append(self._torch.from_numpy(ids.astype(np.int16)).to(self._device))
            size += len(ids)
            self.examples += len(examples)
        if new:
            self._ids = self._torch.cat(flat)
            self._rows = {block: self._torch.cat(parts) for block, parts in rows.items()}

    def choose_block(self, pick: Random, with_long: bool) -> int:
        """A block index: short windows as often as they occur, long ones seldom, and where asked for alone."""
        blocks = [block for block in self.blocks if with_long or block < LONG_BLOCKS]
        return pick.choices(blocks, [self._count_tokens(block) for block in blocks])[0]

    def _count_tokens(self, block: int) -> float:
        """A batch has the same number of tokens at each block, thus few of the long windows."""
        return self._rows[block].shape[0] * (block + 1) * (LONG_SHARE if block >= LONG_BLOCKS else 1.0)

    def draw(self, block: int, count: int):  # noqa: ANN201 - torch is imported late
        """`count` windows (ids) that end with `block`, and where in that block each answer begins."""
        torch = self._torch
        rows = self._rows[block]
        chosen = torch.randint(rows.shape[0], (count,), device=self._device)
        offset, prompt, total = rows[chosen].unbind(1)
        place = torch.arange((block + 1) * BLOCK, device=self._device)
        ids = self._ids[offset[:, None] + torch.minimum(place[None], total[:, None] - 1)].long()
        return torch.where(place[None] < total[:, None], ids, self._pad), (prompt - block * BLOCK).clamp(min=0)


if __name__ == "__main__":
    write_shards(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:7]))
