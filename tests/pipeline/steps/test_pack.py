"""What lies in a package, that it can be loaded and verified by others, and what packing never destroys."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.base_model.locate import require_base_model
from pipeline.common import files
from pipeline.common.errors import BadInput, MissingArtifact
from pipeline.common.files import read_json, write_json
from pipeline.export import packaged, write
from pipeline.export.load import load_packaged
from pipeline.modeling import generate
from pipeline.modeling.adapter import load_adapter
from pipeline.modeling.load import load_base
from pipeline.runs.context import StepContext
from pipeline.runs.events import Note, Packed
from pipeline.steps import gates, pack
from pipeline.system.gpu import cpu_device
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from tests import tiny
from tests.pipeline.export.card_code import code_of
from tests.waiting import PATIENCE_S


@pytest.fixture
def package(ctx: StepContext, workspace: Path) -> Path:
    pack.run(ctx)
    return workspace / "artifacts" / "demo"


def test_sha256sum_verifies_the_package(package: Path) -> None:
    subprocess.run(
        ["sha256sum", "--check", "--strict", "checksums.sha256"], cwd=package, check=True, capture_output=True, timeout=PATIENCE_S
    )
    listed = {line.split("  ")[1] for line in (package / "checksums.sha256").read_text().splitlines()}
    assert listed == {path.name for path in package.iterdir()} - {"checksums.sha256"}
    assert {"adapter_model.safetensors", "adapter_config.json", "model_card.md", "dataset_card.md", "humigence.json"} <= listed


def test_peft_alone_loads_the_package_and_computes_the_same(ctx: StepContext, package: Path) -> None:
    import torch
    from peft import PeftConfig, PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(package)
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    ours = ChatTokenizer.load(require_base_model(ctx.config, ctx.workspace))
    assert ids == generate.user_prompt(ours, "What is the capital of France?")
    named = PeftConfig.from_pretrained(package).base_model_name_or_path
    plain = AutoModelForCausalLM.from_pretrained(named, dtype=torch.bfloat16).float()
    model = PeftModel.from_pretrained(plain, package).eval()
    assert ctx.run is not None
    base = load_base(require_base_model(ctx.config, ctx.workspace), "lora_bf16", cpu_device(), compute_dtype="float32")
    expected = load_adapter(base, ctx.run.checkpoints / "step-000020")
    with torch.no_grad():
        difference = model(torch.tensor([ids])).logits - expected(torch.tensor([ids])).logits
    assert difference.abs().max() < 1e-3


def test_the_package_alone_answers_as_the_run_did(ctx: StepContext, package: Path, tmp_path: Path) -> None:
    model, tokenizer = load_packaged(package, cpu_device())
    assert ctx.run is not None
    for answer in read_json(ctx.run.eval_report)["curated"]:
        ids = generate.user_prompt(tokenizer, answer["prompt"])
        assert generate.generate_batch(model, tokenizer, [ids], 8, keep_special=True) == [answer["tuned"]]
        with model.disable_adapter():
            assert generate.generate_batch(model, tokenizer, [ids], 8, keep_special=True) == [answer["base"]]


def test_a_base_model_that_has_gone_is_named_with_what_to_do(package: Path, workspace: Path) -> None:
    (workspace / "base").rename(workspace / "elsewhere")
    with pytest.raises(MissingArtifact) as caught:
        packaged.read_packaged(package)
    assert str(workspace / "base") in caught.value.message and "base.path" in caught.value.hint
    manifest = read_json(package / "humigence.json")
    manifest["base"]["path"] = str(workspace / "elsewhere")
    write_json(package / "humigence.json", manifest)
    assert packaged.read_packaged(package).warning == ""


def test_a_package_carries_no_path_of_its_maker(ctx: StepContext, package: Path, workspace: Path) -> None:
    for file in package.iterdir():
        assert str(workspace).encode() not in file.read_bytes(), file
    assert read_json(package / "humigence.json")["base"]["path"] == "./base"


def test_a_package_is_used_from_any_folder(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "another").mkdir()
    monkeypatch.chdir(tmp_path / "another")
    assert packaged.read_packaged(package).warning == ""


def test_another_base_model_in_the_same_place_is_warned_of(package: Path, workspace: Path) -> None:
    assert packaged.read_packaged(package).warning == ""
    tiny.save_model(workspace / "base", template=tiny.CHATML, llama=False, seed=9)
    assert "weights differ" in packaged.read_packaged(package).warning


def test_no_package_says_what_to_do(workspace: Path) -> None:
    with pytest.raises(MissingArtifact) as caught:
        packaged.read_packaged(workspace / "artifacts" / "demo")
    assert "humigence pack" in caught.value.hint


def test_the_cards_hold_the_figures_that_were_measured(ctx: StepContext, package: Path) -> None:
    assert ctx.run is not None
    report, data = read_json(ctx.run.eval_report), read_json(ctx.run.preprocess_report)
    model_card, dataset_card = (package / "model_card.md").read_text(), (package / "dataset_card.md").read_text()
    for split in ("val", "test"):
        for which in ("base", "tuned"):
            assert f"| {report[split][which + '_loss']:.4f} | {report[split][which + '_perplexity']:.2f} |" in model_card
            assert f"{100 * report[split][which + '_accuracy']:.2f} %" in model_card
    for gate in gates.run(ctx).gates:
        assert f"| {gate.gate} | {gate.verdict} |" in model_card
    assert ctx.run.run_id in model_card and "rank 16, alpha 32" in model_card and "step 20" in model_card
    assert f"| in the file | {data['rows']} |" in dataset_card and data["raw_sha256"] in dataset_card
    for split in ("train", "val", "test"):
        figures = data["splits"][split]
        assert f"| {split} | {figures['conversations']} | {figures['documents']} | {figures['tokens']:,} |" in dataset_card


def test_the_cards_front_matter_is_valid_for_the_hub(package: Path) -> None:
    from huggingface_hub import DatasetCard, ModelCard

    card = ModelCard((package / "model_card.md").read_text())
    assert card.data.library_name == "peft"
    assert card.data.base_model == "base"
    assert "lora" in card.data.tags
    assert DatasetCard((package / "dataset_card.md").read_text()).data.task_categories == ["text-generation"]


def test_the_card_is_also_what_the_hub_shows(package: Path) -> None:
    assert (package / "README.md").read_bytes() == (package / "model_card.md").read_bytes()


def test_a_persons_own_readme_is_saved_and_named(ctx: StepContext, package: Path) -> None:
    """An older version of ours wrote no README.md: one that lies there is a person's."""
    (package / "README.md").write_text("my words")
    listed = (package / "checksums.sha256").read_text().splitlines(keepends=True)
    (package / "checksums.sha256").write_text("".join(line for line in listed if "README" not in line))
    events: list[Any] = []
    pack.run(StepContext(ctx.config.model_copy(update={"seed": 7}), ctx.workspace, ctx.run, events.append))
    assert (package / "README.md.bak").read_text() == "my words"
    assert any("README.md.bak" in event.text for event in events if isinstance(event, Note))


