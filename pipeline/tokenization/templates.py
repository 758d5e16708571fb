"""Chat templates by name, for a base model that has none of its own or is to be trained with another.

A template writes the role headers and ends each turn with a special token of the model's vocabulary: only such a token can
teach a model to stop. What it needs of the vocabulary is told here from the model's files; that answers can be masked exactly is
proved by `ChatTokenizer` when the tokenizer is loaded.

Sources: the formats as their authors publish them (ChatML: OpenAI; Zephyr: Hugging Face H4; Llama 3: Meta; Gemma: Google; Alpaca:
Stanford), written anew.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base_model.gguf_header import read_header
from pipeline.base_model.locate import BaseModel
from pipeline.config.schema import Thinking

OWN = "auto"


@dataclass(frozen=True)
class NamedTemplate:
    """One template.

    Attributes:
        what: how a turn looks, in a few words.
        needs: special tokens it writes, besides the tokenizer's own beginning and end.
        jinja: the template itself.
    """

    what: str
    needs: tuple[str, ...]
    jinja: str


def _turns(loop: str, prompt: str, before: str = "") -> str:
    return f"{before}{{% for message in messages %}}{loop}{{% endfor %}}{{% if add_generation_prompt %}}{prompt}{{% endif %}}"


_NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('this template has no place for a system message') }}{% endif %}"
)
_BOS = "{{ bos_token or '' }}"

TEMPLATES: dict[str, NamedTemplate] = {
    "chatml": NamedTemplate(
        "<|im_start|>role … <|im_end|>, as Qwen and SmolLM2 use it",
        ("<|im_start|>", "<|im_end|>"),
        _turns(
            r"{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}",
            r"{{ '<|im_start|>assistant\n' }}",
        ),
    ),
    "llama-3": NamedTemplate(
        "<|start_header_id|>role<|end_header_id|> … <|eot_id|>",
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        _turns(
            r"{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] + '<|eot_id|>' }}",
            r"{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}",
            _BOS,
        ),
    ),
    "gemma": NamedTemplate(
        "<start_of_turn>role … <end_of_turn>; no system message",
        ("<start_of_turn>", "<end_of_turn>"),
        _turns(
            "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role'])"
            r" + '\n' + message['content'] + '<end_of_turn>' + '\n' }}",
            r"{{ '<start_of_turn>model\n' }}",
            _NO_SYSTEM + _BOS,
        ),
    ),
    "zephyr": NamedTemplate(
        "<|role|> as text, a turn ends with the model's own end token; any vocabulary",
        (),
        _turns(
            r"{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' }}",
            r"{{ '<|assistant|>\n' }}",
        ),
    ),
    "alpaca": NamedTemplate(
        "### Instruction: and ### Response:, an answer ends with the model's own end token; any vocabulary",
        (),
        _turns(
            r"{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
            r"{% elif message['role'] == 'user' %}{{ '### Instruction:\n' + message['content'] + '\n\n' }}"
            r"{% else %}{{ '### Response:\n' + message['content'] + eos_token + '\n\n' }}{% endif %}",
            r"{{ '### Response:\n' }}",
        ),
    ),
}


def is_file(template: str) -> bool:
    """Whether `data.template` is the path of a file, not a name."""
    return template not in TEMPLATES and template != OWN


@dataclass(frozen=True)
class Chosen:
    """How a base model is spoken to.

    Attributes:
        template: auto for its own, a name, or the path of a file.
        text: of that file.
        thinking: whether it is to think before it answers.
    """

    template: str = OWN
    text: str = ""
    thinking: Thinking = "auto"

    @property
    def source(self) -> str:
        """What stands in the template; empty where it is the model's own."""
        return self.text if is_file(self.template) else TEMPLATES[self.template].jinja if self.template != OWN else ""


ITS_OWN = Chosen()


def chosen_for(base: BaseModel) -> Chosen:
    return Chosen(base.template, base.template_text, base.thinking)


def with_thinking(source: str, switch: str, thinking: Thinking) -> str:
    """A template whose argument `switch` is set where nobody gives it, so that whoever renders it gets what was trained."""
    value = "true" if thinking == "on" else "false"
    # A line end behind a block is swallowed, also where it is the template's own first character.
    return f"{{% set {switch} = {switch} if {switch} is defined else {value} %}}" + ("\n" if source[:1] == "\n" else "") + source


@dataclass(frozen=True)
class Templates:
    """What a base model's files say of templates.

    Attributes:
        own: whether it has one of its own.
        lacking: named templates its vocabulary can't write, with the token it has not.
    """

    own: bool
    lacking: dict[str, str]

    @property
    def fitting(self) -> tuple[str, ...]:
        """Named templates the vocabulary has the tokens for."""
        return tuple(name for name in TEMPLATES if name not in self.lacking)


def of(base: BaseModel) -> Templates:
    """Read from the files beside the weights, without loading the tokenizer. A GGUF file's vocabulary is not looked at."""
    if base.kind == "gguf":
        return Templates(bool(read_header(base.path).metadata.get("tokenizer.chat_template")), {})
    known = _special_tokens(base.path)
    missing = {name: next((token for token in each.needs if token not in known), "") for name, each in TEMPLATES.items()}
    return Templates(_has_own(base.path), {name: token for name, token in missing.items() if token})


def of_tokenizer(tokenizer: Any) -> Templates:
    """The named templates whose special tokens this vocabulary has; those that end a turn with its end token need that."""
    known = {
        *tokenizer.all_special_tokens,
        *(token.content for token in tokenizer.added_tokens_decoder.values() if token.special),
    }
    missing = {}
    for name, template in TEMPLATES.items():
        lacking = [token for token in template.needs if token not in known]
        if not template.needs and not tokenizer.eos_token:
            lacking = ["that ends a text (eos_token)"]
        if lacking:
            missing[name] = lacking[0]
    return Templates(bool(tokenizer.chat_template), missing)


def how_to_choose(found: Templates) -> str:
    """The next thing to do for somebody whose model has no template, or one that can't be used."""
    if not found.fitting:
        return "choose an instruct or chat version of the model: its vocabulary has no token that could end a turn"
    first, *others = found.fitting
    also = f"  (or {', '.join(others)})" if others else ""
    return f"humigence config set data.template {first}{also}; an instruct or chat version of the model has its own"


def _has_own(folder: Path) -> bool:
    files = [folder / "chat_template.jinja", folder / "chat_template.json", *(folder / "chat_templates").glob("*.jinja")]
    if any(file.is_file() and file.stat().st_size for file in files):
        return True
    return bool(_json(folder / "tokenizer_config.json").get("chat_template"))


def _special_tokens(folder: Path) -> set[str]:
    """Tokens that stand for themselves in the vocabulary; the ordinary ones are pieces of words."""
    added = _json(folder / "tokenizer.json").get("added_tokens") or []
    decoded = _json(folder / "tokenizer_config.json").get("added_tokens_decoder") or {}
    listed = [*added, *decoded.values()] if isinstance(added, list) and isinstance(decoded, dict) else []
    return {str(token["content"]) for token in listed if isinstance(token, dict) and token.get("special") and "content" in token}


def _json(path: Path) -> dict[str, Any]:
    """The object in a file; empty where there is none: loading the tokenizer tells what is wrong with a damaged one."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
