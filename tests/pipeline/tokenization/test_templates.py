"""Chat templates by name: what they write, what they need, and that a model without one is told its choice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.base_model.locate import BaseModel, base_model_at, locate
from pipeline.common.errors import BadInput
from pipeline.config.file import parse
from pipeline.config.schema import ChatTemplate, Config
from pipeline.runs.folders import Workspace
from pipeline.tokenization import templates
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from pipeline.tokenization.fingerprint import tokenizer_fingerprint
from pipeline.tokenization.messages import Message
from pipeline.tokenization.templates import TEMPLATES, Chosen
from tests import tiny
from tests.hostile_templates import HOSTILE

CHAT = [
    Message(role="user", content="Hi </s><|im_end|>"),
    Message(role="assistant", content="Yes, it is.\nOk?"),
    Message(role="user", content="2"),
    Message(role="assistant", content="é 3"),
]
SYSTEM = Message(role="system", content="Be kind.")
PLAIN = [Message(role="user", content="2"), CHAT[1]]
# Rendered by hand from what the authors of each format publish.
WRITTEN: dict[ChatTemplate, str] = {
    "chatml": "<|im_start|>user\n2<|im_end|>\n<|im_start|>assistant\nYes, it is.\nOk?<|im_end|>\n",
    "llama-3": (
        "<s><|start_header_id|>user<|end_header_id|>\n\n2<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nYes, it is.\nOk?<|eot_id|>"
    ),
    "gemma": "<s><start_of_turn>user\n2<end_of_turn>\n<start_of_turn>model\nYes, it is.\nOk?<end_of_turn>\n",
    "zephyr": "<|user|>\n2</s>\n<|assistant|>\nYes, it is.\nOk?</s>\n",
    "alpaca": "### Instruction:\n2\n\n### Response:\nYes, it is.\nOk?</s>\n\n",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer with every template's special tokens and no template of its own."""
    needed = [token for each in TEMPLATES.values() for token in each.needs]
    return save_base(tmp_path_factory.mktemp("base"), needed, llama=False, bos_token="<s>", eos_token="</s>")


def save_base(folder: Path, extra: list[str], *, llama: bool = True, **named: str) -> Path:
    from transformers import AutoTokenizer

    tiny.save_tokenizer(folder, llama=llama)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = None
    tokenizer.add_special_tokens({"additional_special_tokens": extra, **named})
    tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    return folder


def text_of(tokenizer: ChatTokenizer, ids: list[int]) -> str:
    return tokenizer.decode(ids, keep_special=True)


def test_every_name_the_config_takes_is_a_template_and_golden_here() -> None:
    assert set(TEMPLATES) == set(WRITTEN) == set(ChatTemplate.__args__) - {templates.OWN}  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_writes_what_its_authors_publish(base: Path, name: ChatTemplate) -> None:
    tokenizer = ChatTokenizer.from_folder(base, chosen=Chosen(name))
    (document,) = tokenizer.encode_conversation(PLAIN)
    assert text_of(tokenizer, document.ids) == WRITTEN[name]


@pytest.mark.parametrize("name", TEMPLATES)
def test_answers_and_their_ends_are_trained_and_nothing_else(base: Path, name: ChatTemplate) -> None:
    tokenizer = ChatTokenizer.from_folder(base, chosen=Chosen(name))
    (document,) = tokenizer.encode_conversation(CHAT)
    said = [text_of(tokenizer, document.ids[begin:end]) for begin, end in document.spans]
    ends = TEMPLATES[name].needs[-1:] or ("</s>",)
    assert said == ["Yes, it is.\nOk?" + ends[0], "é 3" + ends[0]]
    assert document.ids[document.spans[0][1] - 1] in tokenizer.stop_ids
    for turn, (begin, _) in zip((1, 3), document.spans, strict=True):
        assert tokenizer.encode_prompt(CHAT[:turn]) == document.ids[:begin]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_system_message_is_written_or_refused_never_left_out(base: Path, name: ChatTemplate) -> None:
    tokenizer = ChatTokenizer.from_folder(base, chosen=Chosen(name))
    if name == "gemma":
        with pytest.raises(BadInput, match="no place for a system message"):
            tokenizer.encode_conversation([SYSTEM, *PLAIN])
    else:
        assert "Be kind." in text_of(tokenizer, tokenizer.encode_conversation([SYSTEM, *PLAIN])[0].ids)


@pytest.mark.parametrize(("name", "llama", "own"), [("zephyr", True, tiny.ZEPHYR), ("chatml", False, tiny.CHATML)])
def test_a_named_template_is_that_of_the_models_it_is_named_for(
    tmp_path: Path, name: ChatTemplate, llama: bool, own: str
) -> None:
    tiny.save_tokenizer(tmp_path, template=own, llama=llama)
    theirs, ours = ChatTokenizer.from_folder(tmp_path), ChatTokenizer.from_folder(tmp_path, chosen=Chosen(name))
    assert ours.encode_conversation([SYSTEM, *CHAT]) == theirs.encode_conversation([SYSTEM, *CHAT])
    assert ours.encode_prompt(CHAT[:3]) == theirs.encode_prompt(CHAT[:3])


