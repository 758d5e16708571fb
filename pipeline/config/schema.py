"""`Config`: the only description of a setting.

The wizard's forms, `config set`, the validation messages, the table in the documentation and the saved JSON are derived from
these fields: type, bounds, default, one-line help, choices, level, and which results it affects. Reading and writing files is in
`file`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePath
from posixpath import normpath
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.config.repository import is_repository, repository_named

Level = Literal["basic", "advanced"]
HeldOutSplit = Literal["val", "test"]
Auto = Literal["auto"]
AllLinear = Literal["all-linear"]
ALL_LINEAR: AllLinear = "all-linear"
PrecisionMode = Literal["qlora_nf4", "lora_fp16", "lora_bf16", "lora_int8"]
FoundSchema = Literal[
    "chat_messages", "instruction_output", "alpaca", "sharegpt", "oasst", "prompt_completion", "preference", "text",
]  # fmt: skip
RowSchema = Literal[
    "auto", "chat_messages", "instruction_output", "alpaca", "sharegpt", "oasst", "prompt_completion", "preference", "text",
]  # fmt: skip
ExportFormat = Literal[
    "peft_adapter", "merged", "merged_bf16", "merged_fp16",
    "gguf_f16", "gguf_bf16", "gguf_q8_0", "gguf_q5_1", "gguf_q5_0", "gguf_q4_1", "gguf_q4_0",
    "gguf_lora", "ollama", "runtime_int8", "vllm_int8",
]  # fmt: skip
ChatTemplate = Literal["auto", "chatml", "llama-3", "gemma", "zephyr", "alpaca"]
TemplateFile = Annotated[str, Field(pattern=r"[./]", max_length=4096)]  # a path, told from a name by its dot or slash
Thinking = Literal["auto", "on", "off"]
SuiteName = Literal[
    "facts", "arithmetic", "common_sense", "reading", "instructions", "json", "refusals", "tool_calls",
]  # fmt: skip
LM_EVAL = "lm-eval:"  # before the name of one of lm-eval's tasks
_SUITES_ALLOWED = f"auto, off, all or {', '.join(get_args(SuiteName))}, {LM_EVAL}TASK"
Topic = Literal[
    "animals", "arithmetic", "astronomy", "chemistry", "computing", "cooking", "geography", "health", "history", "home",
    "language", "units",
]  # fmt: skip


# What is made once and found again while nothing has changed: prepared rows, the plan, the speed that `plan --measure` measured,
# the trained adapter, the evaluation report, the gates' verdicts, the package.
Result = Literal["rows", "plan", "speed", "adapter", "report", "verdicts", "package"]
# The package's fingerprint holds every setting but the device, which is no part of the result (and which a worker knows by
# another name than the config file), and the formats, which the manifest names.
_PACKAGE: tuple[Result, ...] = ("package",)
_ROWS: tuple[Result, ...] = ("rows", "package")
_LEARNING: tuple[Result, ...] = ("plan", "adapter", "package")
_STEP: tuple[Result, ...] = ("plan", "speed", "adapter", "package")  # what a step costs, too
_ANSWERS: tuple[Result, ...] = ("report", "package")
_GATES: tuple[Result, ...] = ("verdicts", "package")


def setting(
    default: Any,
    help_text: str,
    *,
    affects: tuple[Result, ...],
    level: Level = "advanced",
    allowed: str = "",
    since: str = "",
    stood_for: Any = None,
    **bounds: Any,
) -> Any:
    """A field with its one-line help, its level and what it affects.

    Args:
        affects: the results that are made anew when this value changes; () for none. Only those whose fingerprint the value
            itself goes into (`affects.settings_of`): not what follows from them, nor what is made from a file that it names.
        allowed: what it takes, as text, where type and bounds don't say it (a pattern).
        since: the version that brought it, where that is not 0.1.0. At its default it then stays out of the fingerprints, so
            that what was made before it is still found; the default must mean what was done without it.
        stood_for: the default of before, where another has taken its place that finds out what is right: for fingerprints the new
            one is the old, since what it comes to goes into those of the rows by itself.
        bounds: pydantic's (`ge`, `le`, `gt`, `alias`, …).
    """
    extra: dict[str, Any] = {"level": level, "allowed": allowed, "affects": list(affects), "since": since, "stood_for": stood_for}
    return Field(default=default, description=help_text, json_schema_extra=extra, **bounds)


class Section(BaseModel):
    """Unknown keys are refused, values can't change after checking, NaN and infinities are not numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, populate_by_name=True)

    @field_validator("*")
    @classmethod
    def _without_nul(cls, value: Any) -> Any:
        # Neither a path nor a name can hold one, and the system's calls would say so much later.
        if any("\0" in text for text in (value if isinstance(value, tuple) else (value,)) if isinstance(text, str)):
            raise ValueError("can't hold a NUL character")
        return value


