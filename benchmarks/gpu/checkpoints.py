"""Write checkpoints of published shapes with random weights; tiny ones of the same layout for tests.

    python -m benchmarks.gpu.checkpoints KIND FOLDER [--tiny]

KIND is one of flux, flux2-klein, wan-1.3b, wan-14b, wan-ti2v, llada, sdar and diffusion-gemma. Name the folder as the
hub does: SGLang picks its native pipeline by that name. `flux2-klein`, `wan-ti2v`, `sdar` and `diffusion-gemma` are
there tiny only. Those of text are in text_checkpoints.py.
"""

# diffusers types its constructors by their defaults, and a transformers configuration takes any keyword
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.text_checkpoints import write_diffusion_gemma, write_llada, write_sdar

BF16 = torch.bfloat16
TEXT_TINY = {"vocab_size": 128, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
T5_XXL = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}


def random_model(cls: Any, config: Any, device: str, *, from_config: bool = False) -> Any:
    """A model made on `device` without ever holding its weights elsewhere."""
    torch.manual_seed(0)
    with torch.device("meta"):
        model = cls.from_config(config) if from_config else cls(config)
    model = model.to(BF16).to_empty(device=device)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim >= 2:
                weight.normal_(0, 0.02)
            else:
                weight.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
        for name, buffer in model.named_buffers():
            if "position_ids" in name:
                buffer.copy_(torch.arange(buffer.shape[-1], device=device).expand_as(buffer))
    return model.eval()


