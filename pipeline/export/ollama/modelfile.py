"""Ollama's `Modelfile`: which file, how it is spoken to, where an answer ends, how it was evaluated."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import BadInput
from pipeline.export.ollama.dialogue import Dialogue, NotExpressed, learn
from pipeline.export.ollama.go_template import go_template

if TYPE_CHECKING:
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer
    from pipeline.tokenization.messages import Message

_HINT = "take ollama out of export.formats; a gguf file carries the chat template itself, for llama.cpp and LM Studio"


@dataclass(frozen=True)
class Spoken:
    """How a model is spoken to, as Ollama can say it.

    Attributes:
        bos: what llama.cpp puts before a prompt itself, so that the template doesn't; empty where it doesn't.
        dated: the template writes the day, which Ollama's can't: it is that of the export.
    """

    dialogue: Dialogue
    bos: str
    dated: bool

    @property
    def template(self) -> str:
        return go_template(self.dialogue)

    def text(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """What Ollama makes of messages. Raises KeyError where it refuses them."""
        return self.dialogue.text(messages)


def spoken(tokenizer: ChatTokenizer) -> Spoken:
    """How Ollama speaks to a model.

    Raises:
        BadInput: its chat template can't be said in Go's language, with the reason.
    """
    bos = tokenizer.bos_of_prompts

    def render(messages: Sequence[Mapping[str, str]]) -> str | None:
        said: list[Message] = [{"role": each["role"], "content": each["content"]} for each in messages]
        try:
            text = tokenizer.render(said)
        except BadInput:
            return None
        return text.removeprefix(bos)

    try:
        return Spoken(learn(render), bos, tokenizer.writes_the_time)
    except NotExpressed as error:
        raise BadInput(f"{tokenizer.name}: its chat template can't be said in Ollama's language: {error}", _HINT) from error


def modelfile(file: str, how: Spoken, stops: Sequence[str], temperature: float) -> str:
    """The text of a Modelfile.

    Args:
        file: the GGUF beside it.
        stops: texts of the tokens that end an answer.
        temperature: of the evaluation; 0 always takes the likeliest token.
    """
    parameters = {"temperature": f"{temperature:g}", "top_k": "0", "top_p": "1", "min_p": "0", "repeat_penalty": "1"}
    lines = [
        f"FROM ./{file}",
        f'TEMPLATE """{how.template}"""',
        *(f"PARAMETER stop {_quoted(each)}" for each in stops if _can_be_said(each)),
        "# as it was evaluated",
        *(f"PARAMETER {name} {value}" for name, value in parameters.items()),
    ]
    return "\n".join(lines) + "\n"


def _can_be_said(stop: str) -> bool:
    """The file ends answers by their tokens; what can't be written here ends them all the same."""
    return stop.isprintable() and '"' not in stop and bool(stop.strip())


def _quoted(text: str) -> str:
    return f'"{text}"'


def model_name(project: str) -> str:
    """What the model may be called in Ollama."""
    return re.sub(r"[^a-z0-9._-]+", "-", project.lower()).strip("-._") or "model"
