"""`humigence chat`: a conversation with the packaged model, in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
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
from humigence_tui.cli.shared.options import DEFAULT_CONFIG, ConfigPath, open_project
from humigence_tui.cli.shared.output import out_piece, print_message
from pipeline.common.errors import BadInput
from pipeline.tokenization.messages import Message

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_HELP = "/new begins again, /system TEXT gives a system message, /undo takes back a question and its answer, /end or Ctrl-D ends"
_MOST_CHARACTERS = 1_000_000


@app.command()
def chat(
    config: ConfigPath = DEFAULT_CONFIG,
    project: Annotated[str | None, typer.Option("--project", "-p", metavar="NAME", help="Whose package; the config's.")] = None,
    artifacts: Annotated[str | None, typer.Option("--artifacts", metavar="FOLDER", help="A package anywhere.")] = None,
    system: System = "",
    temperature: Annotated[float, typer.Option("--temperature", min=0, max=5, help="0 takes the likeliest token.")] = 0.0,
    top_p: TopP = 1.0,
    top_k: TopK = 0,
    repetition_penalty: RepetitionPenalty = 1.0,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, max=8192, help="Longest answer, in tokens.")] = 512,
    seed: Annotated[int, typer.Option("--seed", min=0, help="With a temperature: the same seed, the same answers.")] = 42,
    stop: Stop = None,
    base: Annotated[bool, typer.Option("--base", help="Talk to the base model, without the adapter.")] = False,
) -> None:
    """A line is a question. Answers are streamed to standard output, and the conversation is kept until /new.

    Ctrl-C ends an answer, not the conversation.
    """
    how = Sampling(max_new_tokens, temperature, seed, top_k, top_p, repetition_penalty, tuple(stop or ()))
    here, settings = open_project(config)
    model = loaded(here, settings, package_folder(here, settings, project, artifacts), base=base)
    print_message(_HELP, "dim")
    talk = Talk(model, how, system)
    for line in _lines():
        if not talk.take(line):
            return


def _lines() -> Iterator[str]:
    """What a person types, until the end of standard input."""
    while True:
        if sys.stdin.isatty():
            sys.stderr.write("> ")
            sys.stderr.flush()
        line = sys.stdin.readline(_MOST_CHARACTERS + 1)
        if not line:
            return
        yield line.strip()


class Talk:
    """A conversation.

    Args:
        system: a message before the first question; none where empty.
    """

    def __init__(self, model: Loaded, how: Sampling, system: str) -> None:
        self._model, self._how, self._system = model, how, system
        self._turns: list[Message] = []

    def take(self, line: str) -> bool:
        """Answer a question, or do what a line that begins with / says; False where it ends the conversation."""
        word, _, rest = line.partition(" ")
        if word == "/end":
            return False
        if word == "/new":
            self._turns = []
        elif word == "/undo":
            self._turns = self._turns[:-2]
        elif word == "/system":
            self._system, self._turns = rest.strip(), []
        elif word.startswith("/"):
            print_message(_HELP, "dim")
        elif line:
            self._answer(line)
        return True

    def _answer(self, line: str) -> None:
        asked: list[Message] = [*question("", self._system)[:-1], *self._turns, {"role": "user", "content": line}]
        said = ""
        try:
            for piece in self._model.pieces(asked, self._how):
                out_piece(piece)
                said += piece
        except KeyboardInterrupt:
            print_message("(ended)", "dim")
        except BadInput as error:  # the template refuses it: the conversation goes on without
            print_message(error.message, "amber")
            return
        out_piece("\n")
        self._turns = [*self._turns, {"role": "user", "content": line}, {"role": "assistant", "content": said}]
