from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.base_model.locate import base_model_at
from pipeline.base_model.shape import read_shape
from pipeline.common.errors import BadInput, HumigenceError, MissingArtifact
from pipeline.config.schema import Config
from pipeline.dataset.estimate import estimate_figures
from pipeline.modeling import measure_footprint
from pipeline.planning import planner
from pipeline.planning.plan import read_plan
from pipeline.runs import events as ev
from pipeline.runs import store
from pipeline.runs.context import StepContext
from pipeline.runs.event_log import EventWriter
from pipeline.runs.events import Event, PlanMade
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.steps import plan, preprocess
from pipeline.system.gpu import cpu_device
from tests import families
from tests.conftest import chat_row, write_jsonl
from tests.hub import use_hub_home

ROWS = [chat_row(f"Question number {i}?", f"Answer number {i}, in a few more words.") for i in range(60)]


@pytest.fixture
def config(workspace: Path, tiny_model: Path) -> Config:
    write_jsonl(workspace / "rows.jsonl", ROWS)
    return Config.model_validate(
        {
            "model": {"local_path": str(tiny_model)},
            "compute": {"gpu": "cpu"},
            "data": {"raw_path": "rows.jsonl", "max_seq_len": 256},
        }
    )


def context(config: Config, root: Path, seen: list[Event] | None = None, run: RunFolder | None = None) -> StepContext:
    emit = seen.append if seen is not None else lambda _: None
    return StepContext(config, Workspace(root), run, emit)


def test_the_plan_is_an_estimate_before_the_data_is_prepared_and_exact_after(config: Config, workspace: Path) -> None:
    seen: list[Event] = []
    ctx = context(config, workspace, seen)
    result = plan.run(ctx)
    saved = workspace / "runs" / "humigence" / "training_plan.json"
    assert not read_plan(saved).exact and result.summary.startswith("≈")
    preprocess.run(ctx)
    result = plan.run(ctx)
    exact = read_plan(saved)
    found = planner.exact_figures(config, Workspace(workspace))
    assert exact.exact and found is not None and exact.rows_per_epoch == found.rows and "≈" not in result.summary
    assert [event.exact for event in seen if isinstance(event, PlanMade)] == [False, True]


def test_what_the_layers_of_a_family_without_a_formula_save_is_asked_of_its_class_once(
    config: Config, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(workspace / "cache"))
    families.save("lfm2", workspace / "hybrid", max_position_embeddings=512)
    settings = config.model_dump(mode="json") | {"model": {"local_path": "hybrid"}}
    settings["train"]["lora"]["target_modules"] = ["q_proj", "v_proj", "out_proj"]
    config = Config.model_validate(settings)
    before = planner.known_shape(config, Workspace(workspace))
    assert before is not None and not before.footprints
    plan.run(context(config, workspace))
    asked = planner.known_shape(config, Workspace(workspace))
    assert asked is not None and asked.footprints and asked == before
    made = planner.plan_for(config, Workspace(workspace), asked, cpu_device())
    assert read_plan(workspace / "runs" / "humigence" / "training_plan.json").memory == made.memory
    assert (
        made.memory["activations"] != planner.plan_for(config, Workspace(workspace), before, cpu_device()).memory["activations"]
    )

    monkeypatch.setattr(measure_footprint, "measured", lambda *_, **__: pytest.fail("asked again"))
    plan.run(context(config, workspace))


def test_a_class_that_cant_be_asked_is_planned_by_an_estimate_that_says_so(
    config: Config, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(workspace / "cache"))
    families.save("lfm2", workspace / "hybrid", max_position_embeddings=512)
    settings = config.model_dump(mode="json") | {"model": {"local_path": "hybrid"}}
    settings["train"]["lora"]["target_modules"] = ["q_proj"]

    def broken(*_: object, **__: object) -> None:
        raise NotImplementedError("no kernel for this")

    monkeypatch.setattr(measure_footprint, "measured", broken)
    seen: list[Event] = []
    plan.run(context(Config.model_validate(settings), workspace, seen))
    notes = [event.text for event in seen if isinstance(event, ev.Note)]
    assert any("estimate" in note and "no kernel for this" in note for note in notes)


def test_the_estimate_is_of_the_size_of_what_is_counted(config: Config, workspace: Path) -> None:
    guess = estimate_figures(config, Workspace(workspace))
    preprocess.run(context(config, workspace))
    exact = planner.exact_figures(config, Workspace(workspace))
    assert exact is not None
    assert abs(guess.conversations - exact.conversations) <= 2
    # The tiny tokenizer knows few words, so it needs more tokens than a real one.
    assert exact.tokens / 4 <= guess.tokens <= exact.tokens * 4


def test_a_long_file_is_estimated_from_its_first_lines(config: Config, workspace: Path) -> None:
    write_jsonl(workspace / "rows.jsonl", [chat_row("What is that?", "It is this.")] * 5000)
    assert estimate_figures(config, Workspace(workspace)).conversations == 4000


