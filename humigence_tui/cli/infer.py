"""`humigence infer`: one answer, streamed to standard output, or the answers to several prompts, in batches."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from humigence_tui.cli.shared.options import DEFAULT_CONFIG, AsJson, ConfigPath, open_project
from humigence_tui.cli.shared.output import out_json, out_json_line, out_piece, print_message
from pipeline.base_model.locate import require_base_model
from pipeline.common.errors import BadInput
from pipeline.config.schema import Config
from pipeline.dataset.readers.file_check import require_readable
from pipeline.dataset.readers.registry import reader_of
from pipeline.export import packaged
from pipeline.export.package_folder import MANIFEST
from pipeline.runs.folders import Workspace
from pipeline.system import gpu

if TYPE_CHECKING:
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

app = typer.Typer(add_completion=False, rich_markup_mode=None)

# Far more than any context; a file piped in by mistake is refused before the model is loaded.
_MOST_CHARACTERS = 1_000_000
# Answered before the first of them is printed: a few batches, so that neighbours in length can be answered together.
_AT_ONCE = 64


@app.command()
def infer(
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", "-m", metavar="TEXT", help="What to ask, once or more often; - reads it from standard input."),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", metavar="FILE", help='JSONL of {"prompt": "…"}; answered in batches.')
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    project: Annotated[str | None, typer.Option("--project", "-p", metavar="NAME", help="Whose package; the config's.")] = None,
    artifacts: Annotated[str | None, typer.Option("--artifacts", metavar="FOLDER", help="A package anywhere.")] = None,
    temperature: Annotated[float, typer.Option("--temperature", min=0, max=5, help="0 takes the likeliest token.")] = 0.0,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, max=8192, help="Longest answer, in tokens.")] = 256,
    seed: Annotated[int, typer.Option("--seed", min=0, help="With a temperature: the same seed, the same answer.")] = 42,
    base: Annotated[bool, typer.Option("--base", help="Ask the base model, without the adapter.")] = False,
    as_json: AsJson = False,
) -> None:
    """The adapter is loaded on its base model in the precision it was trained in."""
    asked = [*(_asked(each) for each in prompt or ()), *(_prompts_of(prompts) if prompts else ())]
    if not asked:
        raise BadInput("there is no prompt", 'humigence infer --prompt "Explain overfitting simply."')
    here, settings = open_project(config)
    folder = _package_folder(here, settings, project, artifacts)
    alone = base and not (folder / MANIFEST).exists()
    loaded = _base_alone(here, settings) if alone else _packaged(settings, folder, base)
    how = _Sampling(max_new_tokens, temperature, seed)
    side = "base" if base else "tuned"
    if len(asked) == 1 and prompts is None:
        _print_answer(asked[0], loaded.pieces(asked[0], how), side, as_json)
    else:
        _print_answers(asked, loaded, how, side, as_json)


def _print_answer(asked: str, pieces: Iterator[str], side: str, as_json: bool) -> None:
    if as_json:
        out_json({"prompt": asked, "answer": "".join(pieces), "model": side})
        return
    for piece in pieces:
        out_piece(piece)
    out_piece("\n")


def _print_answers(asked: list[str], loaded: _Loaded, how: _Sampling, side: str, as_json: bool) -> None:
    """JSON Lines, or each prompt quoted above its answer."""
    for start in range(0, len(asked), _AT_ONCE):
        several = asked[start : start + _AT_ONCE]
        for text, answer in zip(several, loaded.answers(several, how), strict=True):
            if as_json:
                out_json_line({"prompt": text, "answer": answer, "model": side})
            else:
                quoted = "\n".join(f"> {line}" for line in text.splitlines())
                out_piece(f"{quoted}\n\n{answer}\n\n")


def _asked(prompt: str) -> str:
    text = sys.stdin.read(_MOST_CHARACTERS + 1) if prompt == "-" else prompt
    if not text.strip():
        raise BadInput("the prompt is empty", 'humigence infer --prompt "Explain overfitting simply."')
    if len(text) > _MOST_CHARACTERS:
        raise BadInput(f"the prompt is longer than {_MOST_CHARACTERS:,} characters")
    return text.rstrip("\n") if prompt == "-" else text


def _prompts_of(file: Path) -> list[str]:
    """Raises `BadInput` with the lines that are no prompt."""
    require_readable(file, "--prompts")
    prompts, problems, reader = list[str](), list[str](), reader_of(file)
    for raw in reader.rows(file):
        text = raw.row.get("prompt")
        if isinstance(text, str) and text.strip() and len(text) <= _MOST_CHARACTERS:
            prompts.append(text)
        else:
            reason = raw.problem or 'no "prompt" with text in it'
            problems.append(f"{raw.where(reader.unit)}: {reason}")
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems[:20])
        raise BadInput(f"{file}: {len(problems)} unreadable\n{listed}", 'a line is {"prompt": "…"}')
    if not prompts:
        raise BadInput(f"{file}: there is no prompt in it", 'a line is {"prompt": "…"}')
    return prompts


def _package_folder(here: Workspace, settings: Config, project: str | None, artifacts: str | None) -> Path:
    if artifacts is not None:
        return here.resolve(artifacts)
    return here.resolve(settings.export.artifacts_dir) / (project or settings.project)


@dataclass(frozen=True)
class _Sampling:
    max_new_tokens: int
    temperature: float
    seed: int


@dataclass(frozen=True)
class _Loaded:
    """A model that answers; `without_adapter` sets its adapter aside."""

    model: Any
    tokenizer: ChatTokenizer
    without_adapter: bool

    def pieces(self, text: str, how: _Sampling) -> Iterator[str]:
        from pipeline.modeling.generate import stream, user_prompt

        prompt = user_prompt(self.tokenizer, text)
        with self._side():
            yield from stream(self.model, self.tokenizer, prompt, how.max_new_tokens, how.temperature, how.seed)

    def answers(self, texts: list[str], how: _Sampling) -> list[str]:
        from pipeline.modeling.generate import generate_batch, user_prompt

        ids = [user_prompt(self.tokenizer, text) for text in texts]
        with self._side():
            return generate_batch(self.model, self.tokenizer, ids, how.max_new_tokens, how.temperature, how.seed)

    def _side(self) -> AbstractContextManager[Any]:
        return self.model.disable_adapter() if self.without_adapter else nullcontext()


def _packaged(settings: Config, folder: Path, without_adapter: bool) -> _Loaded:
    """The packaged model, or its base with the adapter set aside."""
    found = packaged.read_packaged(folder)
    if found.warning:
        print_message(found.warning, "amber")
    device = _device(settings, found.base.name)
    from pipeline.export.load import load_packaged

    return _Loaded(*load_packaged(found, device), without_adapter)


def _base_alone(here: Workspace, settings: Config) -> _Loaded:
    """The config's base model, before anything is packaged."""
    base = require_base_model(settings, here)
    device = _device(settings, base.name)
    from pipeline.modeling.load import load_base
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

    return _Loaded(load_base(base, settings.train.precision_mode, device), ChatTokenizer.load(base), without_adapter=False)


def _device(settings: Config, name: str) -> gpu.Device:
    """The device to answer on; printed before the libraries load, which takes seconds."""
    device = gpu.choose_device(settings.compute.gpu)
    gpu.see_only(device)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if sys.stderr.isatty():
        print_message(f"loading {name} on {device.name}", "dim")
    return device
