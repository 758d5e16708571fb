"""A package against the libraries a person would load it with. Each check returns what is wrong; empty where nothing is."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from pipeline.base_model.locate import BaseModel, base_model_at
from pipeline.base_model.stop_tokens import named_stop_ids
from pipeline.config.schema import Config
from pipeline.dataset import processed
from pipeline.modeling.adapter import load_adapter
from pipeline.modeling.generate import generate_batch, user_prompt
from pipeline.modeling.load import load_base
from pipeline.planning.export_formats import EXPORT_FORMATS
from pipeline.runs.folders import Workspace
from pipeline.system.gpu import Device
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from pipeline.tokenization.messages import NOT_TRAINED

PROMPTS = ("What about Paris?", "Explain overfitting, water and delivery to the capital of France.", "Parcel?")
NEW_TOKENS = 12
# Of what the adapter adds to the logits: 32-bit arithmetic in another order; weights rounded to 16 bits once more.
_SAME, _ROUNDED = 1e-3, 0.2


def labels_problem(config: Config, workspace: Workspace, package: Path) -> str:
    """Trained are the answers, each with the token that ends it, as the tokenizer in the package reads them."""
    data = processed.find_processed(config, workspace)
    assert data is not None
    tokenizer = _tokenizer(package)
    for document, row in zip(data.dataset("train"), data.rows("train"), strict=True):
        wanted = [message["content"] + "<|im_end|>" for message in row["messages"] if message["role"] == "assistant"]
        found = [tokenizer.decode(span, keep_special=True) for span in _spans(document["labels"])]
        if found != wanted:
            return f"trained is {found}, the answers are {wanted}"
    return ""


def _spans(labels: list[int]) -> list[list[int]]:
    spans: list[list[int]] = [[]]
    for label in labels:
        if label != NOT_TRAINED:
            spans[-1].append(label)
        elif spans[-1]:
            spans.append([])
    return [span for span in spans if span]


def decoding_problem(base: Path, package: Path, device: Device) -> str:
    """Several prompts answered at once are what `generate` answers to each."""
    model, tokenizer = _plain(base, package, device.torch_device), _tokenizer(package, base)
    prompts = [user_prompt(tokenizer, text) for text in PROMPTS]
    ours = generate_batch(model, tokenizer, prompts, NEW_TOKENS, keep_special=True)
    for prompt, answer in zip(prompts, ours, strict=True):
        ids = torch.tensor([prompt], device=device.torch_device)
        out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW_TOKENS)
        new = out[0, len(prompt) :].tolist()
        theirs = tokenizer.decode(new[:-1] if new and new[-1] in tokenizer.stop_ids else new, keep_special=True)
        if answer != theirs:
            return f"answered {answer!r}, generate answers {theirs!r}"
    return ""


def adapter_problem(base: Path, package: Path, device: Device) -> str:
    """Plain peft computes what our own loading of the same files computes, and the adapter does something."""
    plain = _plain(base, package, device.torch_device)
    ours = load_adapter(load_base(base_model_at(base, "the base"), "lora_bf16", device, compute_dtype="float32"), package)
    ids = _probe(package, device)
    with plain.disable_adapter():
        without = _logits(plain, ids)
    return _differs(_logits(ours, ids), _logits(plain, ids), without, _SAME)


def merged_problem(base: Path, package: Path) -> str:
    """The merged folder computes what base and adapter compute."""
    cpu = Device("cpu", "CPU")
    plain, ids = _plain(base, package, "cpu"), _probe(package, cpu)
    with plain.disable_adapter():
        without = _logits(plain, ids)
    merged = AutoModelForCausalLM.from_pretrained(package / EXPORT_FORMATS["merged"].folder, dtype=torch.float32).eval()
    return _differs(_logits(merged, ids), _logits(plain, ids), without, _ROUNDED)


def planned_and_saved(family: str) -> list[tuple[float, float]] | None:
    """(activations the plan counts, what autograd saves), bytes; None where a pass takes half a minute."""
    from tests.pipeline.modeling.test_measure_footprint import SLOW, Loaded

    if family in SLOW:
        return None
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", folder)
        loaded = Loaded(family, Path(folder) / "model", "lora_bf16", "bfloat16", 0.0)
        return [(loaded.planned(loaded.footprint), loaded.saved_bytes)]


def _differs(found: torch.Tensor, wanted: torch.Tensor, without: torch.Tensor, allowed: float) -> str:
    adds = float((wanted - without).norm())
    if not adds > 1e-3 * float(without.norm()):
        return "the adapter adds nothing"
    share = float((found - wanted).norm()) / adds
    return "" if share <= allowed else f"the logits differ by {100 * share:.2g} % of what the adapter adds"


def _plain(base: Path, package: Path, device: str) -> Any:
    """As a person loads it, without us: 32 bits, every weight of the adapter found."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).to(device)
    return PeftModel.from_pretrained(model, package).eval()


def _probe(package: Path, device: Device) -> torch.Tensor:
    """(1, tokens) ids of a prompt."""
    return torch.tensor([user_prompt(_tokenizer(package), PROMPTS[1])], device=device.torch_device)


@torch.no_grad()
def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=ids).logits.float()
    return logits


def _tokenizer(package: Path, base: Path | None = None) -> ChatTokenizer:
    stops = named_stop_ids(BaseModel(base, "folder", "base")) if base else frozenset()
    return ChatTokenizer.from_folder(package, "base", stop_ids=stops)
