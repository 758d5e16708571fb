"""The merged model in a package: complete by itself, made once, never at the cost of the adapter beside it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.base_model.locate import require_base_model
from pipeline.common.errors import BadInput, EnvironmentFault, Stopped
from pipeline.common.files import read_json, sha256_file, write_json
from pipeline.config.schema import Config, ExportFormat
from pipeline.export import packaged
from pipeline.export.formats import merged
from pipeline.export.load import load_packaged
from pipeline.export.merge import safetensors as merge
from pipeline.export.merge.lora_weights import LowRank
from pipeline.modeling import generate
from pipeline.modeling.adapter import load_adapter
from pipeline.runs import progress
from pipeline.runs.context import StepContext
from pipeline.runs.events import Event, Note, Packed, StepProgress
from pipeline.steps import pack
from pipeline.system import disk
from pipeline.system.gpu import cpu_device
from pipeline.system.out_of_memory import OutOfMemory
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from tests.waiting import PATIENCE_S


def with_formats(ctx: StepContext, *formats: ExportFormat, **acceptance: float) -> StepContext:
    """The context of a config with these formats; with other thresholds where some are given."""
    export_section = ctx.config.export.model_copy(update={"formats": formats})
    changed = {"export": export_section, "acceptance": ctx.config.acceptance.model_copy(update=acceptance)}
    return replace(ctx, config=ctx.config.model_copy(update=changed))


@pytest.fixture
def both(ctx: StepContext) -> StepContext:
    return with_formats(ctx, "peft_adapter", "merged")


@pytest.fixture
def package(workspace: Path) -> Path:
    return workspace / "artifacts" / "demo"


def weights(package: Path) -> Path:
    return package / "merged" / "model.safetensors"


def test_transformers_alone_loads_the_merged_model_and_it_answers_as_base_and_adapter(both: StepContext, package: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    pack.run(both)
    tokenizer = AutoTokenizer.from_pretrained(package / "merged")
    question = "What is the capital of France?"
    messages = [{"role": "user", "content": question}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    ours = ChatTokenizer.load(require_base_model(both.config, both.workspace))
    assert ids == generate.user_prompt(ours, question)
    model = AutoModelForCausalLM.from_pretrained(package / "merged")
    assert both.run is not None
    plain = AutoModelForCausalLM.from_pretrained(require_base_model(both.config, both.workspace).path)
    expected = load_adapter(plain, both.run.checkpoints / "step-000020")
    prompt = torch.tensor([ids])
    with torch.no_grad():
        assert torch.allclose(model(prompt).logits, expected(prompt).logits, atol=1e-3)
    greedy = {"max_new_tokens": 8, "do_sample": False}
    assert torch.equal(model.generate(prompt, **greedy), expected.generate(input_ids=prompt, **greedy))


def test_the_folder_is_whole_and_summed_and_carries_no_path_of_its_maker(
    both: StepContext, package: Path, workspace: Path
) -> None:
    base = require_base_model(both.config, both.workspace).path
    (base / "LICENSE").write_text("the base model's terms")
    (base / "USE_POLICY.md").write_text("its policy")
    pack.run(both)
    files = {str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()}
    assert {
        f"merged/{name}"
        for name in (
            "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
            "chat_template.jinja", "README.md", "LICENSE", "USE_POLICY.md",
        )
    } <= files  # fmt: skip
    subprocess.run(
        ["sha256sum", "--check", "--strict", "checksums.sha256"], cwd=package, check=True, capture_output=True, timeout=PATIENCE_S
    )
    assert {line.split("  ")[1] for line in (package / "checksums.sha256").read_text().splitlines()} == files - {
        "checksums.sha256"
    }
    for name in files:
        assert str(workspace).encode() not in (package / name).read_bytes(), name
    assert not list((package / "merged").glob("adapter*")), "transformers would add the adapter once more"


def test_the_card_says_what_it_is_what_was_lost_and_whose_licence_holds(both: StepContext, package: Path) -> None:
    from huggingface_hub import ModelCard

    (require_base_model(both.config, both.workspace).path / "LICENSE").write_text("terms")
    pack.run(both)
    text = (package / "merged" / "README.md").read_text()
    card = ModelCard(text)
    assert (card.data.library_name, card.data.base_model) == ("transformers", "base")
    assert "rounded once, to float32, which kept 100.0 % of what the adapter adds" in text
    assert "its licence holds for them. It lies here: LICENSE." in text
    assert "`merged/` holds the model" in (package / "model_card.md").read_text()


def test_answers_end_where_they_ended_in_training(both: StepContext, package: Path) -> None:
    """A base model given a template by name ends a text with another token than a turn."""
    base = require_base_model(both.config, both.workspace).path
    document = read_json(base / "generation_config.json") | {"eos_token_id": 0, "temperature": 0.6, "do_sample": True}
    write_json(base / "generation_config.json", document)
    pack.run(both)
    found = read_json(package / "merged" / "generation_config.json")
    stop = sorted(ChatTokenizer.load(require_base_model(both.config, both.workspace)).terminator_ids)
    assert found["eos_token_id"] == [0, *stop] and found["temperature"] == 0.6
    (base / "generation_config.json").unlink()
    shutil.rmtree(package)
    pack.run(both)
    assert read_json(package / "merged" / "generation_config.json")["eos_token_id"] in (stop, *stop)


def test_a_repository_of_code_leaves_none_in_the_merged_model(both: StepContext, package: Path) -> None:
    base = require_base_model(both.config, both.workspace).path
    document = read_json(base / "config.json") | {"auto_map": {"AutoConfig": "own.Config"}, "_name_or_path": "/home/somebody"}
    write_json(base / "config.json", document)
    pack.run(both)
    assert not {"auto_map", "_name_or_path"} & set(read_json(package / "merged" / "config.json"))


# -------------------------------------------------------------------------------------------------- made once


def test_a_format_that_is_added_later_is_made_without_the_rest_and_then_is_unchanged(ctx: StepContext, package: Path) -> None:
    pack.run(ctx)
    assert pack.is_unchanged(ctx)
    events: list[Event] = []
    both = replace(with_formats(ctx, "peft_adapter", "merged"), emit=events.append)
    assert not pack.is_unchanged(both)
    assert pack.run(both).outcome == "done"
    packed = [event for event in events if isinstance(event, Packed)]
    assert [(each.folder, each.format) for each in packed] == [
        ("artifacts/demo", "peft_adapter"), ("artifacts/demo/merged", "merged"),
    ]  # fmt: skip
    assert packed[1].size_bytes == sum(path.stat().st_size for path in (package / "merged").iterdir())
    assert packed[0].size_bytes < packed[1].size_bytes
    assert pack.is_unchanged(both)
    before = weights(package).stat()
    again = pack.run(both)
    assert again.outcome == "unchanged" and "merged model (float32)" in again.summary
    assert weights(package).stat() == before


def test_what_changes_nothing_of_the_weights_does_not_merge_them_again(
    both: StepContext, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack.run(both)
    before = weights(package).stat().st_ino
    monkeypatch.setattr(merge, "merge_files", None)
    monkeypatch.setattr(merged, "merge_files", None)
    stricter = with_formats(both, "peft_adapter", "merged", curated_threshold=0.9)
    assert pack.run(stricter).outcome == "done"
    assert "≥ 90 %" in (package / "merged" / "README.md").read_text()
    assert weights(package).stat().st_ino == before
    subprocess.run(
        ["sha256sum", "--check", "--strict", "checksums.sha256"], cwd=package, check=True, capture_output=True, timeout=PATIENCE_S
    )


@pytest.mark.parametrize(("name", "held"), [("merged_bf16", torch.bfloat16), ("merged_fp16", torch.float16)])
def test_a_type_that_is_chosen_is_what_transformers_loads_and_what_config_and_card_say(
    ctx: StepContext, package: Path, name: ExportFormat, held: torch.dtype
) -> None:
    from transformers import AutoModelForCausalLM

    both = with_formats(ctx, "peft_adapter", "merged", name)
    pack.run(both)
    folder, called = package / name, str(held).removeprefix("torch.")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert {parameter.dtype for parameter in model.parameters()} == {held}
    assert read_json(folder / "config.json")["dtype"] == read_json(folder / "config.json")["torch_dtype"] == called
    assert f"rounded once, to {called}" in (folder / "README.md").read_text()
    assert f"`{name}/` holds" in (package / "README.md").read_text()
    first = (folder / "model.safetensors").stat().st_ino
    assert read_json(package / "humigence.json")[name]["dtype"] == called
    pack.run(with_formats(both, "peft_adapter", "merged", name, curated_threshold=0.9))
    assert (folder / "model.safetensors").stat().st_ino == first, "its gigabytes are taken over"


def test_a_merged_model_that_was_asked_for_by_hand_stays_with_its_adapter(both: StepContext, package: Path) -> None:
    pack.run(both)
    without = with_formats(both, "peft_adapter")
    assert pack.is_unchanged(without), "more than is asked for is no reason to pack again"
    pack.run(with_formats(both, "peft_adapter", curated_threshold=0.9))
    assert weights(package).is_file()
    assert read_json(package / "humigence.json")["formats"] == ["peft_adapter", "merged"]


def test_a_merged_model_of_another_adapter_goes_and_what_a_person_put_beside_it_stays(
    both: StepContext, package: Path, ctx: StepContext
) -> None:
    pack.run(both)
    (package / "merged" / "model.gguf").write_text("converted by hand")
    assert both.run is not None
    adapter = both.run.checkpoints / "step-000020" / "adapter_model.safetensors"
    data = bytearray(adapter.read_bytes())
    data[-2] ^= 1
    adapter.write_bytes(data)
    pack.run(with_formats(both, "peft_adapter"))
    assert [path.name for path in (package / "merged").iterdir()] == ["model.gguf"]


def test_merged_weights_that_were_altered_are_made_anew(both: StepContext, package: Path) -> None:
    pack.run(both)
    whole = weights(package).read_bytes()
    weights(package).write_bytes(whole[:-4] + b"\0\0\0\1")
    assert not pack.is_unchanged(both)
    pack.run(both)
    assert weights(package).read_bytes() == whole
    assert pack.is_unchanged(both)


def test_weights_that_lie_elsewhere_are_not_taken_over(both: StepContext, package: Path, workspace: Path) -> None:
    """A list of checksums from a stranger, or a link, must not lead out of the package."""
    pack.run(both)
    moved = workspace / "elsewhere.safetensors"
    weights(package).rename(moved)
    weights(package).symlink_to(moved)
    pack.run(with_formats(both, "peft_adapter", "merged", curated_threshold=0.9))
    assert weights(package).is_file() and not weights(package).is_symlink()
    listed = (package / "checksums.sha256").read_text()
    (package / "checksums.sha256").write_text(listed + f"{sha256_file(moved)}  merged/../../../elsewhere.safetensors\n")
    pack.run(both)
    assert "elsewhere" not in (package / "checksums.sha256").read_text()
    assert sorted(path.name for path in package.parent.iterdir()) == ["demo"] and moved.stat().st_nlink == 1


def test_infer_still_asks_the_adapter(both: StepContext, package: Path) -> None:
    pack.run(both)
    assert both.run is not None
    model, tokenizer = load_packaged(packaged.read_packaged(package), cpu_device())
    for answer in read_json(both.run.eval_report)["curated"]:
        ids = generate.user_prompt(tokenizer, answer["prompt"])
        assert generate.generate_batch(model, tokenizer, [ids], 8, keep_special=True) == [answer["tuned"]]


# ---------------------------------------------------------------------------------------------- what goes wrong


def adapter_is_whole(ctx: StepContext, package: Path) -> bool:
    """Whether the package is the one of the adapter alone, with nothing half made in it or beside it."""
    assert not (package / "merged").exists()
    assert [path.name for path in package.parent.iterdir()] == ["demo"]
    return pack.is_unchanged(with_formats(ctx, "peft_adapter")) and not pack.is_unchanged(ctx)


def test_without_room_for_the_merged_model_the_adapter_is_packaged_all_the_same(
    both: StepContext, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = weights_of(both)
    free = disk.free_disk_bytes(package)
    monkeypatch.setattr(pack, "_BESIDE_WEIGHTS", 1)
    monkeypatch.setattr(disk, "free_disk_bytes", lambda _: min(free, needed - 1))
    events: list[Event] = []
    with pytest.raises(EnvironmentFault, match="the merged model: about") as caught:
        pack.run(replace(both, emit=events.append))
    assert "humigence merge goes on" in caught.value.hint
    assert [event.format for event in events if isinstance(event, Packed)] == ["peft_adapter"]
    assert adapter_is_whole(both, package)


def weights_of(ctx: StepContext) -> int:
    return sum(file.stat().st_size for file in require_base_model(ctx.config, ctx.workspace).weight_files())


def test_a_disk_that_fills_while_weights_are_merged_costs_nothing_but_them(
    both: StepContext, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(merge, "_merge", full)
        with pytest.raises(OSError, match="No space"):
            pack.run(both)
    assert adapter_is_whole(both, package)
    assert pack.run(both).outcome == "done"


def test_out_of_memory_while_merging_leaves_the_adapter_packaged_and_says_what_to_do(
    both: StepContext, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(LowRank, "rows", no_memory)
    with pytest.raises(OutOfMemory, match=r"while merging model\.layers\.0") as caught:
        pack.run(both)
    assert "the adapter is packaged already" in caught.value.hint
    assert adapter_is_whole(both, package)


def test_a_person_can_stop_the_merging(both: StepContext, package: Path) -> None:
    events: list[Event] = []

    def stop() -> Any:
        return "save" if any(isinstance(event, Packed) for event in events) else None

    with pytest.raises(Stopped, match="stopped while merging"):
        pack.run(replace(both, emit=events.append, stop=stop))
    assert adapter_is_whole(both, package)


def test_a_merging_tells_how_far_it_is(both: StepContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    events: list[Event] = []
    pack.run(replace(both, emit=events.append))
    told = [event for event in events if isinstance(event, StepProgress)]
    assert len(told) > 10 and {event.unit for event in told} == {"bytes"}
    assert [event.done for event in told] == sorted(event.done for event in told)
    assert told[-1].done <= told[-1].total == weights_of(both)


def test_a_model_that_is_hardly_changed_any_more_by_the_adapter_is_warned_of(
    both: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge.Tally, "kept", property(lambda _: 0.31))
    events: list[Event] = []
    pack.run(replace(both, emit=events.append))
    (note,) = [event for event in events if isinstance(event, Note)]
    assert note.level == "warning" and "leaves 31 % of what the adapter adds" in note.text


def test_a_quantized_base_is_not_merged_into(both: StepContext, package: Path) -> None:
    base = require_base_model(both.config, both.workspace).path
    write_json(base / "config.json", read_json(base / "config.json") | {"quantization_config": {"quant_method": "gptq"}})
    with pytest.raises(BadInput, match="is quantized already"):
        pack.run(both)
    assert adapter_is_whole(both, package)


def test_the_adapter_is_always_among_the_formats() -> None:
    with pytest.raises(ValueError, match="peft_adapter is always among them"):
        Config.model_validate({"export": {"formats": ["merged"]}})
    with pytest.raises(ValueError, match="named twice"):
        Config.model_validate({"export": {"formats": ["peft_adapter", "peft_adapter"]}})


def test_a_manifest_that_is_damaged_merges_anew(both: StepContext, package: Path) -> None:
    pack.run(both)
    document = read_json(package / "humigence.json")
    for damage in ("[]", json.dumps(document | {"merged": 7}), json.dumps(document | {"formats": "merged"})):
        (package / "humigence.json").write_text(damage)
        assert pack.run(both).outcome == "done"
        assert pack.is_unchanged(both)
