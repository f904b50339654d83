"""What the video model learns from, and that it is trained as the pipeline calls it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from serve_app.demo.training import clips, wan
from serve_app.demo.training.autoencoding import measure_psnr
from serve_app.demo.training.session import FINISHED
from serve_app.demo.training.vocabulary import make_t5


def test_the_same_seed_films_the_same_clips() -> None:
    def tell(seed: int) -> list[str]:
        maker = clips.ClipMaker(seed)
        return [maker.clip().caption for _ in range(10)]

    assert tell(1) == tell(1)
    assert tell(1) != tell(2)


def test_a_clip_has_a_place_for_each_actor_in_each_frame() -> None:
    maker = clips.ClipMaker(3)
    for clip in (maker.clip() for _ in range(100)):
        assert clip.caption
        assert len(clip.camera) == clips.FRAMES
        assert all(len(actor.path) == clips.FRAMES for actor in clip.actors)


@pytest.fixture(scope="module")
def autoencoder() -> Any:
    torch.manual_seed(0)
    return wan.make_autoencoder().requires_grad_(False).eval()


def test_clips_are_encoded_and_decoded_at_once_as_in_pieces(autoencoder: Any) -> None:
    pixels = torch.rand(1, 3, 9, 32, 32) * 2 - 1
    mean = wan.encode(autoencoder, pixels).chunk(2, 1)[0]
    assert torch.allclose(mean, autoencoder.encode(pixels).latent_dist.mean, atol=1e-4)
    decoded = wan.decode(autoencoder, mean).clamp(-1, 1)
    assert torch.allclose(decoded, autoencoder.decode(mean).sample, atol=1e-4)


def test_a_finished_autoencoder_is_the_pipelines_byte_by_byte(tmp_path: Path) -> None:
    tokenizer = make_t5(["cat"], None, 8)
    finished = wan.read_autoencoder(FINISHED / "video")
    wan.save(tmp_path, finished, wan.make_text_encoder(len(tokenizer)), wan.make_transformer(), tokenizer)
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        assert (tmp_path / "vae" / name).read_bytes() == (FINISHED / "video" / name).read_bytes()


@torch.no_grad()
def test_the_finished_autoencoder_gives_clips_back() -> None:
    model = wan.read_autoencoder(FINISHED / "video")
    clip = torch.full((1, 3, 5, 64, 64), -0.2)
    for frame in range(5):  # a square that moves
        clip[:, 0, frame, 20:44, 8 + 4 * frame : 32 + 4 * frame] = 0.9
    decoded = wan.decode(model, wan.encode(model, clip).chunk(2, 1)[0]).clamp(-1, 1)
    assert measure_psnr(decoded, clip) > 20


def test_the_transformer_is_trained_as_it_is_called() -> None:
    torch.manual_seed(0)
    model: Any = wan.make_transformer().requires_grad_(False).eval()
    model.proj_out.weight.normal_(std=0.1)
    latents, words = torch.randn(1, wan.LATENTS, 2, 4, 4), torch.randn(1, 8, wan.TEXT)
    times = torch.tensor([[0.0, 600.0]])  # the first frame is given
    ours = wan.velocity(model, latents, times, words, wan.run_block)
    theirs = model(latents, times.repeat_interleave(4, 1), words).sample
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert ours.abs().max() > 0.01
