"""What a GGUF file says of cutting texts into words, where transformers passes over it.

The file names llama.cpp's program for it (`tokenizer.ggml.pre`). transformers knows some of the names and takes GPT-2's way for
the rest: a model would be trained on other tokens than it was made with, and than llama.cpp gives it afterwards.
Source: llama.cpp, `llm_tokenizer_bpe` in src/llama-vocab.cpp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.base_model.gguf_header import read_header

if TYPE_CHECKING:
    from pipeline.base_model.locate import BaseModel

# Each digit by itself, then as GPT-2 does; what counts as a digit includes ½ and ².
_DIGITS_APART = frozenset(("codeshell", "command-r", "exaone", "minerva-7b", "refact", "smollm", "starcoder"))


def digits_apart(base: BaseModel) -> bool:
    """Whether a GGUF file's tokenizer sets digits apart, which transformers does not read from it."""
    return base.kind == "gguf" and read_header(base.path).metadata.get("tokenizer.ggml.pre") in _DIGITS_APART


def set_digits_apart(tokenizer: Any) -> None:
    """Have a fast tokenizer of transformers cut as `digits_apart` means."""
    from tokenizers import pre_tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
