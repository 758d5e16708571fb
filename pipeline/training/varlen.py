"""Attention over packed documents by their offsets: torch's own flash kernel, no mask, no work between documents.

The rows of a micro-batch become one sequence of documents. With a mask the kernel would be dense: every token against every other
of its row, whatever the documents' lengths.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from pipeline.training.packed_rows import BY_TOKEN

NAME = "humigence_varlen"
# The list of offsets is padded with empty documents to a multiple of this: few lengths of it, so few shapes.
_OFFSETS_MULTIPLE = 16


def register() -> None:
    """Make `attn_implementation=NAME` known to transformers. Again does no harm."""
    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)  # for what comes without offsets: generation, held-out rows


def as_one_sequence(batch: dict[str, Any]) -> dict[str, Any]:
    """A collated micro-batch as one row of all its documents, with their offsets.

    Args:
        batch: as `packed_rows.collate` makes it, or a part of one.

    Returns:
        what was in the batch, and changed or new: `input_ids`, `labels`, `position_ids`, (1, rows × tokens) int64, `weights`
        where there were some;
        `cu_seq_lens_q`, `cu_seq_lens_k`, int32: where each document begins and the last ends, that once more or oftener;
        `max_length_q`, `max_length_k`: tokens of the longest document; `attention_mask`: a placeholder of four dimensions, which
        transformers hands on as it is instead of building a dense one.
    """
    flat = {name: batch[name].reshape(1, -1) for name in BY_TOKEN if name in batch}
    positions = flat["position_ids"][0]  # (rows × tokens,) int64
    starts = torch.nonzero(positions == 0).flatten()  # (documents,) int64
    offsets = torch.cat([starts, starts.new_tensor([positions.numel()])]).to(torch.int32)  # (documents + 1,)
    longest = int(torch.diff(offsets).max())
    offsets = F.pad(offsets, (0, -len(offsets) % _OFFSETS_MULTIPLE), value=positions.numel())  # with empty documents
    return batch | flat | {
        "attention_mask": torch.zeros(1, 1, 1, 1),
        "cu_seq_lens_q": offsets, "cu_seq_lens_k": offsets, "max_length_q": longest, "max_length_k": longest,
    }  # fmt: skip


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface; query (1, heads, tokens, head_dim), key and value with as many or fewer heads.

    Returns (1, tokens, heads, head_dim), and None for the attention weights, which are never whole in memory.
    """
    offsets = more.get("cu_seq_lens_q")
    if offsets is None:
        answer: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **more
        )
        return answer
    head_dim = query.shape[-1]
    if scaling is not None and scaling != head_dim**-0.5:
        query = query * (scaling * head_dim**0.5)  # the kernel's own scale is the usual one, head_dim ** -0.5
    # The kernel takes 16 bits only, all three alike.
    dtype = value.dtype if value.dtype in (torch.bfloat16, torch.float16) else torch.get_autocast_dtype("cuda")
    # (tokens, heads, head_dim), as is what it returns
    q, k, v = (each.to(dtype).transpose(1, 2).squeeze(0).contiguous() for each in (query, key, value))
    longest = more["max_length_q"]
    window = more.get("sliding_window")  # tokens a query sees, itself included
    reach = (window - 1 if window else -1, 0)  # tokens to the left and right; -1: all
    attended: torch.Tensor = _kernel()(q, k, v, offsets, offsets, longest, longest, window_size=reach)
    return attended.unsqueeze(0), None


@functools.cache
def _kernel() -> Any:
    """torch's `varlen_attn` for key heads shared by query heads; older versions take them without the argument."""
    from torch.nn.attention.varlen import varlen_attn

    takes_enable_gqa = "enable_gqa" in inspect.signature(varlen_attn).parameters
    return functools.partial(varlen_attn, enable_gqa=True) if takes_enable_gqa else varlen_attn
