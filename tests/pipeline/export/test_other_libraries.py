"""Packages in the hands of others: every family's adapter and merged model compute the same in the libraries people use.

The sets of libraries are fetched once (`tests/older_libraries.py`); a test is skipped where that can't be done.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.base_model.locate import BaseModel
from pipeline.common.files import read_json, write_json
from pipeline.export import portable
from pipeline.export.cards import model_card
from tests import families, older_libraries
from tests.pipeline.export import made
from tests.pipeline.export.card_code import code_of, code_of_text
from tests.pipeline.export.merge.adapters import save_adapter
from tests.pipeline.modeling import gguf_files

pytestmark = pytest.mark.matrix
IDS = torch.arange(3, 40)[None]
# Trained by nothing here, or not by LoRA: towers, routers, heads, what peft does not put an adapter on.
_NO_TARGETS = (
    "vision", "visual", "audio", "lm_head", "embed_out", "router", ".gate.", "shared_expert", "multi_modal", "per_layer",
    "experts", "input_linear", "output_linear",
)  # fmt: skip
_NOT_BY_PEFT = {"falcon-h1", "bamba", "mamba", "recurrent-gemma", "gpt2", "gpt-neo", "codegen"}
NAMES = [name for name in families.FAMILIES if name not in _NOT_BY_PEFT]


def packed(name: str, workspace: Path) -> Path:
    """A family's package in a workspace of its own, the base published as transformers 4 would have; its logits beside it."""
    from peft import LoraConfig, PeftModel, TaskType, get_peft_model
    from transformers import AutoModelForCausalLM

    from pipeline.training.checkpointing.contents import write_adapter

    base = families.save(name, workspace / "base")
    write_json(base / "config.json", portable.model_config(read_json(base / "config.json")))
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
    linear = [each for each, module in plain.named_modules() if isinstance(module, torch.nn.Linear)]
    targets = [each for each in linear if not any(part in f"{each}." for part in _NO_TARGETS)]
    adapted = get_peft_model(plain, LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type=TaskType.CAUSAL_LM))
    generator = torch.Generator().manual_seed(1)
    for each, parameter in adapted.named_parameters():
        if "lora_" in each:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    (workspace / "adapter").mkdir()
    write_adapter(adapted, workspace / "adapter")
    package = made.write(workspace, made.package_of(workspace, BaseModel(base, "folder", "base"), workspace / "adapter"))
    again = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
    torch.save(logits(PeftModel.from_pretrained(again, package)), workspace / "logits.pt")
    return package


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS, use_cache=False).logits.float()


def off(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path | Exception]:
    """name of a family -> its package, or why there is none: one that fails is no failure of the others."""
    root = tmp_path_factory.mktemp("families")
    return {name: _packed_or_why(name, root / name) for name in NAMES}


def _packed_or_why(name: str, workspace: Path) -> Path | Exception:
    workspace.mkdir()
    try:
        return packed(name, workspace)
    except Exception as error:  # noqa: BLE001
        return error


def made_of(packages: dict[str, Path | Exception], name: str) -> Path:
    found = packages[name]
    if isinstance(found, Exception):
        raise found
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_merged_model_computes_what_adapter_and_base_compute(packages: dict[str, Path | Exception], name: str) -> None:
    from transformers import AutoModelForCausalLM

    package = made_of(packages, name)
    merged = AutoModelForCausalLM.from_pretrained(package / "merged", dtype=torch.float32, attn_implementation="eager")
    assert off(logits(merged), torch.load(package.parents[1] / "logits.pt")) < 1e-5


_READ = """
import json, sys, torch
from pathlib import Path
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, CONFIG_MAPPING, GenerationConfig

ids, found = torch.arange(3, 40)[None], {}

def off(model, expected):
    with torch.no_grad():
        return float((model.eval()(input_ids=ids, use_cache=False).logits - expected).norm() / expected.norm())

def read(package):
    workspace, exact = package.parents[1], {"dtype": torch.float32, "attn_implementation": "eager"}
    if json.loads((workspace / "base" / "config.json").read_text())["model_type"] not in CONFIG_MAPPING:
        return {"unknown": True}
    expected = torch.load(workspace / "logits.pt")
    base = AutoModelForCausalLM.from_pretrained(workspace / "base", **exact)
    return {
        "adapter": off(PeftModel.from_pretrained(base, str(package)), expected),
        "merged": off(AutoModelForCausalLM.from_pretrained(package / "merged", **exact), expected),
        "ends": [AutoTokenizer.from_pretrained(each).eos_token_id for each in (package, package / "merged")],
        "generation": [GenerationConfig.from_pretrained(each).eos_token_id for each in (package, package / "merged")],
    }

for name in sys.argv[1:]:
    try:
        found[name] = read(Path(name))
    except Exception as error:
        found[name] = {"error": f"{type(error).__name__}: {error}"[:500]}
print(json.dumps(found))
"""


