"""An adapter's folder from a stranger: no format reads what it leads to, or what is no plain adapter."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.common.errors import BadInput
from pipeline.export.formats.registry import FORMATS
from pipeline.planning.export_formats import EXPORT_FORMATS
from tests.pipeline.export.gguf.test_families_exported import made
from tests.pipeline.export.made import package_of

WHOLE = [name for name, outline in EXPORT_FORMATS.items() if outline.folder]


def _leads_out(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.rename(folder.parent / "elsewhere.safetensors")
    weights.symlink_to(folder.parent / "elsewhere.safetensors")


def _is_a_pickle(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"\x80\x04\x95" + bytes(200))


def _says_more_than_it_has(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes((1 << 40).to_bytes(8, "little") + b"{}")


def _asks_for_more(folder: Path) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"modules_to_save": ["lm_head"]}))


def _is_another_models(folder: Path) -> None:
    data = (folder / "adapter_model.safetensors").read_bytes()
    (folder / "adapter_model.safetensors").write_bytes(data.replace(b"model.layers.3.", b"model.layers.9."))


@pytest.mark.parametrize("spoil", [_leads_out, _is_a_pickle, _says_more_than_it_has, _asks_for_more, _is_another_models])
def test_a_hostile_adapter_is_refused_by_every_format_with_its_reason(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    base, adapter = made(tmp_path, "smollm2")
    spoil(adapter)
    package = package_of(tmp_path, base, adapter)
    for name in WHOLE:
        (tmp_path / name).mkdir()
        with pytest.raises(BadInput, match="no adapter for this model"):
            FORMATS[name].write(tmp_path / name, package, lambda _: None)
