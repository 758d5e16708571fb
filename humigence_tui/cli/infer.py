"""`humigence infer`: one answer, streamed to standard output, or the answers to several prompts, in batches."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from humigence_tui.cli.shared.answering import (
    Loaded,
    RepetitionPenalty,
    Sampling,
    Stop,
    System,
    TopK,
    TopP,
    loaded,
    package_folder,
    question,
)
from humigence_tui.cli.shared.options import DEFAULT_CONFIG, AsJson, ConfigPath, open_project
from humigence_tui.cli.shared.output import out_json, out_json_line, out_piece
from pipeline.common.errors import BadInput
from pipeline.dataset.readers.file_check import require_readable
from pipeline.dataset.readers.registry import reader_of

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
    system: System = "",
    top_p: TopP = 1.0,
    top_k: TopK = 0,
    repetition_penalty: RepetitionPenalty = 1.0,
    stop: Stop = None,
    as_json: AsJson = False,
) -> None:
    """The adapter is loaded on its base model in the precision it was trained in."""
    asked = [*(_asked(each) for each in prompt or ()), *(_prompts_of(prompts) if prompts else ())]
    if not asked:
        raise BadInput("there is no prompt", 'humigence infer --prompt "Explain overfitting simply."')
    how = Sampling(max_new_tokens, temperature, seed, top_k, top_p, repetition_penalty, tuple(stop or ()))
    here, settings = open_project(config)
    model = loaded(here, settings, package_folder(here, settings, project, artifacts), base=base)
    side = "base" if base else "tuned"
    if len(asked) == 1 and prompts is None:
        _print_answer(asked[0], model.pieces(question(asked[0], system), how), side, as_json)
    else:
        _print_answers(asked, model, system, how, side, as_json)


def _print_answer(asked: str, pieces: Iterator[str], side: str, as_json: bool) -> None:
    if as_json:
        out_json({"prompt": asked, "answer": "".join(pieces), "model": side})
        return
    for piece in pieces:
        out_piece(piece)
    out_piece("\n")


def _print_answers(asked: list[str], model: Loaded, system: str, how: Sampling, side: str, as_json: bool) -> None:
    """JSON Lines, or each prompt quoted above its answer."""
    for start in range(0, len(asked), _AT_ONCE):
        several = asked[start : start + _AT_ONCE]
        answers = model.answers([question(text, system) for text in several], how)
        for text, answer in zip(several, answers, strict=True):
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
