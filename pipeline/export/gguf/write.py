"""A GGUF file of the model that base and adapter make: sizes, vocabulary, template, what ends an answer, licence, tensors."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf

from pipeline.base_model.gguf_families import GgufFamily, family_for, gguf_refusal
from pipeline.base_model.gguf_reader import read_once
from pipeline.base_model.locate import BaseModel
from pipeline.common.errors import BadInput
from pipeline.common.redact import redact
from pipeline.export.gguf.file import write_file
from pipeline.export.gguf.metadata import config_of, sizes_of_file, write_sizes
from pipeline.export.gguf.sources import Tensor, of_folder, of_gguf
from pipeline.export.merge.lora_weights import Adapter
from pipeline.export.merge.safetensors import Tally, Watch
from pipeline.tokenization.gguf_vocabulary import Vocabulary, gguf_vocabulary

if TYPE_CHECKING:
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

# They belong to the file they stand in, or are written anew.
_OF_THE_FILE = ("GGUF.", "general.architecture", "general.file_type", "general.quantization_version", "general.name", "split.")
_STOPS = ("eos", "eot", "eom")


@dataclass(frozen=True)
class Made:
    """What a file says of itself besides what base and adapter are.

    Attributes:
        name: of the model.
        licence: of its base; empty where it is not known.
    """

    name: str
    licence: str = ""


def write_gguf(
    path: Path, base: BaseModel, adapter: Adapter | None, tokenizer: ChatTokenizer, made: Made, kind: str, watch: Watch
) -> Tally:
    """Write the file at `path`, which is not there.

    Args:
        adapter: None for the base alone.
        kind: of `pipeline.export.gguf.file.KINDS`.
        watch: called with the bytes of each piece of a tensor; may raise.

    Raises:
        BadInput: no file of this base is written, the adapter belongs to another, or a number does not fit.
        OutOfMemory: there is no room for a few rows of a weight.
    """
    family, tally = family_for(base), Tally()
    refusal = gguf_refusal(base)
    if family is None or refusal:
        raise BadInput(f"{base.name}: no GGUF file is made of it: {refusal}", "take gguf out of export.formats")
    with ExitStack() as files:
        writer, tensors = (_from_gguf if base.kind == "gguf" else _from_folder)(base, adapter, family, tokenizer, tally, files)
        writer.add_name(redact(made.name))
        if made.licence:
            writer.add_license(made.licence)
        _write_stops(writer, tokenizer)
        # Before a prompt whose template writes none, llama.cpp would put one that was never trained.
        writer.add_add_bos_token(bool(tokenizer.bos_of_prompts))
        writer.add_chat_template(tokenizer.chat_template)
        write_file(path, writer, tensors, kind, watch)
    return tally


def _from_folder(
    base: BaseModel, adapter: Adapter | None, family: GgufFamily, tokenizer: ChatTokenizer, tally: Tally, files: ExitStack
) -> tuple[Any, list[Tensor]]:
    config = config_of(base)
    tensors = of_folder(base, adapter, family, config, tally, files)
    writer = gguf.GGUFWriter(None, family.architecture)
    writer.add_type("model")
    write_sizes(writer, family, config)
    rows = next(each.shape[0] for each in tensors if each.name == "token_embd.weight")
    _write_vocabulary(writer, gguf_vocabulary(tokenizer.document(), rows, base.name), tokenizer)
    return writer, tensors


def _write_vocabulary(writer: Any, vocabulary: Vocabulary, tokenizer: ChatTokenizer) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.cutting)
    writer.add_token_list(list(vocabulary.pieces))
    writer.add_token_types([int(kind) for kind in vocabulary.kinds])
    if vocabulary.merges:
        writer.add_token_merges(list(vocabulary.merges))
    if vocabulary.scores:
        writer.add_token_scores(list(vocabulary.scores))
        writer.add_add_space_prefix(vocabulary.space_in_front)
    named = tokenizer.named_ids()
    for name, add in (("bos", writer.add_bos_token_id), ("unk", writer.add_unk_token_id), ("pad", writer.add_pad_token_id)):
        if name in named:
            add(named[name])
    writer.add_add_eos_token(False)


def _write_stops(writer: Any, tokenizer: ChatTokenizer) -> None:
    """What ends an answer: llama.cpp has three places for it. The terminator of the template is always among them."""
    named = tokenizer.named_ids().get("eos")
    ends = [*sorted(tokenizer.terminator_ids), *sorted(tokenizer.stop_ids)]
    if named in tokenizer.stop_ids:
        ends.insert(0, named)
    add = {"eos": writer.add_eos_token_id, "eot": writer.add_eot_token_id, "eom": lambda each: writer.add_uint32(_EOM, each)}
    for place, number in zip(_STOPS, dict.fromkeys(ends), strict=False):
        add[place](int(number))


_EOM, _ADD_BOS = "tokenizer.ggml.eom_token_id", "tokenizer.ggml.add_bos_token"


def _from_gguf(
    base: BaseModel, adapter: Adapter | None, family: GgufFamily, tokenizer: ChatTokenizer, tally: Tally, files: ExitStack
) -> tuple[Any, list[Tensor]]:
    """Everything that the base's file says stays as it is said."""
    layers, head = sizes_of_file(base)
    tensors = of_gguf(base, adapter, family, layers, head, tally)
    writer = gguf.GGUFWriter(None, family.architecture)
    with read_once():
        fields = gguf.GGUFReader(str(base.path)).fields
    written_anew = [f"tokenizer.ggml.{name}_token_id" for name in _STOPS] + [_ADD_BOS, "general.license"]
    for key, field in fields.items():
        if not key.startswith((*_OF_THE_FILE, "tokenizer.chat_template")) and key not in written_anew:
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), field.types[0], sub_type=inner)
    return writer, tensors
