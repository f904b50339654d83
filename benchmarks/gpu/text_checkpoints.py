"""Text checkpoints of published shapes: configuration and tokenizer alone, for weights by load_format "dummy"."""

# a transformers configuration takes any keyword
# pyright: reportArgumentType=false
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CODE = """from transformers import PretrainedConfig


class {name}(PretrainedConfig):
    model_type = "{model_type}"
"""
LLADA_END, LLADA_START = 156892, 156891
SDAR_START = 151643
"""The first special token, the end of a text; SGLang (0.5.23) has the number of <|MASK|> in its own code: 151669."""


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
