"""The image model: its parts, how they are called in training, and how they are written as a pipeline."""

from __future__ import annotations

import copy
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from serve_app.demo.training.captions import CLIP_TOKENS, Encoder

LATENTS = 16
WIDTH, HEADS, DOUBLE, SINGLE = 192, 6, 1, 9
TEXT, POOLED = 192, 64
GATES = ("norm.linear", "norm1.linear", "norm1_context.linear", "norm_out.linear")


def make_autoencoder() -> Any:
    """1.2 million weights, without attention; latents of an eighth of the side."""
    config: dict[str, Any] = {
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (32, 32, 64, 96),
        "layers_per_block": 1,
        "latent_channels": LATENTS,
        "norm_num_groups": 8,
        "sample_size": 256,
        "scaling_factor": 1.0,
        "shift_factor": 0.0,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "mid_block_add_attention": False,
    }
    return AutoencoderKL(**config)


def read_autoencoder(folder: Path) -> Any:
    """A finished one, as `write_pipeline` leaves it in the folder vae."""
    model = make_autoencoder()
    model.load_state_dict(load_file(folder / "diffusion_pytorch_model.safetensors"))
    return model


class Text(nn.Module):
    """Both text encoders, called as the pipeline calls them: without a mask."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.t5: Any = T5EncoderModel(
            T5Config(
                vocab_size=(encoder.t5_vocabulary + 7) // 8 * 8,
                d_model=TEXT,
                d_kv=32,
                num_heads=6,
                d_ff=384,
                num_layers=2,
                feed_forward_proj="gated-gelu",
                dropout_rate=0.0,
            )
        )
        self.clip: Any = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=encoder.clip_vocabulary,
                hidden_size=POOLED,
                intermediate_size=192,
                num_attention_heads=2,
                num_hidden_layers=2,
                projection_dim=POOLED,
                max_position_embeddings=CLIP_TOKENS,
                bos_token_id=encoder.clip_end - 1,
                eos_token_id=encoder.clip_end,
                pad_token_id=encoder.clip_end,
            )
        )

    def forward(self, t5: Tensor, clip: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T5_TOKENS, TEXT) and (B, POOLED)."""
        return self.t5(input_ids=t5)[0], self.clip(input_ids=clip).pooler_output


