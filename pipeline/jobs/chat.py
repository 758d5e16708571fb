"""Chat with a tuned model, and with its base on the same weights: the adapter set aside.

`load` takes a run's best checkpoint, a package, or the newest package of the workspace; `answer` streams one answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.base_model import locate, same_base
from pipeline.base_model.locate import BaseModel
from pipeline.base_model.stop_tokens import named_stop_ids
from pipeline.common.errors import BadInput, MissingArtifact
from pipeline.common.files import read_json
from pipeline.config.schema import Config
from pipeline.export import packaged
from pipeline.export.package_folder import MANIFEST
from pipeline.jobs.server import Handler, Request
from pipeline.runs import trained
from pipeline.runs.context import StepContext
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.system import gpu
from pipeline.tokenization.messages import Message

if TYPE_CHECKING:
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

Side = Literal["tuned", "base"]
_REPORT_EVERY_S = 0.1  # pieces that come faster are sent together: a terminal far away shows no more


def handlers() -> Mapping[str, Handler]:
    chat = Chat()
    return {"load": chat.load, "answer": chat.answer}


class Chat:
    """One loaded model."""

    def __init__(self) -> None:
        self._model: Any = None
        self._tokenizer: ChatTokenizer | None = None

    def load(self, request: Request, workspace: str, run: str | None = None, package: str | None = None) -> Mapping[str, Any]:
        """Load a run's adapter, a package, or without either the newest package. Reports `loading` as soon as it knows what."""
        here = Workspace(Path(workspace))
        if run is not None:
            return self._load_run(request, here, RunFolder(Path(run)))
        folder = Path(package) if package else newest_package(here)
        found = packaged.read_packaged(folder)
        what, mode = f"{folder.name}, as packaged", found.manifest["precision_mode"]
        return self._load(request, found.base, folder, folder, mode, "auto", what, found.warning)

    def _load_run(self, request: Request, here: Workspace, run: RunFolder) -> Mapping[str, Any]:
        config = run.load_config()
        package = here.resolve(config.export.artifacts_dir) / config.project
        if _made_by(package, run):
            # The tokenizer that trained lies in the package.
            found = packaged.read_packaged(package)
            mode = found.manifest["precision_mode"]
            what = f"{config.project}, as packaged"
            return self._load(request, found.base, package, package, mode, config.compute.gpu, what, found.warning)
        best = trained.require_trained(StepContext(config, here, run))
        base, what = locate.require_base_model(config, here), f"{run.run_id}, {best.checkpoint.name}"
        return self._load(
            request,
            base,
            None,
            best.checkpoint,
            config.train.precision_mode,
            config.compute.gpu,
            what,
            same_base.warning(run, base),
        )

    def _load(
        self, request: Request, base: BaseModel, tokenizer: Path | None, adapter: Path, precision_mode: Any, wanted: str,
        what: str, warning: str,
    ) -> Mapping[str, Any]:  # fmt: skip
        device = gpu.choose_device(wanted)
        loaded = {"what": what, "base": base.name, "device": device.name, "precision": precision_mode, "warning": warning}
        request.report("loading", **loaded)
        gpu.see_only(device)
        from pipeline.modeling.adapter import load_adapter
        from pipeline.modeling.load import load_base
        from pipeline.tokenization.chat_tokenizer import ChatTokenizer

        self._model = None  # the one before makes room
        self._model = load_adapter(load_base(base, precision_mode, device), adapter)
        self._tokenizer = (
            ChatTokenizer.from_folder(tokenizer, base.name, stop_ids=named_stop_ids(base))
            if tokenizer
            else ChatTokenizer.load(base)
        )
        return loaded

    def answer(
        self, request: Request, side: Side, messages: list[Message], temperature: float, max_new_tokens: int, seed: int
    ) -> Mapping[str, Any]:
        """Report the answer in `piece`s. Ends with its tokens and the seconds it took.

        Args:
            temperature: 0 for the likeliest token each time.
            max_new_tokens: the answer is cut there (`cut` of the end).

        Raises:
            BadInput: no model is loaded, or conversation and answer are longer than the model's positions.
            Stopped: the request was cancelled.
        """
        from pipeline.modeling.generate import stream

        if self._tokenizer is None:
            raise BadInput("no model is loaded")
        prompt = self._tokenizer.encode_prompt(messages)
        self._check_room(len(prompt), max_new_tokens)
        began, tokens = time.monotonic(), 0

        def on_token() -> None:
            nonlocal tokens
            tokens += 1
            request.raise_if_cancelled()

        with self._model.disable_adapter() if side == "base" else nullcontext():
            send_pieces(
                request, stream(self._model, self._tokenizer, prompt, max_new_tokens, temperature, seed, on_token=on_token)
            )
        return {"tokens": tokens, "seconds": time.monotonic() - began, "cut": tokens >= max_new_tokens}

    def _check_room(self, prompt: int, answer: int) -> None:
        most = getattr(self._model.config, "max_position_embeddings", None)
        if most and prompt + answer > most:
            message = f"the conversation is {prompt} tokens long, with an answer of {answer} more than the model's {most}"
            raise BadInput(message, "clear it, or allow shorter answers")


def send_pieces(request: Request, pieces: Iterable[str]) -> None:
    """The pieces, a few times a second at most."""
    waiting, sent = "", 0.0
    try:
        for piece in pieces:
            waiting += piece
            if time.monotonic() - sent > _REPORT_EVERY_S:
                request.report("piece", text=waiting)
                waiting, sent = "", time.monotonic()
    finally:
        if waiting:
            request.report("piece", text=waiting)


def newest_package(here: Workspace) -> Path:
    """The package in `artifacts/` that was made last. Raises `MissingArtifact`."""
    folder = here.resolve(Config().export.artifacts_dir)
    found = sorted(folder.glob(f"*/{MANIFEST}"), key=lambda manifest: manifest.stat().st_mtime)
    if not found:
        raise MissingArtifact("there is no packaged model to talk to yet", "humigence pipeline --train makes one")
    return found[-1].parent


def _made_by(package: Path, run: RunFolder) -> bool:
    """Whether the package was made from this run."""
    try:
        return bool(read_json(package / MANIFEST).get("run_id") == run.run_id)
    except (OSError, ValueError):
        return False
