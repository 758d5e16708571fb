"""Base models known to work.

The list is a curated start, not a limit: any repository or local path goes. Sizes are those of the public config.json
files, so that a plan can be made before anything is downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.base_model.hub_cache import cached_snapshot
from pipeline.base_model.locate import problems_of
from pipeline.base_model.shape import ModelShape

_TOKENIZER_BYTES = 12 << 20  # the largest here, with the small files


@dataclass(frozen=True)
class CuratedModel:
    """A base model known to work, with a chat template of its own. Its weights are 16-bit safetensors.

    Attributes:
        shape: the sizes in its public config.json.
        gated: its licence has to be accepted on the hub before a download.
        what: what it is good for, in a few words.
    """

    repo: str
    shape: ModelShape
    licence: str
    gated: bool = False
    what: str = ""

    @property
    def access_hint(self) -> str:
        """What to do before a gated model can be downloaded."""
        return f"accept its licence at https://huggingface.co/{self.repo}, then set HF_TOKEN"

    @property
    def download_bytes(self) -> int:
        """About what a download fetches."""
        return 2 * self.shape.parameters + _TOKENIZER_BYTES

    @property
    def downloaded(self) -> bool:
        """Whether the hub cache holds all of it."""
        folder = cached_snapshot(self.repo, None)
        return folder is not None and not problems_of(folder)


MODELS = (
    CuratedModel(
        "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        ModelShape(2048, 5632, 22, 32, 4, 64, 32_000, False, 2048, "llama"),
        "Apache-2.0",
        what="the default; English, short context",
    ),
    CuratedModel(
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        ModelShape(576, 1536, 30, 9, 3, 64, 49_152, True, 8192, "llama"),
        "Apache-2.0",
        what="the smallest: trains on a CPU",
    ),
    CuratedModel(
        "HuggingFaceTB/SmolLM2-360M-Instruct",
        ModelShape(960, 2560, 32, 15, 5, 64, 49_152, True, 8192, "llama"),
        "Apache-2.0",
        what="small, English",
    ),
    CuratedModel(
        "HuggingFaceTB/SmolLM2-1.7B-Instruct",
        ModelShape(2048, 8192, 24, 32, 32, 64, 49_152, True, 8192, "llama"),
        "Apache-2.0",
        what="English",
    ),
    CuratedModel(
        "Qwen/Qwen2.5-0.5B-Instruct",
        ModelShape(896, 4864, 24, 14, 2, 64, 151_936, True, 32_768, "qwen2"),
        "Apache-2.0",
        what="small, many languages",
    ),
    CuratedModel(
        "Qwen/Qwen2.5-1.5B-Instruct",
        ModelShape(1536, 8960, 28, 12, 2, 128, 151_936, True, 32_768, "qwen2"),
        "Apache-2.0",
        what="many languages",
    ),
    CuratedModel(
        "meta-llama/Llama-3.2-1B-Instruct",
        ModelShape(2048, 8192, 16, 32, 8, 64, 128_256, True, 131_072, "llama"),
        "Llama 3.2 Community License",
        gated=True,
        what="eight languages",
    ),
)


def curated_model(repo: str) -> CuratedModel | None:
    """The entry of a repository (`owner/name`, in any case), or None where it is not curated."""
    return next((model for model in MODELS if model.repo.lower() == repo.lower()), None)
