"""What ends an answer, wherever a model's files say it; an answer of ours ends where transformers ends it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.base_model import same_base
from pipeline.base_model.locate import base_model_at
from pipeline.base_model.stop_tokens import named_stop_ids, stop_ids_in, with_stop_ids
from pipeline.common.errors import BadInput
from pipeline.modeling import generate
from pipeline.runs.folders import RunFolder
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from tests import tiny

_LISTED = {"generation_config.json": {"eos_token_id": [7, 8]}, "config.json": {"eos_token_id": 9}}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (_LISTED, {7, 8}),
        ({"generation_config.json": {"eos_token_id": 7}}, {7}),
        ({"generation_config.json": {}, "config.json": {"eos_token_id": 9}}, set()),
        ({"config.json": {"eos_token_id": [9, 10]}}, {9, 10}),
        ({"config.json": {"text_config": {"eos_token_id": 11}}}, {11}),
        ({"generation_config.json": {"eos_token_id": [None, True, "7", -1, 3]}}, {3}),
        ({}, set()),
    ],
)
def test_they_are_read_as_transformers_reads_them(tmp_path: Path, files: dict[str, Any], expected: set[int]) -> None:
    for name, document in files.items():
        (tmp_path / name).write_text(json.dumps(document))
    assert stop_ids_in(tmp_path) == expected


@pytest.mark.parametrize("text", ["{", "[7]", '{"eos_token_id": 7'])
def test_a_damaged_file_is_no_file_without_stop_tokens(tmp_path: Path, text: str) -> None:
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(BadInput, match=r"generation_config\.json"):
        stop_ids_in(tmp_path)


def test_a_gguf_file_names_the_end_of_a_text_of_a_turn_and_of_a_call(tmp_path: Path) -> None:
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_eos_token_id(5)
    writer.add_eot_token_id(6)
    writer.add_uint32("tokenizer.ggml.eom_token_id", 7)
    writer.add_tensor("output_norm.weight", np.ones(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert named_stop_ids(base_model_at(tmp_path / "m.gguf")) == {5, 6, 7}


def test_what_is_missing_is_added_and_nothing_else_is_changed() -> None:
    assert with_stop_ids({"eos_token_id": 5, "top_p": 0.9}, {1, 5}) == {"eos_token_id": [5, 1], "top_p": 0.9}
    assert with_stop_ids({"eos_token_id": [5]}, {5}) == {"eos_token_id": [5]}
    assert with_stop_ids({}, {4}) == {"eos_token_id": 4}
    assert with_stop_ids({}, set()) == {}


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("model") / "m", template=tiny.CHATML, llama=False)


def test_an_answer_ends_where_generate_of_transformers_ends_it(model_folder: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    folder = shutil.copytree(model_folder, tmp_path / "m")

    def answers() -> tuple[list[int], str, str]:
        model = AutoModelForCausalLM.from_pretrained(folder)
        for parameter in model.parameters():  # random weights repeat one token otherwise
            parameter.data *= 6 if parameter.ndim == 2 else 1
        tokenizer = ChatTokenizer.load(base_model_at(folder))
        prompt = generate.user_prompt(tokenizer, "Hi")
        ids = torch.tensor([prompt])
        theirs = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)[0, len(prompt) :]
        ours = generate.generate_batch(model, tokenizer, [prompt], 12, keep_special=True)[0]
        return theirs.tolist(), tokenizer.decode(theirs.tolist(), keep_special=True), ours

    free, _, _ = answers()
    stop = next(token for token in free[3:] if token not in free[:3])
    document = json.loads((folder / "generation_config.json").read_text()) | {"eos_token_id": [2, stop]}
    (folder / "generation_config.json").write_text(json.dumps(document))
    ids, text, ours = answers()
    assert ids[-1] == stop and len(ids) < 12
    last = ChatTokenizer.load(base_model_at(folder)).decode([stop], keep_special=True)
    assert ours == text.removesuffix(last)


def test_a_run_does_not_go_on_where_answers_end_elsewhere(tmp_path: Path, tiny_chatml_model: Path) -> None:
    model = Path(shutil.copytree(tiny_chatml_model, tmp_path / "model"))
    base, run = base_model_at(model), RunFolder(tmp_path / "run")
    run.path.mkdir()
    same_base.note(run, base)
    assert same_base.difference(run, base) == ""
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 7]}))
    assert same_base.difference(run, base) == "its stop tokens"
    noted = json.loads(run.base_model.read_text())
    del noted["stop tokens"]  # as an older version noted it
    run.base_model.write_text(json.dumps(noted))
    assert same_base.difference(run, base) == ""