class ModelSection(Section):
    repo: str = setting(
        "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        "Base model on the Hugging Face hub (owner/name).",
        affects=("speed", "package"),
        level="basic",
        max_length=200,
    )
    revision: str | None = setting(
        None, "Branch, tag or commit of the repository; empty for its main branch.", affects=_PACKAGE, max_length=200
    )
    local_path: str | None = setting(
        None,
        "Base model on this machine: a Hugging Face folder or a .gguf file. Used instead of the hub.",
        affects=("speed", "package"),
        level="basic",
    )

    @field_validator("repo", mode="before")
    @classmethod
    def _address_as_name(cls, value: Any) -> Any:
        return repository_named(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _is_a_repository(self) -> ModelSection:
        if not self.local_path and not is_repository(self.repo):
            raise ValueError(f"repo: {self.repo!r} is not a repository name (owner/name)")
        return self

    @field_validator("revision")
    @classmethod
    def _is_a_git_name(cls, revision: str | None) -> str | None:
        # As git-check-ref-format: it becomes part of a path in the hub's cache.
        if revision and (
            ".." in revision or not re.fullmatch(r"[^\x00-\x20\x7f~^:?*\[\\/]+(/[^\x00-\x20\x7f~^:?*\[\\/]+)*", revision)
        ):
            raise ValueError("must be a branch, a tag or a commit")
        return revision


class ComputeSection(Section):
    gpu: str = setting(
        "auto",
        'Which GPU: "auto" (the one with most memory free, else the CPU), "cpu", an index or a UUID.',
        affects=(),
        level="basic",
        allowed="auto, cpu, an index or a UUID",
        pattern=r"^(auto|cpu|\d{1,3}|GPU-[0-9a-fA-F-]{4,40}|MIG-[0-9A-Za-z/-]{4,80})$",
    )
    memory_limit_gib: float | None = setting(
        None,
        "Most GPU memory to use, in GiB, where something else needs the rest; null for what is free.",
        affects=("speed",),
        gt=0,
        le=1024,
    )

    @field_validator("gpu", mode="before")
    @classmethod
    def _index_as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class SplitSection(Section):
    train: float = setting(0.8, "Share of the rows that are trained on.", affects=_ROWS, gt=0, le=1)
    val: float = setting(0.1, "Share held out to judge each checkpoint.", affects=_ROWS, ge=0, lt=1)
    test: float = setting(0.1, "Share that nothing but the last evaluation looks at.", affects=_ROWS, ge=0, lt=1)

    @model_validator(mode="after")
    def _sums_to_one(self) -> SplitSection:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train + val + test must be 1, not {total:g}")
        return self


class GenerateSection(Section):
    rows: int = setting(240, "Conversations to make.", affects=_PACKAGE, ge=2, le=100_000)
    topics: tuple[Topic, ...] = setting(get_args(Topic), "What they are about.", affects=_PACKAGE, min_length=1)

    @field_validator("topics")
    @classmethod
    def _topics_once(cls, topics: tuple[Topic, ...]) -> tuple[Topic, ...]:
        if len(set(topics)) != len(topics):
            raise ValueError("a topic is named twice")
        return topics


class OasstSection(Section):
    paths: Literal["best", "all"] = setting(
        "best",
        "Of a message tree: the path of the best-ranked replies, or all paths, each answer trained in the first that it is in.",
        affects=_ROWS,
        since="0.2.0",
    )
    languages: tuple[str, ...] = setting(
        (),
        "Messages in these languages only, by the code that a message has (en,de); empty: in all.",
        affects=_ROWS,
        since="0.2.0",
    )


# How people name a data set of the hub: the address of its page, or as its file systems do (hf://datasets/owner/name@main).
_HUB_ADDRESS = re.compile(r"^(?:https://huggingface\.co/|hf://)?datasets/(?P<repo>[^@?#]+?)/?(?:@(?P<revision>[^?#]+))?$")


class HubSection(Section):
    repo: str = setting(
        "",
        "Data set on the Hugging Face hub (owner/name).",
        affects=_PACKAGE,
        level="basic",
        since="0.2.0",
        max_length=200,
    )
    revision: str | None = setting(
        None,
        "Branch, tag or commit of the data set; empty for its main branch, as it was when it was fetched.",
        affects=_PACKAGE,
        since="0.2.0",
        max_length=200,
    )
    subset: str | None = setting(
        None,
        "Subset (config) of the data set; empty for its default, or the only one.",
        affects=_PACKAGE,
        since="0.2.0",
        max_length=200,
    )
    split: str | None = setting(
        None, "Its split that the rows are of; empty for train, or the only one.", affects=_PACKAGE, since="0.2.0", max_length=200
    )

    @model_validator(mode="before")
    @classmethod
    def _from_an_address(cls, values: Any) -> Any:
        found = _HUB_ADDRESS.match(values["repo"]) if isinstance(values, dict) and isinstance(values.get("repo"), str) else None
        if found is None:
            return values
        revision = found["revision"] or values.get("revision")
        return {**values, "repo": found["repo"], **({"revision": revision} if revision else {})}

    @field_validator("revision", "subset", "split")
    @classmethod
    def _empty_is_none(cls, value: str | None) -> str | None:
        return value or None


class SourceItem(Section):
    """One of `data.sources`: a path or a data set of the hub, how its rows are written, and how much of it is taken."""

    name: str = Field("", max_length=64)
    path: str = Field("", max_length=4096)
    repo: str = Field("", max_length=200)
    revision: str | None = Field(None, max_length=200)
    subset: str | None = Field(None, max_length=200)
    split: str | None = Field(None, max_length=200)
    row_schema: RowSchema = Field("auto", alias="schema")
    columns: tuple[str, ...] = ()
    weight: float = Field(1.0, gt=0, le=100)
    rows: int | None = Field(None, ge=1)

    @property
    def hub(self) -> HubSection:
        """Its data set of the hub; without a name where it is a path."""
        return HubSection(repo=self.repo, revision=self.revision, subset=self.subset, split=self.split)

    @property
    def title(self) -> str:
        """What it is called for a person."""
        return self.name or self.repo or PurePath(self.path).name

    @field_validator("columns")
    @classmethod
    def _columns_named_once(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        return columns_named_once(columns)

    @model_validator(mode="after")
    def _one_place(self) -> SourceItem:
        if bool(self.path) == bool(self.repo):
            raise ValueError("each source has a path, or the repo of a data set of the hub")
        return self


def columns_named_once(columns: tuple[str, ...]) -> tuple[str, ...]:
    """`NAME=COLUMN`, each name once. Raises `ValueError`."""
    pairs = [each.partition("=") for each in columns]
    if not all(name and column for name, _, column in pairs):
        raise ValueError("must be NAME=COLUMN, each name once (prompt=question)")
    if len({name for name, _, _ in pairs}) != len(pairs):
        raise ValueError("a name is given twice")
    return columns


def columns_by_name(columns: Iterable[str]) -> dict[str, str]:
    """The name that `data.columns` gives -> the column of the file."""
    return dict(each.split("=", 1) for each in columns)


class DataSection(Section):
    source: Literal["bundled", "generated", "local", "hub", "several"] = setting(
        "local",
        "Local: the file at raw_path. Hub: the data set of data.hub. Several: those of data.sources. Bundled: the 12-row demo,"
        " generated: what data.generate says; both are written below data/raw, to a place of their own, where no file is yet."
        " Setting raw_path sets local, data.hub hub, data.sources several.",
        affects=_PACKAGE,
        level="basic",
    )
    raw_path: str = setting(
        "data/raw/oa.jsonl",
        "The rows: a file (JSONL, JSON, CSV, Parquet …), a folder or a pattern.",
        affects=_PACKAGE,
        level="basic",
        min_length=1,
    )
    row_schema: RowSchema = setting(
        "auto",
        "How a row is written; auto: found out from the rows.",
        affects=_ROWS,
        stood_for="chat_messages",
        level="basic",
        alias="schema",
    )
    columns: tuple[str, ...] = setting(
        (),
        "Columns under other names than the schema's, NAME=COLUMN: prompt=frage,completion=antwort.",
        affects=_ROWS,
        since="0.2.0",
        allowed="NAME=COLUMN, each name once",
    )
    train_on: Literal["all", "last"] = setting(
        "all", "Which answers of a conversation are trained: all, or the last.", affects=_ROWS, since="0.2.0"
    )
    template: ChatTemplate | TemplateFile = setting(
        "auto",
        "Chat template; auto: the model's own. The others, or a Jinja file, are for a model without one, or in place of it.",
        affects=_PACKAGE,
        allowed="auto, chatml, llama-3, gemma, zephyr, alpaca, or the path of a Jinja file",
    )
    thinking: Thinking = setting(
        "auto",
        "Whether the model thinks before it answers, where its chat template has a switch for that; auto: as it stands there.",
        affects=_PACKAGE,
        since="0.2.0",
    )
    processed_dir: str = setting("data/processed", "Folder for the prepared data.", affects=_PACKAGE, min_length=1)
    max_seq_len: int = setting(
        1024, "Longest piece the model sees at once, in tokens.", affects=("rows", *_STEP), ge=16, le=131_072
    )
    packing: bool = setting(
        True,
        "Put several conversations into one row. They never see each other: a model that can't keep them apart gets one a row.",
        affects=_STEP,
    )
    hub: HubSection = Field(default=HubSection(), description="The data set of the hub.")
    oasst: OasstSection = Field(default=OasstSection(), description="What is taken of OpenAssistant's message trees.")
    sources: tuple[SourceItem, ...] = setting(
        (),
        "Several sources, each with path or repo, and name, schema, columns, weight, rows, subset, split as it needs them.",
        affects=_PACKAGE,
        since="0.2.0",
        allowed='JSON: [{"path": "a.jsonl"}, {"repo": "owner/name", "weight": 2}]',
        max_length=64,
    )
    val_path: str = setting(
        "",
        "Rows of your own for val (file, folder or pattern), in place of a share of the rows; none that test has.",
        affects=_PACKAGE,
        since="0.2.0",
        max_length=4096,
    )
    test_path: str = setting(
        "",
        "Rows of your own for test (file, folder or pattern), in place of a share of the rows.",
        affects=_PACKAGE,
        since="0.2.0",
        max_length=4096,
    )
    generate: GenerateSection = Field(default=GenerateSection(), description="What source generated makes.")
    split: SplitSection = Field(
        default=SplitSection(), description="How the rows are divided; with val_path or test_path those that are left."
    )
    over_long: Literal["window", "drop"] = setting(
        "window",
        "A conversation longer than max_seq_len: trained in overlapping windows, or left out. Never cut silently.",
        affects=_ROWS,
    )
    window_overlap: Annotated[int, Field(ge=0)] | Auto = setting(
        "auto",
        "Tokens a window repeats from the one before (seen, not trained twice); auto: 128, at most a quarter of max_seq_len.",
        affects=_ROWS,
    )

    @property
    def overlap(self) -> int:
        """`window_overlap` in tokens."""
        return min(128, self.max_seq_len // 4) if self.window_overlap == "auto" else self.window_overlap

    @property
    def held_out_paths(self) -> dict[HeldOutSplit, str]:
        """The splits that have rows of their own -> the path of those."""
        found: dict[HeldOutSplit, str] = {"val": self.val_path, "test": self.test_path}
        return {split: path for split, path in found.items() if path}

    @property
    def shares(self) -> SplitSection:
        """How the rows are divided: nothing of them goes to a split that has rows of its own, whatever `split` says."""
        own = sum(getattr(self.split, split) for split in self.held_out_paths)
        if not own:
            return self.split
        left = dict.fromkeys(self.held_out_paths, 0.0)
        return SplitSection.model_validate(self.split.model_dump() | left | {"train": self.split.train + own})

    def holds_out(self, split: HeldOutSplit) -> bool:
        """Whether there are to be rows in the split."""
        return split in self.held_out_paths or bool(getattr(self.split, split))

    @field_validator("columns")
    @classmethod
    def _columns_named_once(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        return columns_named_once(columns)

    @field_validator("sources")
    @classmethod
    def _sources_told_apart(cls, sources: tuple[SourceItem, ...]) -> tuple[SourceItem, ...]:
        titles = [each.title for each in sources]
        if twice := next((title for title in titles if titles.count(title) > 1), None):
            raise ValueError(f"two are called {twice}: give each a name")
        return sources

    @model_validator(mode="after")
    def _sources_are_named(self) -> DataSection:
        if self.source == "several" and not self.sources:
            raise ValueError("source several takes the rows of sources, and there are none")
        return self

    @model_validator(mode="after")
    def _held_out_apart(self) -> DataSection:
        if self.val_path and self.test_path and normpath(self.val_path) == normpath(self.test_path):
            raise ValueError("val_path and test_path are the same: name one of them, and the other is drawn from the rows")
        return self

    @model_validator(mode="after")
    def _overlap_fits(self) -> DataSection:
        if self.over_long == "window" and self.overlap >= self.max_seq_len:
            raise ValueError(
                f"window_overlap ({self.overlap}) must be smaller than max_seq_len ({self.max_seq_len}); auto always is"
            )
        return self


class LoraSection(Section):
    r: int = setting(16, "Rank of the adapter: higher learns more and costs more memory.", affects=_STEP, ge=1, le=1024)
    alpha: int = setting(32, "Scale of the adapter; its effect is multiplied by alpha / r.", affects=_STEP, ge=1, le=4096)
    dropout: float = setting(0.05, "Share of the adapter's inputs dropped in training.", affects=_STEP, ge=0, lt=1)
    target_modules: Annotated[tuple[str, ...], Field(min_length=1)] | AllLinear = setting(
        "all-linear",
        "Linear layers that get an adapter, by name; all-linear: every one of the language model but the head, experts, routers.",
        affects=_STEP,
    )
    rslora: bool = setting(
        False,
        "Scale the adapter by alpha / √r in place of alpha / r, for high ranks; trained with the model's own layers.",
        affects=_STEP,
        since="0.2.0",
    )
    dora: bool = setting(
        False,
        "Train the size of each layer's weights apart from their direction (DoRA): often better at low ranks, slower, with the"
        " model's own layers.",
        affects=_STEP,
        since="0.2.0",
    )

    @field_validator("target_modules")
    @classmethod
    def _names_once(cls, names: tuple[str, ...] | AllLinear) -> tuple[str, ...] | AllLinear:
        if names in (ALL_LINEAR, (ALL_LINEAR,)):
            return ALL_LINEAR
        if any(not name.strip() for name in names):
            raise ValueError("a module name is empty")
        if wrong := next((name for name in names if not re.fullmatch(r"[\w.-]+", name)), None):
            raise ValueError(f"{wrong!r} is no name of a layer (q_proj, v_proj)")
        if len(set(names)) != len(names):
            raise ValueError("a module is named twice")
        return names


class EarlyStoppingSection(Section):
    enabled: bool = setting(True, "Stop when the held-out loss no longer falls.", affects=_LEARNING)
    patience: int = setting(3, "Evaluations without improvement before stopping.", affects=_LEARNING, ge=1, le=1000)
    min_delta: float = setting(
        0.002, "A fall of the held-out loss smaller than this is no improvement (nats).", affects=_LEARNING, ge=0
    )


class TrainSection(Section):
    precision_mode: PrecisionMode = setting(
        "qlora_nf4",
        "How the frozen weights are held: 4-bit NF4, 16-bit float, bfloat16 or 8-bit.",
        affects=("report", *_STEP),
        level="basic",
    )
    lr: float = setting(2e-4, "Peak learning rate.", affects=_LEARNING, gt=0, le=1)
    scheduler: Literal["cosine", "linear", "constant"] = setting(
        "cosine", "How the learning rate falls after the warm-up.", affects=_LEARNING
    )
    warmup_ratio: float = setting(0.03, "Share of the steps in which the learning rate rises.", affects=_LEARNING, ge=0, lt=1)
    weight_decay: float = setting(0.0, "AdamW weight decay.", affects=_LEARNING, ge=0, le=1)
    grad_clip: float = setting(1.0, "Gradients are scaled down to this norm.", affects=_LEARNING, gt=0)
    epochs: float = setting(1.0, "Passes over the training rows.", affects=_LEARNING, gt=0, le=1000)
    max_steps: int | None = setting(
        None, "Stop after this many optimizer steps, whatever the epochs; null for no limit.", affects=_LEARNING, ge=1
    )
    gradient_checkpointing: bool | Auto = setting(
        "auto", "Recompute activations in the backward pass to save memory; auto: only where memory asks for it.", affects=_STEP
    )
    micro_batch: Annotated[int, Field(ge=1, le=4096)] | Auto = setting(
        "auto", "Rows in one forward pass; auto: what fits into the free memory.", affects=_STEP
    )
    kernels: Literal["auto", "fused", "plain"] = setting(
        "auto",
        "Whose layers are trained: our fused ones (several times as fast; for most dense models; a GPU from 2020 on) or the "
        "model's own.",
        affects=_STEP,
    )
    attention: Literal["auto", "sdpa", "varlen"] = setting(
        "auto",
        "How packed documents attend in the model's own layers: by a mask (sdpa) or by their offsets (varlen, faster; a GPU from "
        "2020 on). Setting it asks for those layers.",
        affects=_STEP,
    )
    deterministic: bool = setting(
        False,
        "The same run gives the same bits twice on a GPU too; slower with the model's own layers, not with the fused ones.",
        affects=_STEP,
    )
    tokens_per_step_target: Annotated[int, Field(ge=1)] | Auto = setting(
        "auto", "Tokens per optimizer step; auto: 16 rows of max_seq_len, fewer when the data is small.", affects=_STEP
    )
    eval_every_steps: Annotated[int, Field(ge=1)] | Auto = setting(
        "auto", "Optimizer steps between held-out evaluations; auto: at least ten in the run.", affects=_LEARNING
    )
    save_every_steps: Annotated[int, Field(ge=1)] | Auto = setting(
        "auto",
        "Optimizer steps between checkpoints; auto: every ten minutes. One is saved at every evaluation too.",
        affects=_LEARNING,
    )
    lora: LoraSection = Field(default=LoraSection(), description="The adapter.")
    early_stopping: EarlyStoppingSection = Field(default=EarlyStoppingSection(), description="When to stop before the end.")


class EvalSection(Section):
    curated_prompts_path: str = setting(
        "configs/curated_eval_prompts.jsonl",
        "JSONL of prompts that base and tuned model both answer.",
        affects=_PACKAGE,
        min_length=1,
    )
    max_new_tokens: int = setting(128, "Longest answer to a curated prompt, in tokens.", affects=_ANSWERS, ge=1, le=8192)
    temperature: float = setting(
        0.0, "Temperature of the curated answers; 0 always takes the likeliest token.", affects=_ANSWERS, ge=0, le=5
    )
    samples_per_eval: int = setting(
        3, "Curated prompts answered at each evaluation while training; 0 for none.", affects=_PACKAGE, ge=0, le=100
    )
    rows_while_training: int = setting(
        256,
        "Most held-out rows used for an evaluation while training, drawn over all of them; the last evaluation uses all.",
        affects=("adapter", "package"),
        ge=1,
    )
    suites: Annotated[tuple[str, ...], Field(min_length=1)] | Literal["auto", "off", "all"] = setting(
        "auto",
        "Suites that show what was forgotten; auto: all on a GPU, none on a CPU.",
        affects=(),
        since="0.2.0",
        allowed=_SUITES_ALLOWED,
    )
    lm_eval_tasks: str | None = setting(
        None, f"Folder with lm-eval task files of your own, for suites {LM_EVAL}TASK.", affects=(), since="0.2.0"
    )

    @field_validator("suites", mode="before")
    @classmethod
    def _one_word(cls, suites: Any) -> Any:
        words = [suites] if isinstance(suites, str) else suites
        return words[0] if isinstance(words, list | tuple) and len(words) == 1 and words[0] in ("auto", "off", "all") else words

    @field_validator("suites")
    @classmethod
    def _suites_once(cls, suites: tuple[str, ...] | str) -> tuple[str, ...] | str:
        if isinstance(suites, str):
            return suites
        for name in suites:
            if name not in get_args(SuiteName) and not re.fullmatch(rf"{LM_EVAL}[\w./+-]{{1,200}}", name):
                raise ValueError(f"knows no suite {name!r}; there are {', '.join(get_args(SuiteName))} and {LM_EVAL}TASK")
        if len(set(suites)) != len(suites):
            raise ValueError("a suite is named twice")
        return suites


class AcceptanceSection(Section):
    min_val_improvement_pct: float = setting(
        1.0,
        "The held-out loss must fall by at least this share of the base model's, in percent.",
        affects=_GATES,
        ge=-100,
        le=100,
    )
    jitter_threshold: float = setting(0.20, "Largest spread of the step time, as a share of its median.", affects=_GATES, gt=0)
    curated_threshold: float = setting(0.70, "Least share of curated prompts answered reasonably.", affects=_GATES, ge=0, le=1)
    least_rows: int = setting(
        30, "Held-out rows below which the held-out loss is not judged.", affects=_GATES, since="0.2.0", ge=2, le=1_000_000
    )
    least_tokens: int = setting(
        2000,
        "Tokens of held-out answers below which the held-out loss is not judged.",
        affects=_GATES,
        since="0.2.0",
        ge=1,
        le=1_000_000_000,
    )
    moved_answers: bool = setting(
        True,
        "Whether a lower held-out loss passes only where answers are likelier under their own questions than under others.",
        affects=_GATES,
        since="0.2.0",
    )
    jitter: Literal["warning", "gate"] = setting(
        "warning",
        "What an unsteady speed is: a warning, or a gate that fails the run (exit code 3).",
        affects=_GATES,
        since="0.2.0",
    )
    forgetting: Literal["warning", "gate"] = setting(
        "warning",
        "What a suite is that fell: a warning, or a gate that fails the run (exit code 3).",
        affects=_GATES,
        since="0.2.0",
    )


class ExportSection(Section):
    artifacts_dir: str = setting("artifacts", "Folder for the packaged result.", affects=_PACKAGE, min_length=1)
    formats: tuple[ExportFormat, ...] = setting(
        ("peft_adapter",),
        "What is packaged: the adapter, always; merged and the others: beside it models that need neither adapter nor base.",
        affects=(),
        min_length=1,
    )

    @field_validator("formats")
    @classmethod
    def _with_the_adapter(cls, formats: tuple[ExportFormat, ...]) -> tuple[ExportFormat, ...]:
        if len(set(formats)) != len(formats):
            raise ValueError("a format is named twice")
        if "peft_adapter" not in formats:
            raise ValueError("peft_adapter is always among them (peft_adapter,merged): infer and chat ask it")
        return formats


class Config(Section):
    """Everything a run needs to know, checked. Unset keys hold the defaults of the specification."""

    project: str = setting(
        "humigence",
        "Name of the project; its runs and artifacts are kept under it.",
        affects=_PACKAGE,
        level="basic",
        allowed="1 to 64 letters, digits, dots, dashes and underscores, the first a letter or digit",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
    )
    seed: int = setting(
        42, "Every random choice follows from it.", affects=("rows", "adapter", "report", "package"), ge=0, le=2**32 - 1
    )
    model: ModelSection = Field(default=ModelSection(), description="The base model.")
    compute: ComputeSection = Field(default=ComputeSection(), description="The device.")
    data: DataSection = Field(default=DataSection(), description="The rows and how they are prepared.")
    train: TrainSection = Field(default=TrainSection(), description="Training.")
    eval: EvalSection = Field(default=EvalSection(), description="Evaluation.")
    acceptance: AcceptanceSection = Field(default=AcceptanceSection(), description="When the result is good enough.")
    export: ExportSection = Field(default=ExportSection(), description="Packaging.")

    def to_json(self) -> dict[str, Any]:
        """The config as it is written to a file, every key filled in."""
        return self.model_dump(mode="json", by_alias=True)
