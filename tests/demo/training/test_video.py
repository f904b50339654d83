"""What the video model learns from, and that it is trained as the pipeline calls it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from serve_app.demo.training import clips, wan


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
