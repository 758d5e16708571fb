"""All that makes a run's adapter once more, in a folder: its config, what its data and base model are, versions, the result.

On the same machine with the same versions the adapter comes out the same to the bit; elsewhere the device, or a library, may sum
in another order, and the difference is told.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.common.errors import BadInput
from pipeline.common.files import read_json, write_json
from pipeline.config.schema import Config
from pipeline.dataset.readers.files import is_pattern
from pipeline.runs import provenance, trained
from pipeline.runs.context import StepContext
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.runs.store import read_report

CONFIG, RECIPE, CONSTRAINTS = "config.json", "recipe.json", "constraints.txt"
_OF_DATA = ("raw_path", "raw_sha256", "schema", "hub", "hub_sources", "sources")
# Settings that are paths: the file that is there today is named by where it is.
_PATHS = (
    ("model", "local_path"), ("data", "raw_path"), ("data", "val_path"), ("data", "test_path"), ("data", "template"),
    ("eval", "curated_prompts_path"), ("eval", "lm_eval_tasks"),
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """What a run was made of and what came out.

    Attributes:
        adapter_sha256: of the best checkpoint's weights.
        data: of the run's report of preprocess.
        base: fingerprints of the base model's weights and tokenizer.
        made_with: the start that trained (`provenance`).
    """

    run: str
    adapter_sha256: str
    data: dict[str, Any]
    base: dict[str, Any]
    made_with: dict[str, Any] = field(default_factory=dict)


def write_recipe(workspace: Workspace, run: RunFolder, folder: Path) -> None:
    """Fill a new folder.

    Raises:
        MissingArtifact: the run was not trained to its end.
        BadInput: the folder is there already, or can't be made.
    """
    config = run.load_config()
    recipe = _recipe(StepContext(config, workspace, run), run)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise BadInput(f"{folder} can't be made: {error.strerror}", "humigence reproduce RUN --output FOLDER") from error
    write_json(folder / CONFIG, _with_whole_paths(config, workspace))
    write_json(folder / RECIPE, vars(recipe))
    (folder / CONSTRAINTS).write_text(_constraints(recipe.made_with), encoding="utf-8")
    (folder / "README.md").write_text(_readme(recipe, folder.name), encoding="utf-8")


def _recipe(ctx: StepContext, run: RunFolder) -> Recipe:
    report = read_report(run.preprocess_report) or {}
    return Recipe(
        run=f"{run.project}/{run.run_id}",
        adapter_sha256=trained.require_trained(ctx).adapter_sha256(),
        data={key: report[key] for key in _OF_DATA if key in report},
        base=read_report(run.base_model) or {},
        made_with=provenance.of_training(provenance.starts(run)),
    )


def _with_whole_paths(config: Config, workspace: Workspace) -> dict[str, Any]:
    document = config.to_json()
    for section, key in _PATHS:
        value = document.get(section, {}).get(key)
        if not isinstance(value, str) or not value:
            continue
        whole = workspace.resolve(value)
        if whole.exists() or is_pattern(value):
            document[section][key] = str(whole.absolute())
    for source in document.get("data", {}).get("sources") or ():
        if source.get("path"):
            source["path"] = str(workspace.resolve(source["path"]).absolute())
    return document


def _constraints(made_with: dict[str, Any]) -> str:
    packages: dict[str, Any] = made_with.get("packages") or {}
    # A local version (+cpu, +cu128) says which index it came from, and no index has it under that name.
    pinned = [f"{name}=={str(version).partition('+')[0]}" for name, version in packages.items() if version]
    return "".join(f"{line}\n" for line in pinned)


def _readme(recipe: Recipe, name: str) -> str:
    made = recipe.made_with
    code = (made.get("code") or {}).get("commit") or "an installed package"
    rows = recipe.data.get("hub") or {}
    where = f"the data set {rows['repo']}, commit {rows['commit']}" if rows else f"`{recipe.data.get('raw_path', '')}`"
    return f"""# {recipe.run}, once more

    pip install humigence=={made.get("humigence", __version__)} -c {CONSTRAINTS}
    humigence reproduce --run {name}

trains by `{CONFIG}` and compares the adapter with the one that came out then, sha256 `{recipe.adapter_sha256}`.

* rows: {where}, sha256 `{recipe.data.get("raw_sha256", "not recorded")}`
* base model: fingerprints in `{RECIPE}`; the place in `{CONFIG}` is where it was
* Humigence {made.get("humigence", "?")}, code {code}, Python {made.get("python", "?")}, {made.get("device", "?")}

On the same machine with the same versions the adapter is the same to the bit. Another device or library sums in another order.
"""


def read_recipe(folder: Path) -> tuple[Recipe, Config]:
    """What `write_recipe` wrote. Raises `BadInput` where it did not."""
    try:
        recipe = Recipe(**read_json(folder / RECIPE))
        return recipe, Config.model_validate(read_json(folder / CONFIG))
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{folder} holds no recipe of a run", "humigence reproduce RUN writes one") from error


def differences(recipe: Recipe, run: RunFolder) -> list[str]:
    """What of a new run is not as it was, in sentences; of data and base model only what is known to differ."""
    now = read_report(run.preprocess_report) or {}
    found = []
    if recipe.data.get("raw_sha256") and now.get("raw_sha256") not in (None, recipe.data["raw_sha256"]):
        found.append("the rows are others than they were")
    if recipe.base and (read_report(run.base_model) or recipe.base) != recipe.base:
        found.append("the base model is another than it was")
    entry = provenance.of_training(provenance.starts(run))
    return found + provenance.differences([recipe.made_with, entry])
