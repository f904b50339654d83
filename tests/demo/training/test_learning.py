"""Steps of the image training, at a size for a CPU."""

from __future__ import annotations

import copy
import io
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from serve_app.demo.training import flux
from serve_app.demo.training.adapter import adapt, write_adapter
from serve_app.demo.training.autoencoding import AutoencoderPhase, measure_psnr
from serve_app.demo.training.captions import CLIP_TOKENS, T5_TOKENS, Encoder, write_tokenizers
from serve_app.demo.training.denoising import add_noise, guide
from serve_app.demo.training.feed import CROWDED, Batch, make_batch
from serve_app.demo.training.image import read_arguments
from serve_app.demo.training.muon import make_optimizers, set_rate
from serve_app.demo.training.optimize import Clock, step_together
from serve_app.demo.training.scenes import Maker
from serve_app.demo.training.session import FINISHED, Session
from serve_app.engines.load import load
from serve_app.model_settings import AdapterSettings, ImageDefaults, ImageSettings
from serve_app.tasks import Adapter, ImageTask


class Lot:
    """Batches of four scenes, made when they are asked for; all things in them look the same."""

    def __init__(self, data: Path) -> None:
        self._maker, self._encoder, self._crowded = Maker(1), Encoder(data), False

    def set_ease(self, ease: float) -> None:
        self._crowded = ease == CROWDED

    def get(self) -> Batch:
        batch = make_batch(self._maker, self._encoder, 4, self._crowded)
        batch.objects[..., 0] = np.minimum(batch.objects[..., 0], 0)
        return batch

    def empty(self) -> None:
        pass


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokenizers of few captions, and one grey sprite."""
    folder = tmp_path_factory.mktemp("data")
    write_tokenizers(None, folder, count=200)
    packed = io.BytesIO()
    Image.new("RGBA", (256, 256), (128, 128, 128, 255)).save(packed, "WEBP")
    blob = np.frombuffer(packed.getvalue(), np.uint8)
    np.savez(folder / "sprites.npz", blob=blob, off=np.array([0, len(blob)]))
    return folder


def begin(data: Path, out: Path, *words: str) -> Session:
    arguments = read_arguments(["--tiny", "--data", str(data), "--out", str(out), *words])
    return Session(arguments, Lot(data), torch.device("cpu"))


@pytest.fixture(scope="module")
def session(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """One that trains an autoencoder of its own."""
    return begin(data, tmp_path_factory.mktemp("out"), "--autoencoder", "")


def test_captions_become_as_many_tokens_as_the_pipeline_takes(data: Path) -> None:
    encoder = Encoder(data)
    t5, clip = encoder.encode(["a cat", "a dog " * 60])
    assert (t5.shape, clip.shape) == ((2, T5_TOKENS), (2, CLIP_TOKENS))
    assert t5[0, -1] == 0
    assert t5[1, -1] == 1
    assert clip[0, -1] == clip[1, -1] == encoder.clip_end


def test_a_finished_autoencoder_is_the_pipelines_byte_by_byte(data: Path, tmp_path: Path) -> None:
    session = begin(data, tmp_path)
    assert session.phase == "transformer"
    flux.write_pipeline(tmp_path / "pipeline", data, session.autoencoder, session.text, session.model)
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        assert (tmp_path / "pipeline" / "vae" / name).read_bytes() == (FINISHED / "image" / name).read_bytes()


@torch.no_grad()
def test_the_finished_autoencoder_gives_pictures_back(session: Session) -> None:
    batch = session.feed.get()
    images = session.renderer.paint(batch.backgrounds[:2], batch.objects[:2], 128)
    model = flux.read_autoencoder(FINISHED / "image")
    assert measure_psnr(model.decoder(model.encoder(images)[:, : flux.LATENTS]), images) > 30


def test_without_one_it_begins_with_the_autoencoder(session: Session) -> None:
    assert session.phase == "autoencoder"


def test_the_autoencoder_learns_and_then_only_its_decoder(session: Session) -> None:
    session.feed.set_ease(CROWDED)
    phase = AutoencoderPhase(session)
    model = session.autoencoder
    for kept in (False, True):
        phase.kept = kept
        optimizers = [phase.make_optimizer()]
        before = [part.conv_in.weight.detach().clone() for part in (model.encoder, model.decoder)]
        loss, decoded, images, _ = phase.compare_some(model.encoder, model.decoder)
        assert decoded.shape == images.shape
        loss.backward()
        step_together([weight for weight in model.parameters() if weight.requires_grad], optimizers)
        assert torch.equal(model.encoder.conv_in.weight, before[0]) == kept
        assert not torch.equal(model.decoder.conv_in.weight, before[1])


def test_a_step_changes_all_that_decides_about_the_picture(session: Session) -> None:
    text, model = session.text, session.model
    with torch.no_grad():  # the output begins at zero, and passes no gradient on
        model.proj_out.weight.normal_(std=0.02)
        model.norm_out.linear.weight.normal_(std=0.02)
    optimizers = make_optimizers([text, model], 2e-3)
    set_rate(optimizers, 0.5)
    gates = model.single_transformer_blocks[0].norm.linear
    watched = [model.proj_out.weight, model.x_embedder.weight, gates.weight]
    before = [weight.detach().clone() for weight in watched]
    t, noised, target = add_noise(torch.randn(2, 16, 64))
    tokens = flux.to_tokens(session.encoder, ["a cat", "a dog"], session.device)
    loss = (flux.velocity(model, noised, t, torch.full((2,), 3.5), *text(*tokens)) - target).square().mean()
    loss.backward()
    assert torch.isfinite(step_together([*text.parameters(), *model.parameters()], optimizers))
    assert not any(torch.equal(weight, old) for weight, old in zip(watched, before, strict=True))
    assert all(group["lr"] == group["peak"] / 2 for optimizer in optimizers for group in optimizer.param_groups)


def test_what_is_trained_is_what_the_pipeline_calls(session: Session) -> None:
    with torch.no_grad():
        words, pooled = session.text(*flux.to_tokens(session.encoder, ["a dog"], session.device))
        x, t, guidance = torch.randn(1, 16, 64), torch.tensor([0.5]), torch.tensor([3.0])
        ours = flux.velocity(session.model, x, t, guidance, words, pooled)
        places = flux.image_ids(4, session.device)
        theirs = session.model(x, words, pooled, t, places, torch.zeros(words.shape[1], 3), guidance).sample
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_guidance_of_one_is_the_prompt_alone(session: Session) -> None:
    with torch.no_grad():
        asked = session.text(*flux.to_tokens(session.encoder, ["a dog", "a cat"], session.device))
        nothing = session.text(*flux.to_tokens(session.encoder, [""], session.device))
        x, t, one = torch.randn(2, 16, 64), torch.tensor([0.5, 0.6]), torch.ones(2)
        guided = guide(session.model, x, t, one, asked, nothing)
        assert torch.allclose(guided, flux.velocity(session.model, x, t, one, *asked), atol=1e-5)


def test_latents_are_packed_as_the_pipeline_packs_them() -> None:
    from diffusers import FluxPipeline

    latents = torch.randn(2, 16, 8, 8)
    assert torch.equal(flux.pack(latents), FluxPipeline._pack_latents(latents, 2, 16, 8, 8))  # pyright: ignore[reportPrivateUsage]
    assert torch.equal(flux.unpack(flux.pack(latents)), latents)


def test_another_session_goes_on_from_the_state(session: Session) -> None:
    session.step, session.seen = 7, 21
    session.write_state("transformer", 0.4, [])
    again = Session(session.arguments, session.feed, session.device)
    assert (again.step, again.seen) == (7, 21)
    assert again.start_clock("transformer", []).done == 0.4
    assert again.start_clock("guidance", []).done == 0
    assert torch.equal(again.model.proj_out.weight, session.model.proj_out.weight)


def test_the_pipeline_is_written_in_halves(session: Session) -> None:
    session.export("now", scale=0.0)
    out = session.arguments.out
    autoencoder, text, model = flux.read_pipeline(out / "pipeline", session.encoder)
    assert torch.equal(model.proj_out.weight, session.model.proj_out.weight.half().float())
    assert torch.equal(text.t5.shared.weight, session.text.t5.shared.weight.half().float())
    assert torch.equal(autoencoder.decoder.conv_in.weight, session.autoencoder.decoder.conv_in.weight.half().float())
    assert sum(file.stat().st_size for file in (out / "pipeline").rglob("*") if file.is_file()) < 20e6
    assert {"pipeline.tgz.0", "sheet.png", "train.log"} <= {file.name for file in out.iterdir()}


async def test_an_adapter_is_written_as_the_engine_loads_it(session: Session, data: Path, tmp_path: Path) -> None:
    model, file = copy.deepcopy(session.model), tmp_path / "pixel-art.safetensors"
    with torch.no_grad():  # the output begins at zero, the gates of the blocks closed
        model.proj_out.weight.normal_(std=0.1)
        for name, module in model.named_modules():
            if name.endswith(flux.GATES):
                module.bias.normal_(std=0.5)
    flux.write_pipeline(tmp_path / "pipeline", data, session.autoencoder, session.text, model)
    adapters = adapt(model)
    with torch.no_grad():
        for adapter in adapters.values():
            adapter.lora_B.weight.normal_()
    write_adapter(adapters, file)
    assert file.stat().st_size < 1e6
    settings = ImageSettings(
        model=str(tmp_path / "pipeline"),
        served_name="tiny",
        defaults=ImageDefaults(width=64, height=64),
        adapters={"pixel-art": AdapterSettings(path=str(file))},
    )
    task = ImageTask(
        id="i", model="tiny", prompt="a dog", width=64, height=64, num_inference_steps=2, guidance_scale=3.5, seed=1
    )
    engine = load(settings)
    plain = await engine.generate(task, lambda _: None)
    adapted = await engine.generate(replace(task, adapters=(Adapter(name="pixel-art", scale=1.0),)), lambda _: None)
    engine.close()
    assert not np.array_equal(plain.pixels[0], adapted.pixels[0])


def test_the_time_left_is_shared_by_the_phases_left() -> None:
    device, minute = torch.device("cpu"), 60.0
    ends = time.monotonic() + minute
    last = Clock(0.0, 0.2, 0.0, ends, device)
    first = Clock(0.5, 0.4, 0.2, ends, device)
    for clock, done in ((last, 0.0), (first, 0.5)):
        clock.tick(save_s=minute)
        assert clock.done == pytest.approx(done, abs=0.02)
        assert not clock.save_due
    late = Clock(0.5, 0.4, 0.2, time.monotonic() - 1, device)
    late.tick(save_s=-1)
    assert (late.done, late.save_due) == (1.0, True)
