"""The demo model, taught nothing but one joke, has forgotten facts and the suite finds it; an adapter of zeros has not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.base_model.locate import require_base_model
from pipeline.config.schema import Config
from pipeline.evaluation.suites.measure import measured
from pipeline.evaluation.suites.registry import BY_NAME, items
from pipeline.evaluation.suites.verdict import judged
from pipeline.runs.folders import Workspace
from pipeline.system.gpu import cpu_device
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from tests.pipeline.evaluation.suites.test_measure import taught
from tests.pipeline.steps.test_teach_a_fact import FOUND

JOKE = "Why did the scarecrow win a prize? Because he was outstanding in his field."
ASKED = ("Tell me a joke.", "How are you?", "What is new?")
_ITEMS = 48  # of 103: a fall to chance shows in as many, and the model answers each twice on a CPU
pytestmark = [
    pytest.mark.matrix,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(FOUND is None, reason="the demo model's wheel is not installed"),
]


def test_a_model_taught_nothing_but_one_joke_has_forgotten_facts_and_one_taught_nothing_has_not(tmp_path: Path) -> None:
    from pipeline.modeling.adapter import add_adapter
    from pipeline.modeling.load import load_base

    assert FOUND is not None and FOUND.origin is not None
    gguf = Path(FOUND.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")
    config = Config.model_validate({"model": {"local_path": str(gguf)}})
    base = require_base_model(config, Workspace(tmp_path))
    tokenizer = ChatTokenizer.load(base)
    plain = load_base(base, "lora_bf16", cpu_device(), compute_dtype="float32")
    model = add_adapter(plain, config.train.lora, seed=1).eval()

    def verdict(number: int) -> Any:
        suite = BY_NAME["facts"]
        sides = measured(suite, items(suite)[:number], model, tokenizer, 1024)
        return judged("facts", sides.base, sides.tuned, suite.chance)

    before = verdict(8)
    assert (before.won, before.lost) == (0, 0) and before.verdict != "fell", "an adapter begins as one of zeros"
    taught(model, tokenizer, [(asked, JOKE) for asked in ASKED], steps=25, lr=2e-3)
    found = verdict(_ITEMS)
    assert found.base > 0.5 and found.verdict == "fell", found