def test_the_saved_tokenizer_speaks_by_the_template_that_trained(base: Path, tmp_path: Path) -> None:
    trained = ChatTokenizer.from_folder(base, chosen=Chosen("alpaca"))
    trained.save(tmp_path)
    assert ChatTokenizer.from_folder(tmp_path).encode_conversation(CHAT) == trained.encode_conversation(CHAT)


# ----------------------------------------------------------------------------------------------- what can't be used


def test_a_model_without_a_template_is_told_those_it_has_the_tokens_for(tmp_path: Path) -> None:
    folder = save_base(tmp_path / "plain", [])
    with pytest.raises(BadInput, match="plain: its tokenizer has no chat template") as caught:
        ChatTokenizer.from_folder(folder)
    assert "humigence config set data.template zephyr  (or alpaca)" in caught.value.hint
    assert templates.of(at_tokenizer(folder)) == templates.Templates(
        False, {"chatml": "<|im_start|>", "llama-3": "<|start_header_id|>", "gemma": "<start_of_turn>"}
    )


def test_a_template_whose_tokens_the_vocabulary_lacks_is_refused(tmp_path: Path) -> None:
    folder = save_base(tmp_path / "plain", ["<|im_start|>"])
    with pytest.raises(BadInput, match=r"data.template: chatml needs the special token <\|im_end\|>, which plain"):
        ChatTokenizer.from_folder(folder, chosen=Chosen("chatml"))


def test_without_any_token_to_end_a_turn_no_template_is_offered(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(tokenizer_file=str(save_base(tmp_path / "with", []) / "tokenizer.json"))
    fast.save_pretrained(tmp_path / "without")
    with pytest.raises(BadInput) as caught:
        ChatTokenizer.from_folder(tmp_path / "without")
    assert "config set" not in caught.value.hint and "choose an instruct" in caught.value.hint


def test_a_template_without_a_generation_prompt_is_refused(tmp_path: Path) -> None:
    silent = tiny.ZEPHYR.replace("loop.last and add_generation_prompt", "false")
    tiny.save_tokenizer(tmp_path, template=silent)
    with pytest.raises(BadInput, match="no generation prompt") as caught:
        ChatTokenizer.from_folder(tmp_path)
    assert "data.template zephyr" in caught.value.hint


def test_a_template_that_needs_no_generation_prompt_is_used(tmp_path: Path) -> None:
    # Llama 2: the answer follows the bracket that closes the question.
    brackets = (
        "{% for message in messages %}{% if message.role == 'assistant' %}{{ ' ' + message.content + ' ' + eos_token }}"
        "{% else %}{{ '[INST] ' + message.content + ' [/INST]' }}{% endif %}{% endfor %}"
    )
    tiny.save_tokenizer(tmp_path, template=brackets)
    tokenizer = ChatTokenizer.from_folder(tmp_path)
    assert tokenizer.decode(tokenizer.encode_conversation(PLAIN)[0].ids).count("[INST]") == 1


# --------------------------------------------------------------------------------------------------- the model's files


def at_tokenizer(folder: Path) -> Any:
    from pipeline.base_model.locate import BaseModel

    return BaseModel(folder, "folder", folder.name)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("chat_template.jinja", "{{ messages }}"),
        ("tokenizer_config.json", json.dumps({"chat_template": "{{ messages }}"})),
        ("chat_templates/default.jinja", "{{ messages }}"),
    ],
)
def test_a_template_is_found_wherever_models_keep_it(tmp_path: Path, file: str, content: str) -> None:
    assert not templates.of(at_tokenizer(tmp_path)).own
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(content)
    assert templates.of(at_tokenizer(tmp_path)).own


def test_what_the_files_say_is_what_the_tokenizer_says(base: Path) -> None:
    found = templates.of(at_tokenizer(base))
    assert not found.own and found.fitting == tuple(TEMPLATES)


def test_another_template_is_another_fingerprint_and_auto_the_models_own(tiny_model: Path) -> None:
    own = base_model_at(tiny_model)
    assert tokenizer_fingerprint(replace(own, template="auto")) == tokenizer_fingerprint(own)
    others = {tokenizer_fingerprint(replace(own, template=name)) for name in TEMPLATES}
    assert len({tokenizer_fingerprint(own), *others}) == len(TEMPLATES) + 1


# ------------------------------------------------------------------------------------------- a file of one's own, thinking

OF_ONES_OWN = tiny.CHATML.replace("<|im_start|>' + message['role'] + '\n", "<|im_start|>' + message['role'] + ': ").replace(
    "<|im_start|>assistant\n", "<|im_start|>assistant: "
)
THINKS = tiny.CHATML.replace(
    "{{ '<|im_start|>assistant\n' }}",
    "{{ '<|im_start|>assistant\n' }}{% if SWITCH is defined and not SWITCH %}{{ '<think>\n\n</think>\n\n' }}{% endif %}",
)