def test_without_usable_rows_the_reason_is_told(config: Config, workspace: Path) -> None:
    write_jsonl(workspace / "rows.jsonl", [{"note": "x"}])
    with pytest.raises(BadInput, match=r"none of the first|no schema"):
        plan.run(context(config, workspace))
    (workspace / "rows.jsonl").write_text("\n")
    with pytest.raises(BadInput, match="no row"):
        plan.run(context(config, workspace))
    (workspace / "rows.jsonl").unlink()
    with pytest.raises(BadInput, match=r"rows\.jsonl: no such file"):
        plan.run(context(config, workspace))


def test_a_curated_model_is_planned_before_it_is_downloaded(
    config: Config, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub_home(monkeypatch, workspace / "hf")
    curated = config.model_copy(update={"model": Config().model})
    plan.run(context(curated, workspace))
    assert read_plan(workspace / "runs" / "humigence" / "training_plan.json").memory["weights"] > 600 << 20


def test_an_unknown_model_is_planned_after_its_download(config: Config, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub_home(monkeypatch, workspace / "hf")
    unknown = Config.model_validate({**config.to_json(), "model": {"repo": "owner/name"}})
    with pytest.raises(MissingArtifact, match="owner/name") as error:
        plan.run(context(unknown, workspace))
    assert error.value.hint == "humigence model download"
    run = store.create(Workspace(workspace), unknown, {})
    assert plan.run(context(unknown, workspace, run=run)).outcome == "done"
    assert not run.plan.exists()


def test_a_run_s_plan_is_unchanged_until_what_it_was_made_from_changes(config: Config, workspace: Path) -> None:
    run = store.create(Workspace(workspace), config, {})
    ctx = context(config, workspace, run=run)
    assert not plan.is_unchanged(ctx)
    plan.run(ctx)
    assert not plan.is_unchanged(ctx), "an estimate does not stand"
    preprocess.run(ctx)
    plan.run(ctx)
    assert plan.is_unchanged(ctx)
    other = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 2.0})})
    assert not plan.is_unchanged(context(other, workspace, run=run))
    write_jsonl(workspace / "rows.jsonl", ROWS[:30])
    assert not plan.is_unchanged(ctx)


def test_time_comes_from_a_finished_run_of_the_same_kind_only(config: Config, workspace: Path) -> None:
    device = cpu_device()
    path = config.model.local_path or ""
    shape = read_shape(base_model_at(Path(path)))

    def seconds() -> float:
        return planner.plan_for(config, Workspace(workspace), shape, device).seconds

    def finished(precision_mode: str, *, ended: bool = True) -> None:
        run = store.create(Workspace(workspace), config, {})
        writer = EventWriter(run)
        writer.emit(ev.AttemptStarted(1, "humigence", path, precision_mode, True, device.name))
        writer.emit(ev.TrainStep(1, 1, 1.0, 2.0, 1e-4, 1.0, tokens=500, trained_tokens=200, seconds=2.0))
        if ended:
            writer.emit(ev.TrainEnded(1, 1, 2.0, 2.0, 500, 0))
        writer.close()

    finished("lora_fp16")
    finished("qlora_nf4", ended=False)
    assert seconds() == 0
    finished("qlora_nf4")
    tokens = planner.plan_for(config, Workspace(workspace), shape, device).train_tokens
    assert seconds() == pytest.approx(tokens / 250)


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"train": {"lora": {"target_modules": ["q_proj", "v_porj"]}}}, "there is no linear layer 'v_porj'"),
        ({"data": {"raw_path": "rows.jsonl", "max_seq_len": 65_536}}, "data.max_seq_len: 65,536 is longer"),
        ({"data": {"raw_path": "row.jsonl"}}, "row.jsonl: no such file"),
        ({"eval": {"curated_prompts_path": "prompts.jsonl"}}, "prompts.jsonl"),
    ],
)
def test_a_config_that_validate_refuses_gets_no_plan(
    config: Config, workspace: Path, section: dict[str, dict[str, object]], told: str
) -> None:
    wrong = Config.model_validate(config.to_json() | section)
    with pytest.raises(HumigenceError) as refused:
        plan.run(context(wrong, workspace))
    assert told in str(refused.value)
    assert not (workspace / "runs").exists()


def test_layers_a_curated_model_does_not_have_are_refused_before_it_is_here(config: Config, workspace: Path) -> None:
    """Their plan would say that 0 M parameters are trained."""
    changes = {"model": {"repo": "TinyLlama/TinyLlama-1.1B-Chat-v1.0"}, "train": {"lora": {"target_modules": ["query"]}}}
    with pytest.raises(BadInput, match="there is no linear layer 'query'"):
        plan.run(context(Config.model_validate(config.to_json() | changes), workspace))