def test_the_package_says_what_ends_an_answer_and_asks_no_peft_for_what_it_does_not_have(ctx: StepContext, package: Path) -> None:
    stop_ids = ChatTokenizer.load(require_base_model(ctx.config, ctx.workspace)).stop_ids
    named = read_json(package / "generation_config.json")["eos_token_id"]
    assert {*(named if isinstance(named, list) else [named])} == stop_ids
    config = read_json(package / "adapter_config.json")
    assert None not in config.values() and not {"peft_version", "qalora_group_size", "lora_bias"} & config.keys()


@pytest.mark.parametrize("place", ["in the workspace", "elsewhere"])
def test_the_cards_own_lines_run_as_they_stand(
    ctx: StepContext,
    package: Path,
    workspace: Path,
    tmp_path_factory: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
    place: str,
) -> None:
    if place == "elsewhere":
        base = tmp_path_factory.mktemp("elsewhere") / "base"
        (workspace / "base").rename(base)
        section = ctx.config.model.model_copy(update={"local_path": str(base)})
        pack.run(StepContext(ctx.config.model_copy(update={"model": section}), ctx.workspace, ctx.run))
    monkeypatch.chdir(package)
    lines = code_of(package / "README.md")
    assert "PeftModel.from_pretrained" in lines and str(workspace) not in lines
    found: dict[str, Any] = {}
    exec(lines, found)
    assert capsys.readouterr().out.strip("\n") == found["tokenizer"].decode(
        found["answer"][0, found["ids"].shape[1] :], skip_special_tokens=True
    ).strip("\n")
    named = found["model"].generation_config.eos_token_id
    assert named == read_json(package / "generation_config.json")["eos_token_id"]


