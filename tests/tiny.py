"""Tiny models and tokenizers with random weights, made in seconds, for tests that need the real libraries on real files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# Zephyr's template as TinyLlama-1.1B-Chat-v1.0 ships it.
ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_TEXT = [
    "Overfitting is when a model learns the training examples by heart and then does badly on anything new.",
    "My parcel says delivered but I have nothing. I am sorry, let us look at the photo in the delivery notice first.",
    "The capital of France is Paris. Water boils at one hundred degrees. user assistant system 0 1 2 3 4 5 6 7 8 9",
]


def save_tokenizer(folder: Path, *, template: str = ZEPHYR, llama: bool = True) -> None:
    """A small BPE tokenizer with pad == eos, saved to `folder`.

    Args:
        llama: words marked as Llama-2's tokenizer marks them, with bytes as a fallback; else GPT-2's byte level.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    specials = ["<unk>", "<s>", "</s>"] if llama else ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    if llama:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        pieces = [f"<0x{byte:02X}>" for byte in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=640, special_tokens=[*specials, *pieces], show_progress=False)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=640, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        )
    tokenizer.train_from_iterator(_TEXT, trainer)
    tokenizer = _with_specials(tokenizer, specials)
    eos = "</s>" if llama else "<|im_end|>"
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>" if llama else "<|endoftext|>",
        eos_token=eos,
        pad_token=eos,
        unk_token="<unk>" if llama else None,
        additional_special_tokens=[] if llama else ["<|im_start|>"],
    )
    fast.chat_template = template
    fast.save_pretrained(folder)


def _with_specials(tokenizer: Any, specials: list[str]) -> Any:
    """The tokenizer with only these as special tokens: the trainer makes the byte pieces special, real Llamas don't."""
    from tokenizers import Tokenizer

    document = json.loads(tokenizer.to_str())
    document["added_tokens"] = [token for token in document["added_tokens"] if token["content"] in specials]
    return Tokenizer.from_str(json.dumps(document))


def save_model(folder: Path, *, template: str = ZEPHYR, llama: bool = True, seed: int = 0, **shape: int) -> Path:
    """A two-layer Llama of random weights (about 0.2 M parameters) with its tokenizer, as a Hugging Face folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(folder, template=template, llama=llama)
    sizes = {
        "vocab_size": 640, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 2048,
    }  # fmt: skip
    config = LlamaConfig(**(sizes | shape), bos_token_id=1, eos_token_id=2, pad_token_id=2, tie_word_embeddings=False)
    torch.manual_seed(seed)
    LlamaForCausalLM(config).save_pretrained(folder, safe_serialization=True)
    return folder


def save_gguf(model: Path, path: Path, kind: str = "F32") -> Path:
    """The weights of a `save_model` folder as a GGUF file, named and permuted as llama.cpp does.

    Args:
        kind: how the matrices are held, by the name of a `gguf.GGMLQuantizationType`.
    """
    import gguf
    from safetensors.torch import load_file

    config = json.loads((model / "config.json").read_text())
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(config["vocab_size"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    held = gguf.GGMLQuantizationType[kind]
    for name, tensor in load_file(model / "model.safetensors").items():
        array = tensor.float().numpy()
        if "q_proj" in name or "k_proj" in name:
            array = _interleaved(array, heads if "q_proj" in name else kv_heads)
        as_is = array.ndim == 1 or kind == "F32"
        data = array if as_is else gguf.quantize(array, held)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), data, raw_dtype=None if as_is else held)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _interleaved(weights: Any, heads: int) -> Any:
    """Rotary halves as llama.cpp stores them (convert_hf_to_gguf.py, LlamaModel.permute)."""
    rows = weights.shape[0] // heads // 2
    return weights.reshape(heads, 2, rows, weights.shape[1]).swapaxes(1, 2).reshape(weights.shape).copy()
