"""Write checkpoints of published shapes with random weights; tiny ones of the same layout for tests.

    python -m benchmarks.gpu.checkpoints KIND FOLDER [--tiny]

KIND is one of flux, flux2-klein, wan-1.3b, wan-14b, wan-ti2v, llada, sdar and diffusion-gemma. Name the folder as the
hub does: SGLang picks its native pipeline by that name. The text models are configuration and tokenizer alone (the
engine fills in weights with load_format "dummy"); `flux2-klein`, `wan-ti2v`, `sdar` and `diffusion-gemma` are there
tiny only.
"""

# diffusers types its constructors by their defaults, and a transformers configuration takes any keyword
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

BF16 = torch.bfloat16
TEXT_TINY = {"vocab_size": 128, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
T5_XXL = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
CODE = """from transformers import PretrainedConfig


class {name}(PretrainedConfig):
    model_type = "{model_type}"
"""
LLADA_END, LLADA_START = 156892, 156891
SDAR_START = 151643
"""The first special token, the end of a text; SGLang (0.5.23) has the number of <|MASK|> in its own code: 151669."""


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


def write_llada(folder: Path, *, tiny: bool) -> None:
    """LLaDA2.0-mini: 16 billion parameters in 256 experts, of which 8 take part."""
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "architectures": ["LLaDA2MoeModelLM"],
        "model_type": "llada2_moe",
        "auto_map": {"AutoConfig": "configuration_llada2_moe.LLaDA2MoeConfig"},
        "vocab_size": 157184,
        "hidden_size": 2048,
        "intermediate_size": 5120,
        "num_hidden_layers": 20,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "hidden_act": "silu",
        "use_qkv_bias": False,
        "use_bias": False,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "embedding_dropout": 0.0,
        "attention_dropout": 0.0,
        "output_dropout": 0.0,
        "max_position_embeddings": 32768,
        "rope_theta": 600000.0,
        "rope_scaling": None,
        "use_cache": True,
        "use_sliding_window": False,
        "norm_head": False,
        "use_qk_norm": True,
        "num_experts": 256,
        "num_shared_experts": 1,
        "num_experts_per_tok": 8,
        "n_group": 8,
        "topk_group": 4,
        "moe_intermediate_size": 512,
        "first_k_dense_replace": 1,
        "moe_shared_expert_intermediate_size": 512,
        "norm_topk_prob": True,
        "routed_scaling_factor": 2.5,
        "score_function": "sigmoid",
        "moe_router_enable_expert_bias": True,
        "router_dtype": "fp32",
        "partial_rotary_factor": 0.5,
        "rotary_dim": 64,
        "head_dim_": 128,
        "pad_token_id": LLADA_END,
        "eos_token_id": LLADA_END,
        "bos_token_id": LLADA_START,
        "torch_dtype": "bfloat16",
    }
    if tiny:
        config |= {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4}
        config |= {"num_key_value_heads": 2, "head_dim": 64, "rotary_dim": 32, "num_experts": 16, "n_group": 4}
        config |= {"topk_group": 2, "moe_intermediate_size": 128, "moe_shared_expert_intermediate_size": 128}
    (folder / "config.json").write_text(json.dumps(config))
    _write_code(folder, "LLaDA2MoeConfig", "llada2_moe")
    end = {"eos_token_id": LLADA_END, "pad_token_id": LLADA_END}
    (folder / "generation_config.json").write_text(json.dumps(end))
    named = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    _byte_tokenizer(folder, LLADA_START, named, ["<|r1|>", "<|r2|>", "<|mask|>"])


