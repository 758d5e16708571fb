"""Where the base model is on this machine, what is wrong with it, and a name for its contents.

A base model is a Hugging Face folder (config.json, safetensors, tokenizer) or one GGUF file. Nothing here loads weights, uses the
network or imports torch. Pickled weights are never accepted: loading one runs the code inside it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pipeline.base_model import untrusted_files
from pipeline.base_model.gguf_header import read_header
from pipeline.base_model.hub_cache import cached_snapshot
from pipeline.common.errors import BadInput, MissingArtifact
from pipeline.common.files import fingerprint, sha256_file
from pipeline.config.schema import Config, Thinking
from pipeline.runs.folders import Workspace

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "tekken.json")
TOKENIZER_FILES = (
    *_VOCABULARIES, "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja", "chat_template.json",
)  # fmt: skip
_LONGEST_TEMPLATE = 1 << 20  # as the process that runs templates has it
_SAMPLES, _SAMPLE_BYTES = 64, 1 << 14


@dataclass(frozen=True)
class BaseModel:
    """A base model that is there and whole.

    Attributes:
        name: what a person calls it: the repository, or the folder's or file's name.
        template: the chat template it is trained and asked with (`pipeline.tokenization.templates`); auto is its own.
        template_text: what stands in it, where it is a file.
        thinking: whether it is to think before it answers.
    """

    path: Path
    kind: Literal["folder", "gguf"]
    name: str
    template: str = "auto"
    template_text: str = field(default="", repr=False)
    thinking: Thinking = "auto"

    def weight_files(self) -> list[Path]:
        """The files that hold the weights, in a fixed order."""
        return [self.path] if self.kind == "gguf" else [self.path / name for name in _shards(self.path)]

    def weights_fingerprint(self) -> str:
        """Changes with the weights: the size and 64 evenly spaced pieces of each file, and config.json.

        Not every byte: hashing a 3 GB file would take longer than loading it.
        """
        samples = [_sampled_digest(file) for file in self.weight_files()]
        config = "" if self.kind == "gguf" else sha256_file(self.path / "config.json")
        return fingerprint("weights", samples, config)

    def own_tokenizer_fingerprint(self) -> str:
        """Changes with the vocabulary, its settings or the template that the files give, whichever template was chosen."""
        if self.kind == "gguf":
            return fingerprint("gguf tokenizer", read_header(self.path).tokenizer_digest)
        files = [self.path / name for name in TOKENIZER_FILES] + sorted((self.path / "chat_templates").glob("*"))
        digests = {file.name: sha256_file(file) for file in files if file.is_file()}
        # Without a class of its own in tokenizer_config.json, the kind of model decides which tokenizer class reads the files.
        return fingerprint("tokenizer", digests, _read_config(self.path).get("model_type"))


def locate(config: Config, workspace: Workspace) -> BaseModel | None:
    """The base model the config names, or None when it is not on this machine yet. Never uses the network.

    Raises:
        BadInput: `model.local_path` is there and is no usable model, or the file of `data.template` can't be read.
    """
    if config.model.local_path:
        path = workspace.resolve(config.model.local_path)
        return _spoken_to(base_model_at(path, key="model.local_path"), config, workspace) if path.exists() else None
    folder = cached_snapshot(config.model.repo, config.model.revision)
    if folder is None or problems_of(folder):
        return None
    return _spoken_to(BaseModel(folder, "folder", config.model.repo), config, workspace)


def _spoken_to(base: BaseModel, config: Config, workspace: Workspace) -> BaseModel:
    """The base model with the chat template that the config chooses for it."""
    chosen = config.data.template
    text = _template_text(workspace.resolve(chosen)) if "." in chosen or "/" in chosen else ""
    return replace(base, template=chosen, template_text=text, thinking=config.data.thinking)


def _template_text(path: Path) -> str:
    hint = "data.template takes the path of a Jinja file, or a name; humigence config keys lists them"
    try:
        if path.stat().st_size > _LONGEST_TEMPLATE:
            raise BadInput(f"data.template: {path} is longer than {_LONGEST_TEMPLATE >> 20} MiB", hint)
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise BadInput(f"data.template: {path} cannot be read: {reason}", hint) from error
    if not text.strip():
        raise BadInput(f"data.template: {path} is empty", hint)
    return text


def require_base_model(config: Config, workspace: Workspace) -> BaseModel:
    """The base model the config names, which has to be on this machine.

    Raises:
        BadInput: as `locate`.
        MissingArtifact: it is not here, or not all of it; with the command that gets it.
    """
    found = locate(config, workspace)
    if found is not None:
        return found
    if config.model.local_path:
        path = workspace.resolve(config.model.local_path)
        hint = "humigence config set model.local_path PATH  (null takes model.repo from the hub)"
        raise MissingArtifact(f"model.local_path: {path} is not there", hint)
    folder = cached_snapshot(config.model.repo, config.model.revision)
    why = f" completely: {problems_of(folder)[0]}" if folder else ""
    raise MissingArtifact(f"the base model {_named(config)} is not on this machine{why}", "humigence model download")


def _named(config: Config) -> str:
    return config.model.repo + (f" at {config.model.revision}" if config.model.revision else "")


def base_model_at(path: Path, key: str = "model") -> BaseModel:
    """The base model at `path`, by its files.

    Args:
        path: a Hugging Face folder, or a .gguf file.
        key: what the error names as the setting to change.

    Raises:
        BadInput: every reason why it is not usable.
    """
    hint = f"{key} takes a Hugging Face folder with safetensors weights, or a .gguf file"
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise BadInput(f"{key}: {path} is a file and does not end in .gguf", hint)
        read_header(path)
        return BaseModel(path.resolve(), "gguf", path.stem)
    if problems := problems_of(path):
        raise BadInput(f"{key}: {path} is not a usable base model\n" + "\n".join(f"  {each}" for each in problems), hint)
    return BaseModel(path.resolve(), "folder", _name_of(path.resolve()))


def _name_of(folder: Path) -> str:
    """The folder's name; of a snapshot in a hub cache, which is named by its commit, the repository's."""
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/", 1)
    return folder.name


# ------------------------------------------------------------------------------------------------- what is wrong


def problems_of(folder: Path) -> list[str]:
    """Why a folder is no usable base model, each reason on its own; empty when it is one."""
    if not folder.is_dir():
        return ["there is no such folder"]
    if not (folder / "config.json").is_file():
        return [_instead_of_config(folder)]
    if problems := untrusted_files.file_problems(folder):
        return problems
    try:
        config, for_tokenizer = _read_config(folder), _read_config(folder, "tokenizer_config.json")
    except BadInput as error:
        return [error.message]
    if "auto_map" in config and not _known_to_transformers(str(config.get("model_type", ""))):
        problems.append(untrusted_files.code_problem(config, "config.json"))
    if "auto_map" in for_tokenizer and not (folder / "tokenizer.json").is_file():
        problems.append(untrusted_files.code_problem(for_tokenizer, "tokenizer_config.json"))
    problems += _weight_problems(folder)
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        problems.append(f"no tokenizer ({', '.join(_VOCABULARIES[:3])})")
    return problems


def _instead_of_config(folder: Path) -> str:
    if (folder / "adapter_config.json").is_file():
        return "it is an adapter (adapter_config.json), not a base model"
    files = sorted(folder.glob("*.gguf"))
    return f"it has no config.json; for the GGUF file inside give its own path: {files[0]}" if files else "it has no config.json"


def _read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """The object in a file; empty where there is no such file."""
    path = folder / name
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(document, dict):
        raise BadInput(f"{path}: not a JSON object")
    return document


def _known_to_transformers(model_type: str) -> bool:
    """Whether the installed transformers has this architecture itself (then `auto_map` is not needed). Does not import it."""
    spec = importlib.util.find_spec("transformers")
    if spec is None or not spec.submodule_search_locations or not model_type:
        return False
    name = model_type.replace("-", "_").replace(".", "_")
    return any((Path(root) / "models" / name).is_dir() for root in spec.submodule_search_locations)


def _weight_problems(folder: Path) -> list[str]:
    try:
        shards = _shards(folder)
    except BadInput as error:
        return [error.message]
    if not shards:
        pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern) if file.name != "training_args.bin")
        if pickles:
            return [f"its weights are pickled ({pickles[0]}), which can run code when loaded; only safetensors are read"]
        return [f"no weights ({WEIGHTS})"]
    if problems := [problem for name in shards if (problem := untrusted_files.shard_problem(name))]:
        return problems
    missing = [name for name in shards if not (folder / name).is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        return [f"{missing[0]}{more} of {len(shards)} weight files is missing ({INDEX} names it)"]
    if problems := [problem for name in shards if (problem := untrusted_files.leads_out(folder / name, folder))]:
        return problems
    return [problem for name in shards if (problem := untrusted_files.weights_problem(folder / name))]


def _shards(folder: Path) -> list[str]:
    """Names of the weight files, whether they are there or not; empty when the folder has no safetensors."""
    index = folder / INDEX
    if (folder / WEIGHTS).is_file() or not index.is_file():
        return [WEIGHTS] if (folder / WEIGHTS).is_file() else []
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise BadInput(f"{INDEX} is damaged") from error


# ------------------------------------------------------------------------------------------------- fingerprints


def _sampled_digest(path: Path) -> list[Any]:
    """[size, sha256 of evenly spaced pieces]: the first and the last bytes are among them."""
    digest = hashlib.sha256()
    size = path.stat().st_size
    with path.open("rb") as file:
        for start in _sample_starts(size):
            file.seek(start)
            digest.update(file.read(_SAMPLE_BYTES))
    return [size, digest.hexdigest()]


def _sample_starts(size: int) -> Iterator[int]:
    if size <= _SAMPLES * _SAMPLE_BYTES:
        yield from range(0, size, _SAMPLE_BYTES)
        return
    last = size - _SAMPLE_BYTES
    for i in range(_SAMPLES):
        yield last * i // (_SAMPLES - 1)
