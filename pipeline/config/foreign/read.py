"""Whose config a file is, by what it holds, and that config read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from pipeline.common.errors import BadInput
from pipeline.config.foreign import axolotl, llama_factory, script
from pipeline.config.foreign.report import Report

# More than any real one; a wrong file (rows, a model) is refused before it is parsed.
_MAX_BYTES = 8 << 20
TAKES = (
    "it takes a dataset_info.json or a training YAML of LLaMA-Factory, a YAML of Axolotl, a script or notebook of Unsloth or TRL"
)


def read_foreign(path: Path, dataset: str | None = None) -> Report:
    """What a config of another trainer asks for.

    Args:
        dataset: which of its data sets, by their name there, where it has several.

    Raises:
        BadInput: the file can't be read, or is none of those that are known.
    """
    text = _text_of(path)
    if path.suffix in (".py", ".ipynb"):
        tree = script.parse(text, path.name)
        if not script.is_script(tree):
            raise BadInput(f"{path}: calls nothing of Unsloth or TRL", TAKES)
        return script.read(tree, path.parent).ended()
    document = _document(text, path)
    if llama_factory.is_info(document):
        return llama_factory.read_info(document, path.parent, dataset)
    if isinstance(document, dict) and llama_factory.is_training(document):
        return llama_factory.read_training(document, path.parent, dataset).ended()
    if isinstance(document, dict) and axolotl.is_training(document):
        return axolotl.read_training(document, path.parent, dataset).ended()
    raise BadInput(f"{path}: is no config of a trainer that is known", TAKES)


def _text_of(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BadInput(f"{path}: larger than {_MAX_BYTES >> 20} MiB, so not a config file", TAKES)
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such file", TAKES) from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 at byte {error.start}", TAKES) from error
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}", TAKES) from error


def _document(text: str, path: Path) -> Any:
    """JSON or YAML. Of YAML only its plain types are made."""
    try:
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        line = (str(error).splitlines() or ["?"])[0][:120]
        raise BadInput(f"{path}: cannot be read: {line}", TAKES) from error
