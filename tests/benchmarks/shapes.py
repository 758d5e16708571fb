"""Models with the shapes of real ones and random weights, and conversations of real lengths: what the speed benchmarks run on.

Speed and memory do not depend on the values of weights or words.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

SHAPES = {
    "tinyllama-1.1b": {
        "vocab_size": 32_000, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
        "num_attention_heads": 32, "num_key_value_heads": 4,
    },
    "smollm2-135m": {
        "vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3,
    },
    "small": {  # what a processor alone trains in seconds
        "vocab_size": 8_000, "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6,
        "num_attention_heads": 8, "num_key_value_heads": 4,
    },
}  # fmt: skip
_TEMPLATE = (
    "{% for message in messages %}{{ '<' + message['role'] + '> ' + message['content'] + ' </s> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant> ' }}{% endif %}"
)
_SPECIAL = ["<unk>", "<s>", "</s>", "<user>", "<assistant>", "<system>"]


def save_model(folder: Path, shape: str) -> Path:
    """Weights in bfloat16, made on the GPU where there is one, and a tokenizer in which every word is a token."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = SHAPES[shape]
    config = LlamaConfig(
        **sizes, max_position_embeddings=2048, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, pad_token_id=2,
        tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    save_tokenizer(folder, sizes["vocab_size"])
    return folder


def save_tokenizer(folder: Path, vocabulary: int) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*_SPECIAL, *(f"w{i}" for i in range(len(_SPECIAL), vocabulary))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>", unk_token="<unk>",
        additional_special_tokens=_SPECIAL[3:],
    )  # fmt: skip
    fast.chat_template = _TEMPLATE
    fast.save_pretrained(folder)


def save_conversations(path: Path, count: int, vocabulary: int, longest: int = 1024) -> None:
    """One question and one answer each, of log-normal length: median about 220 tokens, none cut."""
    lengths, words = random.Random(1), random.Random(2)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            tokens = max(16, min(longest, int(lengths.lognormvariate(5.4, 0.9))))
            question, answer = (
                " ".join(f"w{words.randrange(len(_SPECIAL), vocabulary)}" for _ in range(size)) for size in (4, tokens - 8)
            )
            messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": messages}) + "\n")