def make_transformer() -> Any:
    """8 million weights that begin as a transformer that says nothing."""
    head = WIDTH // HEADS
    axes = (head // 8, head * 7 // 16, head * 7 // 16)
    model: Any = FluxTransformer2DModel(
        patch_size=1,
        in_channels=LATENTS * 4,
        num_layers=DOUBLE,
        num_single_layers=SINGLE,
        attention_head_dim=head,
        num_attention_heads=HEADS,
        joint_attention_dim=TEXT,
        pooled_projection_dim=POOLED,
        axes_dims_rope=axes,
        guidance_embeds=True,
    )
    for name, param in model.named_parameters():
        if param.ndim == 2:
            nn.init.xavier_uniform_(param)
        elif name.endswith("bias"):
            nn.init.zeros_(param)
    for name, module in model.named_modules():  # the gates begin closed, and the output at zero
        if name == "proj_out" or name.endswith(GATES):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    embed = model.time_text_embed
    for part in (embed.timestep_embedder, embed.guidance_embedder, embed.text_embedder):
        nn.init.normal_(part.linear_1.weight, std=0.02)
        nn.init.normal_(part.linear_2.weight, std=0.02)
    return model


def velocity(model: Any, x: Tensor, t: Tensor, guidance: Tensor, words: Tensor, pooled: Tensor) -> Tensor:
    """What FluxTransformer2DModel.forward does, but for the time and the guidance, which keep all their digits."""
    embed = model.time_text_embed
    tokens = model.x_embedder(x)
    pooled = embed.text_embedder(pooled)
    with torch.autocast(x.device.type, enabled=False):
        times = embed.timestep_embedder(embed.time_proj(t.float() * 1000))
        times = times + embed.guidance_embedder(embed.time_proj(guidance.float() * 1000))
    condition = times + pooled
    context = model.context_embedder(words)
    side = math.isqrt(x.shape[1])
    rotary = model.pos_embed(torch.cat([torch.zeros(words.shape[1], 3, device=x.device), image_ids(side, x.device)]))
    for block in model.transformer_blocks:
        context, tokens = block(
            hidden_states=tokens, encoder_hidden_states=context, temb=condition, image_rotary_emb=rotary
        )
    for block in model.single_transformer_blocks:
        context, tokens = block(
            hidden_states=tokens, encoder_hidden_states=context, temb=condition, image_rotary_emb=rotary
        )
    return model.proj_out(model.norm_out(tokens, condition)).float()


def image_ids(side: int, device: torch.device) -> Tensor:
    """(side * side, 3): 0, row and column of each place."""
    rows = torch.arange(side, device=device, dtype=torch.float32)
    ids = torch.zeros(side, side, 3, device=device)
    ids[..., 1] += rows[:, None]
    ids[..., 2] += rows[None]
    return ids.view(-1, 3)


def pack(latents: Tensor) -> Tensor:
    """(B, 16, H, W) to (B, H/2 * W/2, 64)."""
    count, channels, height, width = latents.shape
    patches = latents.reshape(count, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(count, height // 2 * (width // 2), channels * 4)


def unpack(tokens: Tensor) -> Tensor:
    """The inverse of `pack`, for squares."""
    count, places, channels = tokens.shape
    half = math.isqrt(places)
    patches = tokens.view(count, half, half, channels // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(count, channels // 4, 2 * half, 2 * half)


def shift_times(times: Tensor, places: int) -> Tensor:
    """The pipeline's dynamic shift: more noise for larger pictures."""
    strength = math.exp(0.5 + (places - 256) * (1.15 - 0.5) / (4096 - 256))
    return strength / (strength + (1 / times - 1))


def make_scheduler() -> Any:
    """FLUX's own, whose shift of times `shift_times` repeats."""
    return FlowMatchEulerDiscreteScheduler(
        base_image_seq_len=256,
        base_shift=0.5,
        max_image_seq_len=4096,
        max_shift=1.15,
        shift=3.0,
        use_dynamic_shifting=True,
    )


@torch.no_grad()
def draw(
    model: Any,
    text: Text,
    autoencoder: Any,
    encoder: Encoder,
    prompts: Sequence[str],
    side: int,
    steps: int = 8,
    guidance: float = 3.5,
    scale: float = 0.0,
) -> Tensor:
    """(N, 3, side, side) of -1 to 1; with classifier-free guidance where there is a `scale`."""
    device = next(text.parameters()).device
    count, places = len(prompts), (side // 16) ** 2
    times = shift_times(torch.linspace(1, 1 / steps, steps), places).tolist()
    lot = torch.Generator().manual_seed(0)
    x = pack(torch.randn(count, LATENTS, side // 8, side // 8, generator=lot)).to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        words, pooled = text(*to_tokens(encoder, prompts, device))
        no_words, no_pooled = text(*to_tokens(encoder, [""], device))
        no_words, no_pooled = no_words.expand(count, -1, -1), no_pooled.expand(count, -1)
        guide = torch.full((count,), guidance, device=device)
        for now, after in zip(times, [*times[1:], 0.0], strict=True):
            t = torch.full((count,), now, device=device)
            step = velocity(model, x, t, guide, words, pooled)
            if scale:
                plain = velocity(model, x, t, guide, no_words, no_pooled)
                step = plain + scale * (step - plain)
            x = x + (after - now) * step
        return autoencoder.decoder(unpack(x)).float()


def to_tokens(encoder: Encoder, prompts: Sequence[str], device: torch.device) -> tuple[Tensor, Tensor]:
    """T5's and CLIP's tokens."""
    t5, clip = encoder.encode(prompts)
    return torch.from_numpy(t5).long().to(device), torch.from_numpy(clip).long().to(device)


def write_pipeline(folder: Path, tokenizers: Path, autoencoder: Any, text: Text, model: Any) -> None:
    """The pipeline's folder in half precision, as diffusers lays it out."""
    shutil.rmtree(folder, ignore_errors=True)
    parts = {"vae": autoencoder, "text_encoder": text.clip, "text_encoder_2": text.t5}
    for name, part in parts.items():
        copy.deepcopy(part).to("cpu", torch.float16).to(memory_format=torch.contiguous_format).save_pretrained(
            folder / name
        )
    transformer = make_transformer()  # the one in training may be compiled
    transformer.load_state_dict({name: weight.cpu() for name, weight in model.state_dict().items()})
    transformer.to(torch.float16).save_pretrained(folder / "transformer")
    make_scheduler().save_pretrained(folder / "scheduler")
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copytree(tokenizers / name, folder / name)
    index = {
        "_class_name": "FluxPipeline",
        "_diffusers_version": "0.42.1",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "T5Tokenizer"],
        "transformer": ["diffusers", "FluxTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def read_pipeline(folder: Path, encoder: Encoder) -> tuple[Any, Text, Any]:
    """Autoencoder, text encoders and transformer, in full precision."""
    text = Text(encoder)
    text.t5 = T5EncoderModel.from_pretrained(folder / "text_encoder_2", dtype=torch.float32)
    text.clip = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    autoencoder = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    return autoencoder, text, FluxTransformer2DModel.from_pretrained(folder / "transformer", torch_dtype=torch.float32)


def average_pool(images: Tensor) -> Tensor:
    """Half the side; four of them make one picture of the old side again. The count must be a multiple of 4."""
    small = F.avg_pool2d(images, 2)
    rows = torch.cat([small[0::2], small[1::2]], dim=3)
    return torch.cat([rows[0::2], rows[1::2]], dim=2)