def write_sdar(folder: Path) -> None:
    """SDAR-1.7B-Chat's layout, small: Qwen3's, each block of 4 tokens seen from both sides."""
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "architectures": ["SDARForCausalLM"],
        "model_type": "sdar",
        "auto_map": {"AutoConfig": "configuration_sdar.SDARConfig"},
        "vocab_size": 151936,
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "max_position_embeddings": 32768,
        "rope_theta": 1000000,
        "rope_scaling": None,
        "use_cache": True,
        "use_sliding_window": False,
        "bos_token_id": SDAR_START,
        "eos_token_id": SDAR_START,
        "pad_token_id": SDAR_START,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    _write_code(folder, "SDARConfig", "sdar")
    end = {"eos_token_id": SDAR_START, "pad_token_id": SDAR_START}
    (folder / "generation_config.json").write_text(json.dumps(end))
    named = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    _byte_tokenizer(folder, SDAR_START, named, [*(f"<|r{i}|>" for i in range(25)), "<|MASK|>"])


def write_diffusion_gemma(folder: Path) -> None:
    """diffusiongemma-26B-A4B-it's layout, small, with its sizes of a head; pictures cannot be given to it.

    The special tokens come last: untrained logits may be alike, and the first of them must be a token with a text.
    """
    from transformers import (
        DiffusionGemmaConfig,
        DiffusionGemmaTextConfig,
        Gemma4AudioFeatureExtractor,
        Gemma4ImageProcessor,
        Gemma4Processor,
        Gemma4VideoProcessor,
        Gemma4VisionConfig,
        GemmaTokenizer,
        GenerationConfig,
    )

    pictures = {"boi_token": "<|image>", "image_token": "<|image|>", "eoi_token": "<image|>"}
    sounds = {"boa_token": "<|audio>", "audio_token": "<|audio|>", "eoa_token": "<audio|>"}
    letters = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?'-:"
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *pictures.values(), *sounds.values(), "<|video|>"]
    words = [*letters, *(f"t{place}" for place in range(len(letters), 4096 - len(special))), *special]
    places = {word: place for place, word in enumerate(words)}
    ends = {"pad_token_id": places["<pad>"], "eos_token_id": places["<eos>"], "bos_token_id": places["<bos>"]}
    vision: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 1, "head_dim": 64}
    text_config: Any = DiffusionGemmaTextConfig
    text = text_config(
        vocab_size=len(words),
        hidden_size=256,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=256,
        global_head_dim=512,
        num_global_key_value_heads=1,
        max_position_embeddings=32768,
        sliding_window=1024,
        layer_types=["sliding_attention", "full_attention"],
        num_experts=8,
        top_k_experts=2,
        moe_intermediate_size=128,
        **ends,
    )
    DiffusionGemmaConfig(
        architectures=["DiffusionGemmaForBlockDiffusion"],
        text_config=text,
        vision_config=Gemma4VisionConfig(**vision, num_attention_heads=2, num_key_value_heads=2),
        boi_token_id=places["<|image>"],
        image_token_id=places["<|image|>"],
        eoi_token_id=places["<image|>"],
        dtype="bfloat16",
        **ends,
    ).save_pretrained(folder)
    GenerationConfig(**ends).save_pretrained(folder)
    tokenizer = GemmaTokenizer(vocab=places, merges=[], extra_special_tokens=pictures | sounds)
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}{{ m['role'] }}: {{ m['content'] }} {% endfor %}model: "
    )
    Gemma4Processor(
        feature_extractor=Gemma4AudioFeatureExtractor(),
        image_processor=Gemma4ImageProcessor(),
        tokenizer=tokenizer,
        video_processor=Gemma4VideoProcessor(),
    ).save_pretrained(folder)


def _write_code(folder: Path, name: str, model_type: str) -> None:
    """The configuration's class, which published checkpoints bring along too."""
    (folder / f"configuration_{model_type}.py").write_text(CODE.format(name=name, model_type=model_type))


def _byte_tokenizer(folder: Path, start: int, named: dict[str, str], others: list[str]) -> None:
    """Bytes, then names without meaning up to the special tokens, which stand where the published ones do."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {byte: place for place, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocabulary |= {f"t{place}": place for place in range(len(vocabulary), start)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named, additional_special_tokens=others)
    wrapped.chat_template = (
        "{% for m in messages %}<role>{{ m['role'] }}</role>{{ m['content'] }}{% endfor %}<role>assistant</role>"
    )
    wrapped.save_pretrained(folder)


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