def write_flux(folder: Path, device: str, *, tiny: bool) -> None:
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    clip = {"vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "projection_dim": 768}
    clip |= {"num_attention_heads": 12, "num_hidden_layers": 12, "bos_token_id": 512, "eos_token_id": 513}
    t5 = T5_XXL | {"vocab_size": 32128}
    dit: dict[str, Any] = {"num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128}
    dit |= {"num_attention_heads": 24, "joint_attention_dim": 4096, "pooled_projection_dim": 768}
    axes, blocks, groups, layers = (16, 56, 56), (128, 256, 512, 512), 32, 2
    if tiny:
        clip |= {"vocab_size": 514, "hidden_size": 32, "intermediate_size": 64, "projection_dim": 32}
        clip |= {"num_attention_heads": 4, "num_hidden_layers": 2}
        t5 = TEXT_TINY
        dit = {"num_layers": 1, "num_single_layers": 1, "attention_head_dim": 64}
        dit |= {"num_attention_heads": 2, "joint_attention_dim": 32, "pooled_projection_dim": 32}
        axes, blocks, groups, layers = (8, 28, 28), (8, 8, 8, 8), 1, 1
    dit |= {"patch_size": 1, "in_channels": 64, "guidance_embeds": True, "axes_dims_rope": axes}
    vae = AutoencoderKL(
        sample_size=1024,
        block_out_channels=blocks,
        layers_per_block=layers,
        latent_channels=16,
        norm_num_groups=groups,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.1159,
        scaling_factor=0.3611,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae.to(device, BF16),
        text_encoder=random_model(CLIPTextModel, CLIPTextConfig(**clip), device),
        tokenizer=_clip_tokenizer(folder.parent / f"{folder.name}-clip"),
        text_encoder_2=random_model(T5EncoderModel, T5Config(**t5, feed_forward_proj="gated-gelu"), device),
        tokenizer_2=_t5_tokenizer(),
        transformer=random_model(FluxTransformer2DModel, dit, device, from_config=True),
    ).save_pretrained(folder, max_shard_size="10GB")


def write_flux2_klein(folder: Path, device: str) -> None:
    """FLUX.2-klein-4B's layout and sizes of heads and latents: its text is layers 9, 18 and 27 of the encoder."""
    from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline
    from diffusers import Flux2Transformer2DModel as Transformer
    from transformers import Qwen3Config, Qwen3ForCausalLM

    hidden = 256
    tokenizer = _qwen_tokenizer()
    encoder: dict[str, Any] = {"vocab_size": len(tokenizer), "hidden_size": hidden, "intermediate_size": 2 * hidden}
    encoder |= {"num_hidden_layers": 28, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 128}
    encoder |= {"tie_word_embeddings": True, "max_position_embeddings": 40960, "rope_theta": 1e6}
    dit: dict[str, Any] = {"in_channels": 128, "num_layers": 1, "num_single_layers": 2, "attention_head_dim": 128}
    dit |= {"num_attention_heads": 2, "joint_attention_dim": 3 * hidden, "axes_dims_rope": (32, 32, 32, 32)}
    dit |= {"patch_size": 1, "guidance_embeds": False}
    torch.manual_seed(0)
    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        latent_channels=32,
        norm_num_groups=1,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae.to(device, BF16),
        text_encoder=Qwen3ForCausalLM(Qwen3Config(**encoder)).to(device, BF16),
        tokenizer=tokenizer,
        transformer=random_model(Transformer, dit, device, from_config=True),
        is_distilled=True,
    ).save_pretrained(folder)


def write_wan(folder: Path, device: str, *, size: str, tiny: bool) -> None:
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    t5 = T5_XXL | {"vocab_size": 256384}
    dit: dict[str, Any] = {"text_dim": 4096, "attention_head_dim": 128, "in_channels": 16, "out_channels": 16}
    dit |= {
        "1.3b": {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
        "14b": {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40},
        "ti2v": {},
    }[size]
    vae: dict[str, Any] = {}
    if tiny:
        t5 = TEXT_TINY
        dit |= {"text_dim": 32, "attention_head_dim": 64, "num_attention_heads": 2, "ffn_dim": 64, "num_layers": 2}
        vae = {"base_dim": 8, "z_dim": 16, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
    if size == "ti2v":
        # the 5B model's layout: 48 latent channels, each latent pixel 16x16, the first frame given as a clean latent
        dit |= {"in_channels": 48, "out_channels": 48}
        vae = {"base_dim": 16, "decoder_base_dim": 16, "z_dim": 48, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2}
        vae |= {"temperal_downsample": [False, True, True], "is_residual": True, "in_channels": 12, "out_channels": 12}
        vae |= {"patch_size": 2, "scale_factor_spatial": 16, "latents_mean": [0.0] * 48, "latents_std": [1.0] * 48}
    dit |= {"patch_size": (1, 2, 2), "freq_dim": 256, "cross_attn_norm": True, "qk_norm": "rms_norm_across_heads"}
    WanPipeline(
        tokenizer=_t5_tokenizer(),
        text_encoder=random_model(UMT5EncoderModel, UMT5Config(**t5, feed_forward_proj="gated-gelu"), device),
        vae=AutoencoderKLWan(**vae).to(device),
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        transformer=random_model(WanTransformer3DModel, dit, device, from_config=True),
        expand_timesteps=size == "ti2v",
    ).save_pretrained(folder, max_shard_size="10GB")


def _clip_tokenizer(folder: Path) -> Any:
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]
    tokens = letters + [f"{letter}</w>" for letter in letters] + ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: place for place, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(str(folder), model_max_length=77)


def _qwen_tokenizer() -> Any:
    """Qwen's tokenizer without merges: one token a byte, and the marks of its chats."""
    from tokenizers import pre_tokenizers
    from transformers import Qwen2TokenizerFast

    vocabulary = {byte: place for place, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Qwen2TokenizerFast(vocab=vocabulary | {"<|endoftext|>": 256}, merges=[], model_max_length=512)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return tokenizer


def _t5_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import T5TokenizerFast

    letters = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?'-"
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -5.0) for letter in letters)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return T5TokenizerFast(tokenizer_object=tokenizer, model_max_length=512, extra_ids=0, **special)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = ["flux", "flux2-klein", "wan-1.3b", "wan-14b", "wan-ti2v", "llada", "sdar", "diffusion-gemma"]
    parser.add_argument("kind", choices=kinds)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.kind == "flux":
        write_flux(args.folder, device, tiny=args.tiny)
    elif args.kind == "flux2-klein":
        write_flux2_klein(args.folder, device)
    elif args.kind == "llada":
        write_llada(args.folder, tiny=args.tiny)
    elif args.kind == "sdar":
        write_sdar(args.folder)
    elif args.kind == "diffusion-gemma":
        write_diffusion_gemma(args.folder)
    else:
        size = args.kind.removeprefix("wan-")
        write_wan(args.folder, device, size=size, tiny=args.tiny or size == "ti2v")
    print("wrote", args.folder)


if __name__ == "__main__":
    main()
