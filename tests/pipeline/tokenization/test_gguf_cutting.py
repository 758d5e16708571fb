"""A GGUF file's tokenizer cuts texts as the file says, also where transformers does not read that."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from transformers.convert_slow_tokenizer import bytes_to_unicode

from pipeline.base_model.locate import BaseModel
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from pipeline.tokenization.fingerprint import tokenizer_fingerprint
from tests import tiny


def base_that_cuts(path: Path, name: str) -> BaseModel:
    """A vocabulary of bytes in which a space and the first byte of ½ are one piece, where they stand in one word."""
    writer = gguf.GGUFWriter(path, "llama")
    joined = "ĠÂ"  # as the bytes of a space and of 0xC2 are written
    pieces = [*bytes_to_unicode().values(), joined, "<|im_start|>", "<|im_end|>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_list(pieces)
    writer.add_token_types([1] * 257 + [3, 3])
    writer.add_token_merges(["Ġ Â"])
    writer.add_bos_token_id(257)
    writer.add_eos_token_id(258)
    writer.add_chat_template(tiny.CHATML)
    writer.add_tensor("token_embd.weight", np.zeros((len(pieces), 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return BaseModel(path, "gguf", name)


@pytest.mark.parametrize(("name", "joined"), [("smollm", False), ("starcoder", False), ("gpt-2", True)])
def test_a_fraction_is_a_digit_where_the_file_sets_digits_apart(tmp_path: Path, name: str, *, joined: bool) -> None:
    base = base_that_cuts(tmp_path / "m.gguf", name)
    ids = ChatTokenizer.load(base).encode_prompt([{"role": "user", "content": "a ½"}])
    assert (256 in ids) is joined
    digest = tokenizer_fingerprint(base)
    assert (digest == base.own_tokenizer_fingerprint()) is joined, "rows that were prepared with other tokens are made anew"
