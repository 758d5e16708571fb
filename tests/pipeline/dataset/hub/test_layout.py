"""Which files of a data set are the rows of a split. The layouts are those of published data sets."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.common.errors import BadInput
from pipeline.config.schema import HubSection
from pipeline.dataset.hub.layout import Chosen, choose

# As tatsu-lab/alpaca, databricks-dolly-15k, HuggingFaceH4/ultrachat_200k, openai/gsm8k and others lay theirs out.
ALPACA = [".gitattributes", "README.md", "data/train-00000-of-00001-a09b74b3ef9c3b56.parquet"]
DOLLY = [".gitattributes", "README.md", "databricks-dolly-15k.jsonl"]
ULTRACHAT = ["README.md", *(f"data/{name}-00000-of-00001.parquet" for name in ("train_sft", "test_sft", "train_gen"))]
GSM8K = [
    "README.md",
    *(f"{subset}/{split}-00000-of-00001.parquet" for subset in ("main", "socratic") for split in ("train", "test")),
]
GSM8K_CARD = {
    "configs": [
        {
            "config_name": subset,
            "data_files": [{"split": split, "path": f"{subset}/{split}-*"} for split in ("train", "test")],
            **({"default": True} if subset == "main" else {}),
        }
        for subset in ("main", "socratic")
    ]
}
FOLDERS = ["train/a.jsonl", "train/b.jsonl", "validation/a.jsonl", "LICENSE"]
NAMES = ["my_train.csv", "my_dev.csv", "eval.csv"]
CONVERTED = ["default/train/0000.parquet", "default/train/0001.parquet", "other/test/0000.parquet"]


def chosen(names: list[str], card: dict[str, Any] | None = None, **asked: Any) -> Chosen:
    return choose(names, card or {}, HubSection(repo="owner/name", **asked))


@pytest.mark.parametrize(
    ("names", "card", "asked", "subset", "split", "files"),
    [
        (ALPACA, {}, {}, "default", "train", ALPACA[2:]),
        (DOLLY, {}, {}, "default", "train", ["databricks-dolly-15k.jsonl"]),
        (ULTRACHAT, {}, {"split": "train_sft"}, "default", "train_sft", ["data/train_sft-00000-of-00001.parquet"]),
        (GSM8K, GSM8K_CARD, {}, "main", "train", ["main/train-00000-of-00001.parquet"]),
        (GSM8K, GSM8K_CARD, {"subset": "socratic", "split": "test"}, "socratic", "test", [GSM8K[-1]]),
        (FOLDERS, {}, {}, "default", "train", FOLDERS[:2]),
        (FOLDERS, {}, {"split": "validation"}, "default", "validation", ["validation/a.jsonl"]),
        (NAMES, {}, {}, "default", "train", ["my_train.csv"]),
        (NAMES, {}, {"split": "test"}, "default", "test", ["eval.csv"]),
        (CONVERTED, {}, {}, "default", "train", CONVERTED[:2]),
        (CONVERTED, {}, {"subset": "other"}, "other", "test", ["other/test/0000.parquet"]),
        (["a.json", "b.json"], {"configs": [{"config_name": "x", "data_files": "b.json"}]}, {}, "x", "train", ["b.json"]),
        (["d/a.json", "e.json"], {"configs": [{"config_name": "x", "data_dir": "d"}]}, {}, "x", "train", ["d/a.json"]),
        (["d/a/b.json", "e.json"], {"configs": [{"data_files": {"test": ["d/**"]}}]}, {}, "default", "test", ["d/a/b.json"]),
    ],
)  # fmt: skip
def test_the_files_of_a_split_are_those_that_its_card_or_their_names_say(
    names: list[str], card: dict[str, Any], asked: dict[str, Any], subset: str, split: str, files: list[str]
) -> None:
    found = chosen(names, card, **asked)
    assert (found.subset, found.split, list(found.files)) == (subset, split, files)


def test_what_there_is_beside_the_split_is_named() -> None:
    found = chosen(GSM8K, GSM8K_CARD)
    assert (found.other_splits, found.other_subsets) == (("test",), ("socratic",))
    mixed = chosen(["a.parquet", "b.parquet", "all.csv"])
    assert (mixed.files, mixed.left_out) == (("a.parquet", "b.parquet"), ("all.csv",))


@pytest.mark.parametrize(
    ("names", "asked", "message", "hint"),
    [
        (["name.py", "README.md"], {}, "has a loading script and no rows of its own", "refs/convert/parquet"),
        (["model.pkl", "rows.pkl", "README.md"], {}, "no file of rows that can be read (2 .pkl, 1 .md)", "it takes JSONL"),
        (ULTRACHAT, {}, "split: owner/name has several, say which: test_sft, train_gen, train_sft", "data.hub.split test_sft"),
        (FOLDERS, {"split": "tran"}, "split: owner/name has none called 'tran': train, validation", "data.hub.split train"),
        (ALPACA, {"subset": "clean"}, "subset: owner/name has none called 'clean': default", "data.hub.subset default"),
        (["/etc/rows.json", "../rows.json"], {}, "no file of rows", "it takes"),
    ],
)  # fmt: skip
def test_what_can_not_be_had_is_refused_with_what_there_is(
    names: list[str], asked: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(BadInput) as refused:
        chosen(names, **asked)
    assert message in refused.value.message and hint in refused.value.hint


def test_a_card_that_points_elsewhere_is_refused() -> None:
    card = {"configs": [{"data_files": "https://example.org/rows.json"}]}
    with pytest.raises(BadInput, match=r"names rows outside of it: https://example\.org"):
        chosen(["a.json"], card)


@pytest.mark.parametrize(
    "address",
    [
        "https://huggingface.co/datasets/tatsu-lab/alpaca", "hf://datasets/tatsu-lab/alpaca", "datasets/tatsu-lab/alpaca",
        "tatsu-lab/alpaca",
    ],
)  # fmt: skip
def test_a_data_set_is_named_in_any_of_the_usual_ways(address: str) -> None:
    assert HubSection(repo=address).repo == "tatsu-lab/alpaca"
    assert HubSection(repo="hf://datasets/a/b@v1").revision == "v1"