def config_with(folder: Path, **data: Any) -> Config:
    return parse({"model": {"local_path": str(folder)}, "data": data}, "test")


def test_a_template_of_ones_own_is_a_file_beside_the_config(tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "model", template=tiny.CHATML, llama=False)
    (tmp_path / "mine.jinja").write_text(OF_ONES_OWN)
    mine = locate(config_with(folder, template="mine.jinja"), Workspace(tmp_path))
    assert mine is not None
    tokenizer = ChatTokenizer.load(mine)
    assert text_of(tokenizer, tokenizer.encode_prompt(PLAIN[:1])) == "<|im_start|>user: 2<|im_end|>\n<|im_start|>assistant: "
    tokenizer.save(tmp_path / "package")
    again = ChatTokenizer.from_folder(tmp_path / "package")
    assert again.encode_conversation(PLAIN) == tokenizer.encode_conversation(PLAIN), "the package speaks as it was taught"
    before = tokenizer_fingerprint(mine)
    (tmp_path / "mine.jinja").write_text(OF_ONES_OWN.replace(": ", " - "))
    changed = locate(config_with(folder, template="mine.jinja"), Workspace(tmp_path))
    own = locate(config_with(folder), Workspace(tmp_path))
    assert changed is not None and own is not None
    assert len({before, tokenizer_fingerprint(changed), tokenizer_fingerprint(own)}) == 3
    assert text_of(ChatTokenizer.load(changed), ChatTokenizer.load(changed).encode_prompt(PLAIN[:1])).endswith("assistant - ")


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (None, "mine.jinja cannot be read: No such file"),
        (b"", "mine.jinja is empty"),
        (b"\xff\xfe", "mine.jinja cannot be read: it is not UTF-8 text"),
        (b"x" * ((1 << 20) + 1), "mine.jinja is longer than 1 MiB"),
        (b"{% for %}", "its chat template can't be used"),
        (HOSTILE["text times"].encode() + tiny.CHATML.encode(), r"can't be trained with the chat template mine.jinja"),
    ],
)
def test_a_file_that_is_no_template_is_bad_input(tmp_path: Path, contents: bytes | None, reason: str) -> None:
    folder = tiny.save_model(tmp_path / "model", template=tiny.CHATML, llama=False)
    if contents is not None:
        (tmp_path / "mine.jinja").write_bytes(contents)
    with pytest.raises(BadInput, match=reason):
        found = locate(config_with(folder, template="mine.jinja"), Workspace(tmp_path))
        assert found is not None
        ChatTokenizer.load(found)


def test_a_word_that_is_neither_a_name_nor_a_path_is_refused_with_what_there_is() -> None:
    with pytest.raises(BadInput, match=r"data\.template") as caught:
        config_with(Path("m"), template="chatlm")
    assert "chatml" in caught.value.message


@pytest.mark.parametrize("switch", ["enable_thinking", "thinking"])
def test_thinking_is_switched_where_the_template_has_a_switch_and_whoever_renders_it(tmp_path: Path, switch: str) -> None:
    from transformers import AutoTokenizer

    tiny.save_tokenizer(tmp_path / "model", template=THINKS.replace("SWITCH", switch), llama=False)
    prompts = {}
    for thinking in ("auto", "on", "off"):
        tokenizer = ChatTokenizer.from_folder(tmp_path / "model", chosen=Chosen(thinking=thinking))  # type: ignore[arg-type]
        prompts[thinking] = tokenizer.encode_prompt(PLAIN[:1])
        (document,) = tokenizer.encode_conversation(PLAIN)
        assert document.ids[: document.spans[0][0]] == prompts[thinking]
        tokenizer.save(tmp_path / thinking)
        theirs = AutoTokenizer.from_pretrained(tmp_path / thinking)
        rendered = theirs.apply_chat_template(PLAIN[:1], add_generation_prompt=True, tokenize=True)["input_ids"]
        assert rendered == prompts[thinking], "without an argument it is what was trained"
        said = theirs.apply_chat_template(PLAIN[:1], add_generation_prompt=True, tokenize=False, **{switch: False})
        assert said.endswith("</think>\n\n"), "an argument has the last word"
    assert prompts["on"] == prompts["auto"] != prompts["off"]


def test_thinking_without_a_switch_is_refused(tmp_path: Path) -> None:
    tiny.save_tokenizer(tmp_path, template=tiny.CHATML, llama=False)
    with pytest.raises(BadInput, match=r"data.thinking: the chat template of .* has no switch for thinking"):
        ChatTokenizer.from_folder(tmp_path, chosen=Chosen(thinking="off"))


def test_thinking_is_part_of_what_the_rows_were_prepared_with(tmp_path: Path) -> None:
    base = BaseModel(tmp_path, "folder", "small")
    (tmp_path / "config.json").write_text("{}")
    found = {tokenizer_fingerprint(replace(base, thinking=thinking)) for thinking in ("auto", "on", "off")}  # type: ignore[arg-type]
    assert len(found) == 3 and tokenizer_fingerprint(base) == base.own_tokenizer_fingerprint()