def test_the_reasons_of_rejected_rows_stand_in_the_dataset_card(ctx: StepContext, workspace: Path) -> None:
    assert ctx.run is not None
    report = read_json(ctx.run.preprocess_report)
    report |= {"rejected": {"not a JSON | object": {"rows": 3, "lines": [4, 7, 9]}}, "rejected_rows": 3, "rows": 43}
    write_json(ctx.run.preprocess_report, report)
    pack.run(ctx)
    card = (workspace / "artifacts" / "demo" / "dataset_card.md").read_text()
    assert "| not a JSON \\| object | 3 | 4, 7, 9 |" in card
    assert "| in the file | 43 |" in card and "| used | 40 |" in card


def test_no_path_of_this_machine_is_in_a_card(package: Path, workspace: Path) -> None:
    for card in package.glob("*.md"):
        assert str(workspace) not in card.read_text() and str(Path.home()) not in card.read_text()


def test_packing_again_is_unchanged_until_something_is(ctx: StepContext, package: Path) -> None:
    assert pack.is_unchanged(ctx)
    before = (package / "humigence.json").read_bytes()
    events: list[Any] = []
    again = StepContext(ctx.config, ctx.workspace, ctx.run, events.append)
    assert pack.run(again).outcome == "unchanged"
    assert [event.folder for event in events if isinstance(event, Packed)] == ["artifacts/demo"]
    assert (package / "humigence.json").read_bytes() == before
    (package / "adapter_model.safetensors").write_bytes(b"damaged")
    assert not pack.is_unchanged(ctx)
    assert pack.run(ctx).outcome == "done"
    assert pack.is_unchanged(ctx)


def test_the_device_a_worker_chose_does_not_change_the_package(ctx: StepContext, package: Path) -> None:
    other = ctx.config.model_copy(update={"compute": ctx.config.compute.model_copy(update={"gpu": "auto"})})
    assert pack.is_unchanged(StepContext(other, ctx.workspace, ctx.run))


def test_an_interrupted_pack_leaves_the_old_package_whole(
    ctx: StepContext, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in package.iterdir()}
    stricter = ctx.config.acceptance.model_copy(update={"curated_threshold": 0.9})
    changed = StepContext(ctx.config.model_copy(update={"acceptance": stricter}), ctx.workspace, ctx.run)

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "write_checksums", full_disk)
    with pytest.raises(OSError, match="No space"):
        pack.run(changed)
    assert {path.name: path.read_bytes() for path in package.iterdir()} == before
    assert [path.name for path in package.parent.iterdir()] == ["demo"]


def test_a_folder_that_is_replaced_is_never_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "package"
    with files.new_folder(folder) as new:
        (new / "a").write_text("old")
    rename = os.replace

    def killed_after(*names: Any) -> None:
        rename(*names)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed_after)
    with contextlib.suppress(KeyboardInterrupt), files.new_folder(folder) as new:
        (new / "a").write_text("new")
    assert (folder / "a").read_text() in ("old", "new")


def test_files_of_a_persons_own_are_kept_and_edited_ones_become_backups(ctx: StepContext, package: Path) -> None:
    (package / "notes").mkdir()
    (package / "notes" / "mine.txt").write_text("mine")
    (package / "link").symlink_to("notes/mine.txt")
    (package / "model_card.md").write_text("my own card")
    notes: list[Any] = []
    pack.run(StepContext(ctx.config, ctx.workspace, ctx.run, notes.append))
    assert (package / "notes" / "mine.txt").read_text() == "mine"
    assert (package / "link").is_symlink()
    assert (package / "model_card.md.bak").read_text() == "my own card"
    assert "nats a token" in (package / "model_card.md").read_text()
    assert any("model_card.md.bak" in note.text for note in notes if isinstance(note, Note))
    assert pack.is_unchanged(ctx)
    subprocess.run(["sha256sum", "--check", "checksums.sha256"], cwd=package, check=True, capture_output=True, timeout=PATIENCE_S)


def test_a_folder_that_is_no_package_is_refused_untouched(ctx: StepContext, workspace: Path) -> None:
    folder = workspace / "artifacts" / "demo"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("years")
    with pytest.raises(BadInput) as caught:
        pack.run(ctx)
    assert "export.artifacts_dir" in caught.value.hint
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_a_run_that_was_not_evaluated_is_not_packed(ctx: StepContext) -> None:
    assert ctx.run is not None
    ctx.run.eval_report.unlink()
    with pytest.raises(MissingArtifact) as caught:
        pack.run(ctx)
    assert caught.value.hint == "humigence eval"


def test_the_adapter_config_names_the_base_model_and_is_for_inference(package: Path, workspace: Path) -> None:
    config = json.loads((package / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "./base", "found from the workspace, and nobody's private path"
    assert config["inference_mode"] is True
