from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants

from pipeline.common.errors import BadInput, EnvironmentFault, HumigenceError, MissingArtifact
from pipeline.common.files import write_json
from pipeline.config.schema import Config
from pipeline.runs import events as ev
from pipeline.runs import store
from pipeline.runs.context import StepContext
from pipeline.runs.event_log import EventWriter
from pipeline.runs.events import Event, Note
from pipeline.runs.folders import Workspace
from pipeline.steps import validate
from pipeline.system import gpu
from tests.conftest import chat_row, write_jsonl
from tests.hub import use_hub_home
from tests.pipeline.evaluation import made_up
from tests.processes import IMPORT_PATH
from tests.waiting import PATIENCE_S

GOOD = [chat_row("How are you?", "Well, thank you.")] * 5


@pytest.fixture
def settings(workspace: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    use_hub_home(monkeypatch, workspace / "hf")
    write_jsonl(workspace / "rows.jsonl", GOOD)
    write_jsonl(workspace / "prompts.jsonl", [{"prompt": "What is overfitting?"}])
    return {
        "model": {"local_path": str(tiny_model)},
        "compute": {"gpu": "cpu"},
        "data": {"raw_path": "rows.jsonl"},
        "eval": {"curated_prompts_path": "prompts.jsonl"},
    }


def check(settings: dict[str, Any], root: Path) -> list[str]:
    """Runs the step; the notes it emits."""
    seen: list[Event] = []
    validate.run(StepContext(Config.model_validate(settings), Workspace(root), emit=seen.append))
    return [event.text for event in seen if isinstance(event, Note)]


def refused(settings: dict[str, Any], root: Path) -> HumigenceError:
    with pytest.raises(HumigenceError) as error:
        check(settings, root)
    return error.value


def test_what_is_in_order_passes_and_leaves_nothing_behind(settings: dict[str, Any], workspace: Path) -> None:
    before = sorted(workspace.rglob("*"))
    assert check(settings, workspace) == []
    assert sorted(workspace.rglob("*")) == before


def test_all_problems_are_told_at_once(settings: dict[str, Any], workspace: Path) -> None:
    settings["model"] = {"local_path": "nowhere"}
    settings["data"] = {"raw_path": "nothing.jsonl"}
    settings["eval"] = {"curated_prompts_path": "no-prompts.jsonl"}
    settings["compute"] = {"gpu": "77"}
    (workspace / "artifacts").write_text("a file in the way")
    error = refused(settings, workspace)
    assert isinstance(error, BadInput)
    for word in ("5 problems", "model.local_path", "nothing.jsonl", "no-prompts.jsonl", "GPU 77", "export.artifacts_dir"):
        assert word in error.message


def test_a_problem_alone_keeps_its_exit_code(settings: dict[str, Any], workspace: Path) -> None:
    assert refused({**settings, "model": {"local_path": "nowhere"}}, workspace).exit_code == MissingArtifact.exit_code
    assert refused({**settings, "compute": {"gpu": "77"}}, workspace).exit_code == EnvironmentFault.exit_code
    two = {**settings, "compute": {"gpu": "77"}, "model": {"local_path": "nowhere"}}
    assert refused(two, workspace).exit_code == EnvironmentFault.exit_code


def test_settings_are_checked_against_the_model(settings: dict[str, Any], workspace: Path) -> None:
    settings["data"]["max_seq_len"] = 4096
    settings["train"] = {"lora": {"target_modules": ["q_proj", "c_attn"]}}
    message = refused(settings, workspace).message
    assert "4,096 is longer than the 2,048 positions" in message
    assert "there is no linear layer 'c_attn'; the model has down_proj, gate_proj" in message


def test_a_broken_model_folder_is_told(settings: dict[str, Any], workspace: Path, tiny_model: Path) -> None:
    shutil.copytree(tiny_model, workspace / "broken")
    (workspace / "broken" / "model.safetensors").unlink()
    assert "no weights" in refused({**settings, "model": {"local_path": "broken"}}, workspace).message


def test_a_gated_model_without_a_token_is_told(
    settings: dict[str, Any], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    settings["model"] = {"repo": "meta-llama/Llama-3.2-1B-Instruct"}
    hint = refused(settings, workspace).hint
    assert "https://huggingface.co/meta-llama/Llama-3.2-1B-Instruct, then hf auth login, or set HF_TOKEN" in hint
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    (note,) = check(settings, workspace)
    assert "whether meta-llama/Llama-3.2-1B-Instruct can be downloaded is not known: no connection to the hub" in note
    summary = validate.run(StepContext(Config.model_validate(settings), Workspace(workspace))).summary
    assert "meta-llama/Llama-3.2-1B-Instruct is not here and is downloaded in step model, about 2." in summary


def test_offline_a_model_that_is_not_here_is_a_missing_artifact(
    settings: dict[str, Any], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    error = refused({**settings, "model": {}}, workspace)
    assert isinstance(error, MissingArtifact) and "HF_HUB_OFFLINE" in error.message


def test_a_few_bad_rows_are_told_and_no_good_row_is_an_error(settings: dict[str, Any], workspace: Path) -> None:
    write_jsonl(workspace / "rows.jsonl", [*GOOD, {"messages": [{"role": "robot", "content": "x"}]}])
    (note,) = check(settings, workspace)
    assert "1 of the first 6 rows" in note and "line 6" in note and "robot" in note
    write_jsonl(workspace / "rows.jsonl", [{"instruction": "a", "output": "b"}] * 3)
    assert check(settings, workspace) == []
    settings["data"]["schema"] = "chat_messages"
    error = refused(settings, workspace)
    assert "line 1" in error.message and "data.schema instruction_output" in error.hint
    settings["data"]["schema"] = "instruction_output"
    assert check(settings, workspace) == []


def test_unreadable_prompts_are_told_with_their_lines(settings: dict[str, Any], workspace: Path) -> None:
    (workspace / "prompts.jsonl").write_text('{"prompt": "a"}\n{\n')
    assert "line 2" in refused(settings, workspace).message


def test_too_little_room_is_told_before_anything_is_downloaded(
    settings: dict[str, Any], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    usage = shutil.disk_usage(workspace)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 30))
    assert check(settings, workspace) == []
    error = refused({**settings, "model": {}}, workspace)
    assert "has 1.0 GiB free, about 2.8 GiB are needed" in error.message and isinstance(error, EnvironmentFault)


def test_a_merged_model_without_room_is_told_before_anything_is_trained(
    settings: dict[str, Any], workspace: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**settings, "model": {"local_path": str(tiny_model)}}
    whole = shutil.disk_usage(workspace)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: whole._replace(free=8 << 20))
    assert check(settings, workspace) == []
    merged = {**settings, "export": {"formats": ["peft_adapter", "merged"]}}
    assert "are needed" in refused(merged, workspace).message
    there = workspace / "artifacts" / merged.get("project", "humigence") / "merged"
    there.mkdir(parents=True)
    (there / "model.safetensors").write_bytes(bytes(20 << 20))
    assert check(merged, workspace) == [], "the one it takes the place of gives its room"


def test_bf16_on_an_old_gpu_is_refused_with_the_mode_that_works(
    settings: dict[str, Any], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = gpu.Device("cuda", "NVIDIA T4", "GPU-1", 0, 16 << 30, 16 << 30, (7, 5))
    monkeypatch.setattr(validate, "choose_device", lambda _: old)
    settings["train"] = {"precision_mode": "lora_bf16"}
    error = refused(settings, workspace)
    assert "NVIDIA T4 has 7.5" in error.message and error.hint.endswith("lora_fp16")


def test_the_newest_run_is_judged_by_todays_thresholds(settings: dict[str, Any], workspace: Path) -> None:
    config = Config.model_validate(settings)
    run = store.create(Workspace(workspace), config, {})
    writer = EventWriter(run)
    writer.emit(ev.AttemptStarted(1, "humigence", "m", "qlora_nf4", True))
    writer.close()
    base, tokens = np.linspace(150, 250, 60), np.full(60, 100)
    val = made_up.figures(base, 0.9 * base, tokens)
    write_json(run.eval_report, {"val": val, "curated": [{"prompt": "p", "tuned_reasons": []}]})
    gates = [{"gate": "held-out loss", "verdict": "passed"}, {"gate": "curated answers", "verdict": "passed"}]
    write_json(run.acceptance_report, {"fingerprint": "", "gates": gates, "passed": True})
    assert check(settings, workspace) == []
    settings["acceptance"] = {"min_val_improvement_pct": 50}
    (note,) = check(settings, workspace)
    assert "held-out loss was passed; by today's thresholds it is failed" in note and run.run_id in note


_LIGHT_STEPS = """
import json, sys
from pathlib import Path
from pipeline.doctor.report import examine
from pipeline.config.schema import Config
from pipeline.runs.context import StepContext
from pipeline.runs.folders import Workspace
from pipeline.steps import model; from pipeline.steps import plan; from pipeline.steps import validate
ctx = StepContext(Config.model_validate(json.loads(sys.argv[1])), Workspace(Path.cwd()))
validate.run(ctx); plan.run(ctx); model.run(ctx); plan.is_unchanged(ctx); examine(Path.cwd())
print([name for name in ("torch", "transformers", "datasets", "peft", "gguf", "textual") if name in sys.modules])
"""


def test_no_weights_and_no_heavy_library_are_loaded_once_the_model_is_known(settings: dict[str, Any], workspace: Path) -> None:
    check(settings, workspace)  # its class is asked
    done = subprocess.run(
        [sys.executable, "-c", _LIGHT_STEPS, json.dumps(settings)],
        cwd=workspace, capture_output=True, text=True,
        env={"PYTHONPATH": IMPORT_PATH, "PATH": "/usr/bin:/bin", "XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"]},
        timeout=PATIENCE_S, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_a_model_without_a_chat_template_is_told_before_anything_is_loaded(settings: dict[str, Any], workspace: Path) -> None:
    plain = shutil.copytree(settings["model"]["local_path"], workspace / "plain")
    (plain / "chat_template.jinja").unlink()
    settings["model"]["local_path"] = str(plain)
    error = refused(settings, workspace)
    assert "data.template: plain has no chat template of its own" in error.message
    assert "data.template zephyr  (or alpaca)" in error.hint
    assert check(settings | {"data": settings["data"] | {"template": "zephyr"}}, workspace) == []
    error = refused(settings | {"data": settings["data"] | {"template": "chatml"}}, workspace)
    assert "data.template: chatml needs the special token <|im_start|>" in error.message


def test_rows_that_are_still_to_be_made_are_in_order_and_others_in_their_place_are_told(
    settings: dict[str, Any], workspace: Path
) -> None:
    place = "data/raw/generated.jsonl"
    made = settings | {"data": {"source": "generated", "raw_path": place}}
    assert check(made, workspace) == [] and not (workspace / place).exists()
    many = settings | {"data": {"source": "generated", "raw_path": place, "generate": {"rows": 90_000}}}
    assert "data.generate.rows" in refused(many, workspace).message
    (workspace / place).parent.mkdir(parents=True)
    shutil.copy(workspace / "rows.jsonl", workspace / place)
    assert f"{place} was there already and is not what data.generate would make" in check(made, workspace)[0]
    own = settings | {"data": {"source": "generated", "raw_path": "rows.jsonl"}}
    assert "a file of your own: its rows are used" in check(own, workspace)[0]
    misspelt = settings | {"data": {"source": "bundled", "raw_path": "row.jsonl"}}
    assert "row.jsonl: no such file" in refused(misspelt, workspace).message


def test_a_problem_that_several_checks_run_into_is_told_once(settings: dict[str, Any], workspace: Path, tiny_model: Path) -> None:
    base = Path(shutil.copytree(tiny_model, workspace / "base"))
    config = json.loads((base / "config.json").read_text())
    del config["num_attention_heads"]
    (base / "config.json").write_text(json.dumps(config))
    error = refused({**settings, "model": {"local_path": "base"}}, workspace)
    assert str(error).count("num_attention_heads is missing") == 1


def test_a_tokenizer_with_ids_beyond_the_embedding_is_refused(
    settings: dict[str, Any], workspace: Path, tiny_model: Path
) -> None:
    few = shutil.copytree(tiny_model, workspace / "few")
    config = json.loads((few / "config.json").read_text())
    (few / "config.json").write_text(json.dumps(config | {"vocab_size": 100}))
    settings["model"]["local_path"] = str(few)
    error = refused(settings, workspace)
    assert "few: its tokenizer gives ids up to" in error.message and "the embedding of the model has 100 rows" in error.message


def test_a_tokenizer_that_drops_the_text_is_refused_and_one_that_loses_little_is_told(
    settings: dict[str, Any], workspace: Path, tiny_model: Path
) -> None:
    # Without byte pieces what the vocabulary lacks is one unknown token.
    lossy = shutil.copytree(tiny_model, workspace / "lossy")
    document = json.loads((lossy / "tokenizer.json").read_text())
    document["model"]["byte_fallback"] = False
    (lossy / "tokenizer.json").write_text(json.dumps(document))
    settings["model"]["local_path"] = str(lossy)
    write_jsonl(workspace / "rows.jsonl", [chat_row("日本は?", "東京です。")] * 5)
    error = refused(settings, workspace)
    assert "the model's tokenizer does not give the text back: 10 of 10 texts, 100 % of their characters" in error.message
    write_jsonl(
        workspace / "rows.jsonl",
        [chat_row("The capital of France is Paris. " * 9, "The capital of France is Paris. " * 9 + "😀")] * 5,
    )
    (note,) = check(settings, workspace)
    assert "does not give all of the text back: 5 of 10 texts" in note and "its vocabulary has no tokens for it" in note
    assert check(settings, workspace) == [note], "it is told every time"


def test_a_word_level_tokenizer_read_as_another_class_is_refused(
    settings: dict[str, Any], workspace: Path, tiny_model: Path
) -> None:
    other = shutil.copytree(tiny_model, workspace / "other")
    words = {"<unk>": 0, "<s>": 1, "</s>": 2, "How": 3, "are": 4, "you?": 5, "Well,": 6, "thank": 7, "you.": 8}
    document = json.loads((other / "tokenizer.json").read_text())
    document |= {
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "<unk>"},
        "pre_tokenizer": {"type": "WhitespaceSplit"},
    }
    (other / "tokenizer.json").write_text(json.dumps(document | {"normalizer": None, "decoder": None}))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"model_type": "qwen2"}))
    named = json.loads((other / "tokenizer_config.json").read_text())
    del named["tokenizer_class"]
    (other / "tokenizer_config.json").write_text(json.dumps(named))
    settings["model"]["local_path"] = str(other)
    assert "10 of 10 texts, 100 % of their characters" in refused(settings, workspace).message
    assert "which transformers reads as Qwen2Tokenizer, drops or changes it" in refused(settings, workspace).message


def test_a_gguf_file_of_which_something_would_not_be_used_is_refused_before_it_is_loaded(
    settings: dict[str, Any], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    from tests import families
    from tests.pipeline.modeling import gguf_files

    monkeypatch.setenv("XDG_CACHE_HOME", str(workspace / "cache"))
    bias = np.ones(64, dtype=np.float32)
    path = gguf_files.save(
        "llama-2", families.build("llama-2"), workspace / "m.gguf", lambda writer: writer.add_tensor("blk.0.attn_q.bias", bias)
    )
    settings["model"]["local_path"] = str(path)
    assert "would not be used: blk.0.attn_q.bias" in refused(settings, workspace).message
