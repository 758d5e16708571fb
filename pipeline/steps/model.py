"""Step 3, model: the base model on this machine, whole. A local folder or GGUF file is checked; a repository is downloaded.

Only safetensors weights, tokenizer and configs are fetched: pickles and Python files never reach this machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from functools import partial

from pipeline.base_model import same_base
from pipeline.base_model.hub_cache import cached_snapshot, is_offline
from pipeline.base_model.locate import BaseModel, locate, problems_of, require_base_model
from pipeline.common.errors import BadInput, MissingArtifact
from pipeline.hub.download import Listing
from pipeline.hub.download import download as fetch_files
from pipeline.hub.repository import Repository
from pipeline.runs.context import StepContext, StepResult
from pipeline.system.gpu import GIB

# At the top of the repository only: `original/`, `onnx/` and the like hold the same weights in other forms.
_WEIGHTS = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
_OTHERS = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json",
    "vocab.txt", "merges.txt", "special_tokens_map.json", "added_tokens.json", "spiece.model", "chat_template.jinja",
    "chat_template.json", "LICENSE*", "USE_POLICY*",
)  # fmt: skip


def run(ctx: StepContext) -> StepResult:
    """Find the base model, or download it.

    Raises:
        MissingArtifact: the local path is not there; the repository is not in the cache and the hub is switched off.
        BadInput: the model is there and unusable; no such repository or revision; it is gated; it has no safetensors; it is
            another one than the run that is resumed began with.
        EnvironmentFault: no network, the hub fails, the disk has no room.
    """
    found = locate(ctx.config, ctx.workspace)
    if not (found or ctx.config.model.local_path):
        download(ctx)
    base = found or require_base_model(ctx.config, ctx.workspace)
    same_base.require_same(ctx.run, base)
    return StepResult("unchanged" if found else "done", summary_of(base))


def is_unchanged(ctx: StepContext) -> bool:
    """Whether the base model is here, whole."""
    return locate(ctx.config, ctx.workspace) is not None


def summary_of(base: BaseModel) -> str:
    """One line: name, size, place."""
    size = sum(file.stat().st_size for file in base.weight_files())
    amount = f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / (1 << 20):.0f} MiB"
    return f"{base.name}, {amount}, {base.path}"


# ------------------------------------------------------------------------------------------------- downloading


def download(ctx: StepContext) -> None:
    """Fetch the repository into the hub cache: what is there is reused, a cut download goes on where it ended."""
    repo, revision = ctx.config.model.repo, ctx.config.model.revision
    _require_network(repo)
    fetch_files(ctx, "model", Repository(repo, revision), partial(_wanted, repo))
    folder = cached_snapshot(repo, revision)
    problems = problems_of(folder) if folder else ["it is not in the cache"]
    if problems:
        raise BadInput(
            f"{repo} was downloaded and is not a usable base model: {'; '.join(problems)}", "choose another model.repo"
        )


def _require_network(repo: str) -> None:
    if is_offline():
        hint = "unset HF_HUB_OFFLINE and run humigence model download, or set model.local_path"
        raise MissingArtifact(f"the base model {repo} is not on this machine and HF_HUB_OFFLINE is set", hint)


def _wanted(repo: str, listing: Listing) -> list[str]:
    """Weights, tokenizer and configs."""
    names = listing.sizes
    weights = [name for name in names if _is_one_of(name, _WEIGHTS)]
    if not weights:
        message = f"{repo} has no safetensors weights{_what_instead(names)}"
        raise BadInput(message, "choose another model.repo, or set model.local_path")
    if "model.safetensors" in weights:
        weights = ["model.safetensors"]
    return weights + [name for name in names if _is_one_of(name, _OTHERS)]


def _is_one_of(name: str, patterns: Sequence[str]) -> bool:
    return "/" not in name and any(fnmatch(name, pattern) for pattern in patterns)


def _what_instead(names: Iterable[str]) -> str:
    names = list(names)
    if any(name.endswith(".gguf") for name in names):
        return "; it has GGUF files: download one and give its path in model.local_path"
    if any(name.endswith((".bin", ".pt", ".pth")) for name in names):
        return ", only pickled ones, which can run code when loaded"
    return ""
