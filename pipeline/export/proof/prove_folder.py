"""A model's folder proved: transformers opens it as it is, with the same prompts, log-probabilities and stops."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.base_model.stop_tokens import stop_ids_in
from pipeline.common.text import size
from pipeline.export.package import Package
from pipeline.export.proof.proof import Limits, NotProved, Proof, compared, require
from pipeline.export.proof.prove_gguf import conversations, prompts, rows_of
from pipeline.export.proof.reference import expected, log_probabilities
from pipeline.system.gpu import choose_device
from pipeline.system.host import read_host

if TYPE_CHECKING:
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

_BESIDE_WEIGHTS = 2 << 30  # what the libraries take, and what a layer is computed in


def prove_folder(
    folder: Path, package: Package, tokenizer: ChatTokenizer, limits: Limits, what: str, program: Sequence[str], weights: int
) -> Proof:
    """What transformers makes of the folder.

    Args:
        what: a person calls the export.
        program: distributions that open it.
        weights: bytes of the loaded weights.

    Returns:
        The proof; one that says why there is none, where there is no memory.

    Raises:
        NotProved: it is not opened, or what it computes is another model.
    """
    needed, free = weights + _BESIDE_WEIGHTS, read_host().memory_available_bytes
    if needed > free:
        return Proof(reason=f"opening it would need about {size(needed)} of memory, {size(free)} were free; export it again")
    same = _same_prompts(folder, tokenizer, what)
    if stop_ids_in(folder) != tokenizer.stop_ids:
        raise NotProved(f"{what}: its files name other tokens that end an answer than were trained", "it is not packaged")
    rows = rows_of(package, tokenizer)
    there = expected(package, rows.rows)
    try:
        here = log_probabilities(_opened(folder, package), rows.rows)
    except Exception as error:  # of whatever library opens it: its words are what a person needs
        reason = (str(error).splitlines() or [""])[0][:300] or type(error).__name__
        raise NotProved(f"{what}: transformers could not open it: {reason}", "it is not packaged; the adapter is") from error
    opened_by = ", ".join(f"{name} {version(name)}" for name in program)
    return require(what, Proof(program=opened_by, prompts=same, of=rows.of, **compared(here, there)), limits)


def _opened(folder: Path, package: Package) -> Any:
    from transformers import AutoModelForCausalLM

    device = choose_device(package.config.compute.gpu)
    return AutoModelForCausalLM.from_pretrained(
        str(folder), local_files_only=True, trust_remote_code=False, dtype="auto", device_map={"": device.torch_device}
    )


def _same_prompts(folder: Path, tokenizer: ChatTokenizer, what: str) -> int:
    """How many conversations become the same ids by the folder's own tokenizer."""
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

    own, asked = ChatTokenizer.from_folder(folder, what), prompts(tokenizer, conversations())
    if any(own.encode_prompt(messages) != ids for messages, ids in asked):
        raise NotProved(f"{what}: its tokenizer makes another prompt of a conversation", "it is not packaged")
    return len(asked)
