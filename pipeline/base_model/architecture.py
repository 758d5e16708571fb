"""What a model is, as far as its `config.json` (or a GGUF file's head) settles it: asked of the model's own class.

Asking takes torch and transformers (`pipeline.modeling.inspect_architecture`); reading what was asked before takes neither, so
that forms and previews know it too. The facts are stored once for each config and version of transformers.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.base_model.described import Described
from pipeline.base_model.gguf_header import read_header
from pipeline.base_model.hub_cache import cached_snapshot
from pipeline.common.cache import cache_folder
from pipeline.common.files import fingerprint, read_json, write_json
from pipeline.config.schema import Config
from pipeline.runs.folders import Workspace

# Raise it when the same model would be described otherwise.
_VERSION = 2
UNCALLED = "not called: its weight is used without it"
LayerKind = Literal["attention", "convolution", "linear attention", "state space", "recurrence", "attention and state space"]


@dataclass(frozen=True)
class Layer:
    """A decoder layer.

    Attributes:
        kind: how it passes information from token to token.
        window: tokens its attention sees, itself included; None for all of them.
    """

    kind: LayerKind
    window: int | None = None


@dataclass(frozen=True)
class LinearLayers:
    """Linear layers that are alike but for the number of their decoder layer.

    Attributes:
        path: of one of them in the model, `*` for each number: `model.layers.*.self_attn.q_proj`.
        inputs, outputs: features.
        count: how many there are.
        quantized: bitsandbytes holds them in 4 or 8 bits where it is asked to.
        transposed: the weight is (inputs, outputs): GPT-2's `Conv1D`.
        unusable: why no adapter goes there (`the output head`, `a router`, `beside the language model`); empty where one can.
    """

    path: str
    inputs: int
    outputs: int
    count: int
    quantized: bool = True
    transposed: bool = False
    unusable: str = ""

    @property
    def name(self) -> str:
        """The last part of the path, as `train.lora.target_modules` takes it."""
        return self.path.rpartition(".")[2]

    @property
    def parameters(self) -> int:
        """Weights of all of them, biases left out."""
        return self.count * self.inputs * self.outputs


@dataclass(frozen=True)
class Experts:
    """The experts of a mixture, held as parameters of three dimensions: no linear layers, so nothing quantizes them.

    Attributes:
        path: of the module that holds them, `*` for each number.
        count: modules like it.
        experts: in each.
        parameters: of all of them together.
    """

    path: str
    count: int
    experts: int
    parameters: int


@dataclass(frozen=True)
class Architecture:
    """The facts of a model.

    Attributes:
        model_type: of its config.
        class_name: transformers' class that is trained.
        attention: the implementations that class supports, the best first: `sdpa` and `eager`, or `eager` alone.
        takes_attention: an implementation of our own can be registered for it.
        language_model: path of the module with the embedding and the decoder layers; beside it are the head and towers.
        towers: paths of what plain text never reaches: vision, audio, projectors.
        layers: decoder layers from the first to the last.
        recurrent: a state other than keys and values is carried from token to token.
        takes_positions: documents can be numbered from their own first token.
        embedding_rows, head_rows: how many ids there are logits and embeddings for.
        hidden: features of an embedding.
        tied: the head is the embedding.
        linears: linear layers everywhere, head and towers included.
        experts: of a mixture of experts.
        other_parameters: of the language model beside linear layers, experts, embedding and head: norms, convolutions, biases.
        tower_parameters: of the towers.
        parameters: all weights, tied ones once.
        described: its decoder layers by their parts; None where that was not asked.
    """

    model_type: str
    class_name: str
    attention: tuple[str, ...]
    takes_attention: bool
    language_model: str
    towers: tuple[str, ...]
    layers: tuple[Layer, ...]
    recurrent: bool
    takes_positions: bool
    embedding_rows: int
    head_rows: int
    hidden: int
    tied: bool
    linears: tuple[LinearLayers, ...]
    experts: tuple[Experts, ...] = ()
    other_parameters: int = 0
    tower_parameters: int = 0
    parameters: int = 0
    described: Described | None = None

    @property
    def targets(self) -> tuple[LinearLayers, ...]:
        """The linear layers that can have an adapter."""
        return tuple(each for each in self.linears if not each.unusable)

    @property
    def target_names(self) -> tuple[str, ...]:
        """Their names, each once, in the order of the model."""
        return tuple(dict.fromkeys(each.name for each in self.targets))

    @property
    def windows(self) -> tuple[int, ...]:
        """The windows of attention there are, each once, ascending; none where every layer sees the whole text."""
        return tuple(sorted({layer.window for layer in self.layers if layer.window is not None}))

    @property
    def expert_parameters(self) -> int:
        return sum(each.parameters for each in self.experts)

    def targeted(self, names: Iterable[str]) -> tuple[LinearLayers, ...]:
        """The layers that get an adapter under these names.

        Args:
            names: as `train.lora.target_modules` names them.
        """
        wanted = set(names)
        return tuple(each for each in self.targets if each.name in wanted)

    def adapter_parameters(self, rank: int, names: Iterable[str], *, dora: bool = False) -> int:
        """Trained parameters of LoRA: `rank × (inputs + outputs)` for each layer (Hu et al. 2021, §4.1).

        Args:
            dora: with the length of each output's weights (Liu et al. 2024, §4.1).
        """
        return sum(each.count * (rank * (each.inputs + each.outputs) + dora * each.outputs) for each in self.targeted(names))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Architecture:
        """The facts of `to_json`.

        Raises:
            KeyError, TypeError: it is none.
        """
        return cls(
            **document
            | {
                "attention": tuple(document["attention"]),
                "towers": tuple(document["towers"]),
                "layers": tuple(Layer(**each) for each in document["layers"]),
                "linears": tuple(LinearLayers(**each) for each in document["linears"]),
                "experts": tuple(Experts(**each) for each in document["experts"]),
                "described": None if document["described"] is None else Described(**document["described"]),
            }
        )


# ------------------------------------------------------------------------------------------------- what was asked before


def known_architecture(config: Config, workspace: Workspace) -> Architecture | None:
    """The facts of the base model a config names, as far as they were asked before; loads nothing and uses no network."""
    source = source_of(config, workspace)
    return read_architecture(source) if source else None


def source_of(config: Config, workspace: Workspace) -> Path | None:
    """The file that settles the facts: a `config.json` or a GGUF file. The weights need not be there. None where it isn't."""
    if config.model.local_path:
        source = source_at(workspace.resolve(config.model.local_path))
    else:
        folder = cached_snapshot(config.model.repo, config.model.revision)
        if folder is None:
            return None
        source = source_at(folder)
    return source if source.is_file() else None


def source_at(path: Path) -> Path:
    """The file that settles the facts of the model at `path`, a folder or a GGUF file."""
    return path if path.is_file() else path / "config.json"


def read_architecture(source: Path) -> Architecture | None:
    """The facts stored for a `config.json` or a GGUF file, None where they were not asked with this transformers.

    Raises:
        BadInput: the GGUF file is damaged.
    """
    with suppress(OSError, ValueError, KeyError, TypeError):
        return Architecture.from_json(read_json(_stored(source)))
    return None


def store_architecture(source: Path, facts: Architecture) -> None:
    """Have them found by `read_architecture`; where nothing can be written they are asked again the next time."""
    path = _stored(source)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, facts.to_json())


def _stored(source: Path) -> Path:
    return cache_folder("architectures") / f"{_digest(source)}.json"


def _digest(source: Path) -> str:
    if source.suffix.lower() == ".gguf":
        header = read_header(source)
        contents = repr([header.metadata, header.lengths, header.tensors])
    else:
        contents = hashlib.sha256(source.read_bytes()).hexdigest()
    return fingerprint("architecture", _VERSION, importlib.metadata.version("transformers"), contents)
