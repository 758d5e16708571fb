"""Where things lie: the workspace, and the names in a run's folder. Paths only, so that anything may import it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # pydantic is a fifth of a second, and a list of runs needs none of it
    from pipeline.config.schema import Config

# What an adapter is made of, in a checkpoint and in a package, as peft calls it.
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
# The folder of the merged model in a package: beside an adapter, transformers would add that once more.
MERGED = "merged"


@dataclass(frozen=True)
class Workspace:
    """The folder a person works in: where `runs`, `data` and `artifacts` live."""

    root: Path

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    def project(self, name: str) -> Path:
        return self.runs / name

    def project_lock(self, name: str) -> Path:
        """Held by the worker of the project's live run: one run at a time in a project."""
        return self.project(name) / ".lock"

    def start_lock(self, name: str) -> Path:
        """Held by whoever chooses which run of the project to work in, until a worker holds the project."""
        return self.project(name) / ".start.lock"

    def resolve(self, path: str) -> Path:
        """A path of the config: absolute, or relative to the workspace."""
        return self.root / os.path.expanduser(path)  # Path.expanduser raises for a user who is not there


@dataclass(frozen=True)
class RunFolder:
    """`runs/<project>/<run id>` and the names in it."""

    path: Path

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def project(self) -> str:
        return self.path.parent.name

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def meta(self) -> Path:
        return self.path / "meta.json"

    @property
    def output_log(self) -> Path:
        return self.path / "output.log"

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def base_model(self) -> Path:
        return self.path / "base_model.json"

    @property
    def preprocess_report(self) -> Path:
        return self.path / "preprocess.json"

    @property
    def train_report(self) -> Path:
        return self.path / "train_report.json"

    @property
    def eval_report(self) -> Path:
        return self.path / "eval_report.json"

    @property
    def acceptance_report(self) -> Path:
        return self.path / "acceptance_report.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def lock(self) -> Path:
        return self.path / ".lock"

    @property
    def stop_request(self) -> Path:
        return self.path / "stop"

    def load_config(self) -> Config:
        """The config as it was resolved when the run was made."""
        from pipeline.config.file import parse, read_document

        return parse(read_document(self.config), str(self.config))
