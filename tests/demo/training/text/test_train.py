"""The text training at a size that a CPU does in seconds: windows, the network, and a run that is gone on with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import torch

from serve_app.demo.training.text import network, train
from serve_app.demo.training.text.data import BLOCK, LONG_BLOCKS, Store, find_special, write_shards
from serve_app.demo.training.text.tokenizer import train_tokenizer
from serve_app.engines.diffusers.text import DiffusersTextEngine
from serve_app.model_settings import TextSettings
from serve_app.tasks import TextEnd, TextTask


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(600).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def store(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder, tokenizer / "tokenizer.json", worker=0, workers=1, shards=1, examples=800)
    store = Store(folder, "cpu", pad=0, longest=1536)
    store.poll()
    return store


def test_long_windows_come_only_where_asked_for_and_seldom(store: Store) -> None:
    pick = Random(1)
    assert max(store.blocks) >= LONG_BLOCKS
    assert all(store.choose_block(pick, with_long=False) < LONG_BLOCKS for _ in range(500))
    long = sum(store.choose_block(pick, with_long=True) >= LONG_BLOCKS for _ in range(1000))
    assert 10 < long < 250


def test_a_window_ends_with_the_block_and_says_where_its_answer_begins(store: Store) -> None:
    block = store.blocks[0]
    ids, first = store.draw(block, 16)
    assert ids.shape == (16, (block + 1) * BLOCK)
    assert ((first >= 0) & (first < BLOCK)).all()


def test_what_is_exported_is_read_again_and_gives_the_same_logits(tmp_path: Path) -> None:
    weights = network.make_weights(64, width=80, layers=2, inner=160)
    assert network.export_model(weights, tmp_path, eos=61, pad=62, context=128) < 1e-3
    again = network.read_export(tmp_path / "model.safetensors")
    assert weights.keys() == again.keys()
    assert all(torch.allclose(weights[name], again[name], atol=1e-3) for name in weights)


@pytest.fixture
def threads() -> Iterator[None]:
    """A rehearsal takes one thread of torch for the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
async def test_a_run_is_saved_gone_on_with_and_served(
    tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(minutes: float) -> str:
        train.main(["--tiny", "--out", str(tmp_path), "--tokenizer", str(tokenizer), "--minutes", str(minutes)])
        return capsys.readouterr().out

    (tmp_path / "shards").mkdir()
    write_shards(tmp_path / "shards", tokenizer / "tokenizer.json", worker=0, workers=1, shards=2, examples=400)
    assert "done:" in run(0.01)
    assert "goes on from step" in run(0.02)
    engine = DiffusersTextEngine(TextSettings(model=str(tmp_path / "model"), served_name="m"))
    *_, end = [event async for event in engine.generate(TextTask(id="t", model="m", prompt="1 + 1", max_tokens=8))]
    engine.close()
    assert isinstance(end, TextEnd)


def test_a_tokenizer_without_a_special_token_is_said() -> None:
    from tokenizers import Tokenizer, models

    with pytest.raises(ValueError, match=r"no token <\|mask\|>"):
        find_special(Tokenizer(models.BPE()), "mask")
