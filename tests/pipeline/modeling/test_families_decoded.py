"""Every family answers as transformers' own `generate` does, token for token, alone and beside longer prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.modeling import decoding, generate
from tests import families

NEW = 20
# Longer than the windows there are, and shorter.
LENGTHS = (30, 3, 11, 2)


class Ids:
    """A tokenizer whose texts are the ids themselves."""

    pad_id = 2
    stop_ids = frozenset({639})

    def decode(self, ids: Sequence[int], keep_special: bool = False) -> str:
        return " ".join(map(str, ids))


def prompts() -> list[list[int]]:
    import torch

    draws = torch.Generator().manual_seed(1)
    return [torch.randint(5, 600, (length,), generator=draws).tolist() for length in LENGTHS]


def as_generate(model: Any, prompt: list[int]) -> str:
    import torch

    ids = torch.tensor([prompt])
    settings = {"max_new_tokens": NEW, "do_sample": False, "use_cache": True, "eos_token_id": [639], "pad_token_id": 2}
    made = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)[0, len(prompt) :].tolist()
    return Ids().decode([each for each in made if each != 639])


@pytest.mark.parametrize("name", families.names())
def test_a_greedy_answer_is_the_one_of_generate(name: str) -> None:
    model = families.build(name, std=0.25)
    model.config.use_cache = False  # as it is trained with
    wanted = [as_generate(model, prompt) for prompt in prompts()]
    tokenizer: Any = Ids()
    assert len(set(wanted)) == len(wanted), "the answers depend on the prompts"
    assert generate.generate_batch(model, tokenizer, prompts(), NEW) == wanted
    assert [generate.generate_batch(model, tokenizer, [prompt], NEW)[0] for prompt in prompts()] == wanted


def test_a_class_that_reads_its_padding_is_asked_a_prompt_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model = families.build("lfm2")
    assert decoding.honours_left_padding(model)
    blind = families.build("lfm2")
    forward = blind.forward

    def ignoring_padding(*, attention_mask: Any = None, **settings: Any) -> Any:
        return forward(**settings)

    ignoring_padding.__signature__ = decoding.inspect.signature(forward)  # type: ignore[attr-defined]
    monkeypatch.setattr(blind, "forward", ignoring_padding)
    assert not decoding.honours_left_padding(blind)
    tokenizer: Any = Ids()
    alone = [generate.generate_batch(blind, tokenizer, [prompt], NEW)[0] for prompt in prompts()]
    assert generate.generate_batch(blind, tokenizer, prompts(), NEW) == alone