@pytest.fixture(scope="module", params=older_libraries.SETS)
def elsewhere(
    request: pytest.FixtureRequest, packages: dict[str, Path | Exception], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """name of a family -> what a set of libraries reads in its package."""
    whole = {name: str(package) for name, package in packages.items() if isinstance(package, Path)}
    found = older_libraries.asked(request.param, _READ, *whole.values(), cwd=tmp_path_factory.mktemp("elsewhere"))
    return {name: found[package] for name, package in whole.items()}


@pytest.mark.parametrize("name", NAMES)
def test_older_libraries_read_the_same(elsewhere: Any, packages: dict[str, Path | Exception], name: str) -> None:
    made_of(packages, name)
    found = elsewhere[name]
    if found.get("unknown"):
        pytest.skip("this transformers does not know the family")
    assert "error" not in found, found
    assert found["adapter"] < 1e-5 and found["merged"] < 1e-5, found
    assert found["ends"] == [2, 2] and found["generation"] == [2, 2], found


_RUN_CARD = """
import contextlib, io, json, sys
with contextlib.redirect_stdout(io.StringIO()) as said:
    exec(open(sys.argv[1]).read(), found := {})
new = found["answer"][0, found["ids"].shape[1]:].tolist()
print(json.dumps({"said": said.getvalue(), "new": new, "stops": found["model"].generation_config.eos_token_id}))
"""


_THROUGH_CARD = """
import json, sys, torch
lines = open(sys.argv[1]).read().split("messages =")[0]
exec(lines, found := {})
with torch.no_grad():
    logits = found["model"].eval()(input_ids=torch.arange(3, 200)[None], use_cache=False).logits
torch.save(logits, sys.argv[2])
print(json.dumps(True))
"""


@pytest.mark.parametrize("libraries", older_libraries.SETS)
def test_a_cards_lines_give_a_gguf_base_its_rotary_scaling(tmp_path: Path, libraries: str) -> None:
    model = families.build("llama-3")
    path = gguf_files.save("llama-3", model, tmp_path / "m.gguf")
    families.save("llama-3", tmp_path / "folder")
    save_adapter(tmp_path / "adapter", tmp_path / "folder", ["q_proj"])
    tokenizer = tmp_path / "folder"
    base = BaseModel(tokenizer, "folder", "base")
    package = replace(made.package_of(tmp_path, base, tmp_path / "adapter", "peft_adapter"), base=BaseModel(path, "gguf", "base"))
    folder = made.write(tmp_path, replace(package, base=base))
    (tmp_path / "lines.py").write_text(code_of_text(model_card(replace(package, base_from_here="../.."))))
    older_libraries.asked(libraries, _THROUGH_CARD, str(tmp_path / "lines.py"), str(tmp_path / "found.pt"), cwd=folder)
    expected = save_adapter(tmp_path / "again", tmp_path / "folder", ["q_proj"])
    with torch.no_grad():
        wanted = expected(input_ids=torch.arange(3, 200)[None], use_cache=False).logits
    assert off(torch.load(tmp_path / "found.pt"), wanted) < 1e-4


@pytest.mark.parametrize("libraries", older_libraries.SETS)
@pytest.mark.parametrize("card", ["README.md", "merged/README.md"])
def test_a_cards_lines_run_as_they_stand(
    packages: dict[str, Path | Exception], tmp_path: Path, libraries: str, card: str
) -> None:
    path = made_of(packages, "llama-3") / card
    (tmp_path / "lines.py").write_text(code_of(path))
    found = older_libraries.asked(libraries, _RUN_CARD, str(tmp_path / "lines.py"), cwd=path.parent)
    assert found["new"] and found["stops"] == json.loads((path.parent / "generation_config.json").read_text())["eos_token_id"]
