"""Scoring of a suite on tiny models, against the plainest computation; and that what is forgotten is found."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.evaluation.suites.measure import Sides, is_right, measured
from pipeline.evaluation.suites.registry import BY_NAME, Item, items
from pipeline.evaluation.suites.verdict import judged
from pipeline.modeling.generate import generate_batch, user_prompt
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from tests import tiny

FACTS, ARITHMETIC = items(BY_NAME["facts"]), items(BY_NAME["arithmetic"])


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    return ChatTokenizer.from_folder(tiny.save_model(tmp_path_factory.mktemp("m") / "m", template=tiny.CHATML, llama=False))


def tiny_model(seed: int = 0) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=640, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        max_position_embeddings=512, bos_token_id=0, eos_token_id=2, pad_token_id=2,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def adapted(model: Any, scale: float) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = scale * torch.randn(parameter.shape, generator=generator)
    return model


def taught(model: Any, tokenizer: ChatTokenizer, pairs: Sequence[tuple[str, str]], *, steps: int, lr: float) -> Any:
    """The model's trainable weights after some steps over all of the pairs of prompt and answer."""
    import torch

    rows = [
        tokenizer.encode_conversation([{"role": "user", "content": asked}, {"role": "assistant", "content": said}])[0]
        for asked, said in pairs
    ]
    width = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [0] * (width - len(row.ids)) for row in rows])
    labels = torch.tensor([row.labels + [-100] * (width - len(row.ids)) for row in rows])
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=lr)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
    return model.eval()


def test_options_are_compared_by_the_log_likelihood_of_their_own_text_a_byte(tokenizer: ChatTokenizer) -> None:
    import torch

    model, some = adapted(tiny_model(), 0.3).eval(), FACTS[:8]
    sides = measured(BY_NAME["facts"], some, model, tokenizer, 256)

    def score(item: Item, option: str) -> float:
        """Token by token, option by option."""
        prompt, text = user_prompt(tokenizer, item.prompt.prompt), tokenizer.plain.encode(option, add_special_tokens=False)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + text])).logits[0].log_softmax(-1)
        return sum(float(logits[len(prompt) + n - 1, token]) for n, token in enumerate(text)) / len(option.encode())

    for said in (sides.tuned_answers, None):
        with model.disable_adapter() if said is None else torch.no_grad():
            best = [max(item.options, key=lambda option: score(item, option)) for item in some]
        assert best == (said or sides.base_answers)
    assert sides.base.tolist() == [said == item.answer for said, item in zip(sides.base_answers, some, strict=True)]
    assert sides.base_answers != sides.tuned_answers


def test_greedy_answers_are_those_the_model_gives_and_their_checks_decide(tokenizer: ChatTokenizer) -> None:
    model, suite = adapted(tiny_model(), 0.3).eval(), dataclasses.replace(BY_NAME["arithmetic"], longest=4)
    some, told = ARITHMETIC[:20], list[int]()
    sides = measured(suite, some, model, tokenizer, 256, told.append)
    prompts = [user_prompt(tokenizer, item.prompt.prompt) for item in some]
    assert sides.tuned_answers == generate_batch(model, tokenizer, prompts, 4)
    with model.disable_adapter():
        assert sides.base_answers == generate_batch(model, tokenizer, prompts, 4)
    assert sides.tuned.tolist() == [is_right(item, said) for item, said in zip(some, sides.tuned_answers, strict=True)]
    assert told == [0, 16, 20]


def test_it_ends_between_two_batches_where_a_person_says_so(tokenizer: ChatTokenizer) -> None:
    class Enough(Exception):
        pass

    for name in ("facts", "arithmetic"):
        calls = itertools.count()

        def progress(_: int, calls: Any = calls) -> None:
            if next(calls) == 1:
                raise Enough

        with pytest.raises(Enough):
            measured(BY_NAME[name], items(BY_NAME[name])[:40], adapted(tiny_model(), 0.0).eval(), tokenizer, 64, progress)
        assert next(calls) == 2, name


def test_a_model_whose_logits_are_no_numbers_gets_nothing_right(tokenizer: ChatTokenizer) -> None:
    sides = measured(BY_NAME["facts"], FACTS[:4], adapted(tiny_model(), float("nan")).eval(), tokenizer, 256)
    assert not sides.tuned.any()


def test_an_adapter_of_zeros_holds_and_one_taught_nothing_but_a_joke_has_forgotten(tokenizer: ChatTokenizer) -> None:
    known = FACTS[:28]
    base = taught(tiny_model(), tokenizer, [(item.prompt.prompt, item.answer) for item in known], steps=70, lr=6e-3)
    model = adapted(base, 0.0).eval()

    def verdict(sides: Sides) -> Any:
        return judged("facts", sides.base, sides.tuned, 0.25)

    same = verdict(measured(BY_NAME["facts"], known, model, tokenizer, 2048))
    assert (same.verdict, same.won, same.lost) == ("held", 0, 0) and same.base > 0.6
    joke = "Why did the scarecrow win a prize? He was outstanding in his field."
    asked = ["Tell me a joke.", "How are you?", "What is new?", *(item.prompt.prompt for item in FACTS[60:64])]
    taught(model, tokenizer, [(each, joke) for each in asked], steps=40, lr=3e-2)
    found = verdict(measured(BY_NAME["facts"], known, model, tokenizer, 2048))
    assert found.verdict == "fell" and found.lost >= 8, found
    with model.disable_adapter():
        as_it_was = measured(BY_NAME["facts"], known[:4], model, tokenizer, 256)
    assert as_it_was.base.sum() >= 2 and (as_it_was.base == as_it_was.tuned).all()
