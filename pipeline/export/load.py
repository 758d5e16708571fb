"""A package loaded for answering."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.export.packaged import Packaged
    from pipeline.system.gpu import Device
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer


def load_packaged(package: Packaged | Path, device: Device) -> tuple[Any, ChatTokenizer]:
    """The base model with the packaged adapter, in the precision it was trained in, and the tokenizer that trained it.

    Answers of the base model alone: inside `model.disable_adapter()`.

    Args:
        package: as `packaged.read_packaged` returns it (look at its `warning`), or the folder.

    Raises:
        MissingArtifact: the package or its base model is not there.
    """
    from pipeline.base_model.stop_tokens import named_stop_ids
    from pipeline.export import packaged
    from pipeline.modeling.adapter import load_adapter
    from pipeline.modeling.load import load_base
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

    found = packaged.read_packaged(package) if isinstance(package, Path) else package
    model = load_base(found.base, found.manifest["precision_mode"], device)
    tokenizer = ChatTokenizer.from_folder(found.folder, found.base.name, stop_ids=named_stop_ids(found.base))
    return load_adapter(model, found.folder), tokenizer
