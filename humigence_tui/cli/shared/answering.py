"""A packaged model, or a base model alone, loaded to answer in the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from humigence_tui.cli.shared.output import print_message
from pipeline.base_model.locate import require_base_model
from pipeline.common.errors import BadInput
from pipeline.config.schema import Config
from pipeline.export import packaged
from pipeline.export.package_folder import MANIFEST
from pipeline.runs.folders import Workspace
from pipeline.system import gpu

if TYPE_CHECKING:
    from pipeline.modeling.generate import Narrowing
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer
    from pipeline.tokenization.messages import Message


System = Annotated[str, typer.Option("--system", metavar="TEXT", help="A system message before the question.")]
TopP = Annotated[
    float,
    typer.Option("--top-p", min=0.01, max=1, help="With a temperature: only the likeliest tokens that together have this share."),
]
TopK = Annotated[int, typer.Option("--top-k", min=0, help="With a temperature: only so many of the likeliest tokens; 0 for all.")]
RepetitionPenalty = Annotated[
    float, typer.Option("--repetition-penalty", min=1, max=5, help="Above 1 makes tokens that were written already less likely.")
]
Stop = Annotated[list[str] | None, typer.Option("--stop", metavar="TEXT", help="Where an answer ends, once or more often.")]


def question(text: str, system: str = "") -> list[Message]:
    """A conversation that a person has just begun."""
    before: list[Message] = [{"role": "system", "content": system}] if system else []
    return [*before, {"role": "user", "content": text}]


def package_folder(here: Workspace, settings: Config, project: str | None, artifacts: str | None) -> Path:
    if artifacts is not None:
        return here.resolve(artifacts)
    return here.resolve(settings.export.artifacts_dir) / (project or settings.project)


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn: see `generate.Narrowing` for what a temperature above 0 is narrowed by."""

    max_new_tokens: int
    temperature: float
    seed: int
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    stops: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.temperature == 0 and (self.top_k or self.top_p < 1):
            raise BadInput(
                "--top-p and --top-k choose whom chance may take, and a temperature of 0 leaves nothing to it",
                "--temperature 0.7",
            )
        if any(not stop for stop in self.stops):
            raise BadInput("--stop is empty", "--stop '###'")

    def narrowing(self) -> Narrowing:
        from pipeline.modeling.generate import Narrowing

        return Narrowing(self.top_k, self.top_p, self.repetition_penalty)


@dataclass(frozen=True)
class Loaded:
    """A model that answers; `without_adapter` sets its adapter aside."""

    model: Any
    tokenizer: ChatTokenizer
    without_adapter: bool

    def pieces(self, messages: Sequence[Message], how: Sampling) -> Iterator[str]:
        """The answer to a conversation as it comes."""
        from pipeline.modeling.generate import stream, until_stopped

        prompt = self.tokenizer.encode_prompt(list(messages))
        with self._side():
            answer = stream(
                self.model, self.tokenizer, prompt, how.max_new_tokens, how.temperature, how.seed, narrowing=how.narrowing()
            )
            yield from until_stopped(answer, how.stops) if how.stops else answer

    def answers(self, conversations: Sequence[Sequence[Message]], how: Sampling) -> list[str]:
        from pipeline.modeling.generate import generate_batch, until_stopped

        ids = [self.tokenizer.encode_prompt(list(each)) for each in conversations]
        with self._side():
            found = generate_batch(
                self.model, self.tokenizer, ids, how.max_new_tokens, how.temperature, how.seed, narrowing=how.narrowing()
            )
        return ["".join(until_stopped(iter([each]), how.stops)) for each in found]

    def _side(self) -> AbstractContextManager[Any]:
        return self.model.disable_adapter() if self.without_adapter else nullcontext()


def loaded(here: Workspace, settings: Config, folder: Path, *, base: bool) -> Loaded:
    """The package in `folder`, its base with the adapter set aside, or the config's base before anything is packaged."""
    alone = base and not (folder / MANIFEST).exists()
    return base_alone(here, settings) if alone else _packaged(settings, folder, base)


def _packaged(settings: Config, folder: Path, without_adapter: bool) -> Loaded:
    """The packaged model, or its base with the adapter set aside."""
    found = packaged.read_packaged(folder)
    if found.warning:
        print_message(found.warning, "amber")
    device = _device(settings, found.base.name)
    from pipeline.export.load import load_packaged

    return Loaded(*load_packaged(found, device), without_adapter)


def base_alone(here: Workspace, settings: Config) -> Loaded:
    """The config's base model, before anything is packaged."""
    base = require_base_model(settings, here)
    device = _device(settings, base.name)
    from pipeline.modeling.load import load_base
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

    return Loaded(load_base(base, settings.train.precision_mode, device), ChatTokenizer.load(base), without_adapter=False)


def _device(settings: Config, name: str) -> gpu.Device:
    """The device to answer on; printed before the libraries load, which takes seconds."""
    device = gpu.choose_device(settings.compute.gpu)
    gpu.see_only(device)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if sys.stderr.isatty():
        print_message(f"loading {name} on {device.name}", "dim")
    return device
