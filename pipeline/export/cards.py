"""The model card: what a stranger has to know about the adapter, with the figures that were measured and no others.

Paths, host and user names stay out: a card is there to be published.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pipeline import __version__
from pipeline.base_model import catalogue
from pipeline.base_model.gguf_header import read_header
from pipeline.base_model.locate import BaseModel
from pipeline.base_model.precision import PRECISIONS
from pipeline.common.redact import redact
from pipeline.common.text import gate_needs, gate_value
from pipeline.config.schema import ALL_LINEAR, AllLinear, Config
from pipeline.evaluation.evidence import suites_of
from pipeline.export.card_use import MERGED_USE, adapter_use, gguf_use, lora_use, ollama_use, proof_text
from pipeline.export.dataset_card import dataset_card
from pipeline.export.markdown import front_matter, plain, table
from pipeline.export.ollama.modelfile import model_name
from pipeline.export.package import Package, versions
from pipeline.export.proof.proof import Proof
from pipeline.planning.export_formats import EXPORT_FORMATS
from pipeline.runs.events import LayersProved, SuiteMeasured
from pipeline.runs.headline import suite_chance, suite_title, suite_value
from pipeline.runs.provenance import publishable

__all__ = ["dataset_card", "eight_bit_card", "gguf_card", "lora_card", "merged_card", "model_card", "ollama_card", "write_card"]

_PROMPTS_SHOWN = 50
_HUB_NAME = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?")
# Of the names the hub has for licences those that are also what everybody else calls them.
_HUB_LICENCES = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc0-1.0", "gpl-3.0")


def write_card(path: Path, text: str) -> None:
    """A card as a file, without a token that somebody wrote into a setting."""
    path.write_text(redact(text), encoding="utf-8")


def model_card(package: Package, manifest: Mapping[str, Any] = MappingProxyType({})) -> str:
    """Markdown with the hub's YAML front matter.

    Args:
        manifest: `humigence.json`, with what is recorded of each format.
    """
    parts = [
        front_matter(_metadata(package)),
        f"# {package.config.project}",
        _opening(package),
        *_evidence(package),
        *_proofs(package, manifest),
        "## Use",
        adapter_use(package),
        "## Limits",
        _limits(package.evaluation),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _evidence(package: Package, note: str = "") -> list[str]:
    """What was measured, how it was judged, and how it came about; after a note of what was measured."""
    return [
        "## Results",
        plain(package.evaluation.get("verdict") or ""),
        note,
        _results(package.evaluation),
        _curated(package.evaluation["curated"]),
        *_suites(suites_of(package.evaluation)),
        "### Acceptance gates",
        _gates(package),
        "## Training",
        _training(package),
    ]


def merged_card(package: Package, dtype: str, kept: float, licences: Sequence[str]) -> str:
    """The card of the merged model.

    Args:
        dtype: what its weights are held in; `kept` as `Tally.kept`.
        licences: names of the base model's licence files that lie beside it.
    """
    licence = licence_of(package.base)
    parts = [
        front_matter(_merged_metadata(package, licence)),
        f"# {package.config.project}",
        _merged_opening(package, dtype, kept),
        "## Licence",
        _licence_sentence(package, licence, licences),
        *_evidence(
            package,
            f"Measured with the adapter on the base model held in {package.config.train.precision_mode}; the merged weights were "
            "not measured again.",
        ),
        "## Use",
        MERGED_USE,
        "## Limits",
        _limits(package.evaluation),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _proofs(package: Package, manifest: Mapping[str, Any]) -> list[str]:
    """What was found when the formats beside the adapter were opened by the programs they are for."""
    records = {name: record for name in package.formats if isinstance(record := manifest.get(name), dict) and "proof" in record}
    if not records:
        return []
    lines = [f"- `{name}`: {plain(Proof.from_json(record['proof']).sentence())}." for name, record in records.items()]
    return ["## Exports", "\n".join(lines)]


def gguf_card(package: Package, file: str, kind: str, proof: Proof, licences: Sequence[str]) -> str:
    """The card of a GGUF file.

    Args:
        file: its name.
        kind: how its matrices are held: `q8_0`.
        licences: names of the base model's licence files that lie beside it.
    """
    return _gguf_card(package, kind, proof, licences, gguf_use(file))


def _gguf_card(package: Package, kind: str, proof: Proof, licences: Sequence[str], use: str) -> str:
    opening = (
        f"{plain(package.base.name)} with a LoRA adapter merged into it, as one GGUF file ({kind}). {_origin(package)}\n\n"
        "The adapter was added to the base model's own weights in 32 bits, and each sum was rounded once, to what the file holds."
    )
    return _with_proof(package, "gguf", "quantized", opening, proof_text(proof), licences, use)


def lora_card(package: Package, file: str, beside: str, proof: Proof, licences: Sequence[str]) -> str:
    """The card of an adapter as a GGUF file.

    Args:
        file: its name.
        beside: what it was proved beside.
        licences: names of the base model's licence files that lie beside it.
    """
    base = plain(package.base.name)
    opening = f"A LoRA adapter for {base} as a GGUF file, in 32 bits. {_origin(package)}"
    proved = proof_text(proof) + (f" It was loaded beside {beside}." if proof.is_proved else "")
    return _with_proof(package, "gguf", "adapter", opening, proved, licences, lora_use(file, base))


def eight_bit_card(package: Package, library: str, proof: Proof, note: str, use: str, licences: Sequence[str]) -> str:
    """The card of a model whose linear layers are in 8 bits.

    Args:
        library: whose form they are in.
        note: of what was not proved; empty for nothing.
        licences: names of the base model's licence files that lie beside it.
    """
    opening = (
        f"{plain(package.base.name)} with a LoRA adapter merged into it, its linear layers in 8 bits as {library} holds them, "
        f"with a scale for each output; embeddings, head and norms in 16 bits. {_origin(package)}\n\n"
        "The adapter was added to the base model's own weights in 32 bits, and each sum was rounded once, to 8 bits."
    )
    proved = f"{proof_text(proof)} {note}".strip()
    return _with_proof(package, "transformers", "quantized", opening, proved, licences, use)


def _with_proof(
    package: Package, library: str, relation: str, opening: str, proved: str, licences: Sequence[str], use: str
) -> str:
    licence = licence_of(package.base)
    tags = ["gguf"] if library == "gguf" else []
    what = {"pipeline_tag": "text-generation", "tags": [*tags, *_tags(package)]}
    metadata = {"library_name": library, **_base_named(package, relation), **_licence_named(licence), **what}
    parts = [
        front_matter(metadata), f"# {package.config.project}", opening,
        "## Licence", _licence_sentence(package, licence, licences),
        "## Proof", proved, *_evidence(package, "Measured with the adapter on its base model, not with this."),
        "## Use", use, "## Limits", _limits(package.evaluation),
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def ollama_card(package: Package, kind: str, proof: Proof, licences: Sequence[str], *, dated: bool) -> str:
    """The card of a model for Ollama; arguments as for `gguf_card` and `ollama_use`."""
    return _gguf_card(package, kind, proof, licences, ollama_use(model_name(package.config.project), dated=dated))


def _metadata(package: Package) -> dict[str, Any]:
    what = {"pipeline_tag": "text-generation", "tags": _tags(package)}
    return {"library_name": "peft", **_base_named(package, "adapter"), **_licence_named(licence_of(package.base)), **what}


def _licence_named(licence: str) -> dict[str, str]:
    """The base model's licence, where the hub has a name for it."""
    return {"license": licence.lower()} if licence.lower() in _HUB_LICENCES else {}


def _base_named(package: Package, relation: str) -> dict[str, Any]:
    base = package.base.name
    return {"base_model": base, "base_model_relation": relation} if _HUB_NAME.fullmatch(base) else {}


def _tags(package: Package) -> list[str]:
    mode = package.config.train.precision_mode
    return ["lora", *(["qlora"] if PRECISIONS[mode].bits == 4 else []), "peft", "humigence"]


def _merged_metadata(package: Package, licence: str) -> dict[str, Any]:
    tags = [tag for tag in _tags(package) if tag != "peft"]
    what = {"pipeline_tag": "text-generation", "tags": tags}
    return {"library_name": "transformers", **_base_named(package, "finetune"), **_licence_named(licence), **what}


def licence_of(base: BaseModel) -> str:
    """The base model's licence where it is known: of the catalogue, or as a GGUF file says; else empty."""
    if entry := catalogue.curated_model(base.name):
        return entry.licence
    return str(read_header(base.path).metadata.get("general.license") or "") if base.kind == "gguf" else ""


def _licence_sentence(package: Package, licence: str, files: Sequence[str]) -> str:
    name = f" ({plain(licence)})" if licence else ""
    beside = f" It lies here: {', '.join(plain(each) for each in files)}." if files else ""
    where = "" if licence or files else " It is told where the base model was published."
    return f"These weights are those of {plain(package.base.name)}, changed: its licence{name} holds for them.{beside}{where}"


def _merged_opening(package: Package, dtype: str, kept: float) -> str:
    gguf = ", which were de-quantized from a GGUF file" if package.base.kind == "gguf" else ""
    return (
        f"{plain(package.base.name)} with a LoRA adapter merged into its weights: a model of its own, which needs neither peft "
        f"nor the base model. {_origin(package)}\n\n"
        f"The adapter was added to the base model's own weights{gguf}, not to the ones training held in fewer bits; the sums "
        f"were computed in 32 bits and rounded once, to {dtype}, which kept {100 * kept:.1f} % of what the adapter adds."
    )


def _origin(package: Package) -> str:
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    return (
        f"Trained with Humigence {__version__} ({package.config.train.precision_mode}), packaged on {day} from run "
        f"`{package.trained.run.run_id}`."
    )


def _opening(package: Package) -> str:
    beside = [EXPORT_FORMATS[name].card for name in package.formats]
    return " ".join(filter(None, [f"A LoRA adapter for {plain(package.base.name)}. {_origin(package)}", *beside]))


def _results(evaluation: dict[str, Any]) -> str:
    rows = []
    for split in ("val", "test"):
        figures = evaluation[split]
        if figures is None:
            rows.append([split, "no rows", "not measured", "not measured", "not measured", "not measured"])
            continue
        for which in ("base", "tuned"):
            loss, perplexity = _number(figures[f"{which}_loss"], 4), _number(figures[f"{which}_perplexity"], 2)
            accuracy = f"{100 * figures[f'{which}_accuracy']:.2f} %"
            size = f"{figures['rows']:,} rows, {figures['tokens']:,} tokens"
            rows.append([split, size, which, loss, perplexity, accuracy])
    heads = ["split", "size", "model", "loss (nats a token)", "perplexity", "token accuracy"]
    note = "`val` chose the checkpoint; nothing but this measurement has looked at `test`. Only the assistant's tokens count."
    return table(heads, rows) + "\n\n" + note


def _number(value: float | None, digits: int) -> str:
    return "not a finite number" if value is None else f"{value:.{digits}f}"


def _curated(answers: Sequence[dict[str, Any]]) -> str:
    if not answers:
        return "No curated prompts were answered."
    good = sum(not answer["tuned_reasons"] for answer in answers)
    before = sum(not answer["base_reasons"] for answer in answers)
    text = f"Curated prompts answered reasonably: {good} of {len(answers)} (base model: {before})."
    marks = [
        [plain(answer["prompt"]), *("no" if answer[f"{which}_reasons"] else "yes" for which in ("base", "tuned"))]
        for answer in answers
    ]
    text += "\n\n" + table(["prompt answered reasonably", "base", "tuned"], marks[:_PROMPTS_SHOWN])
    reasons = Counter(reason for answer in answers for reason in answer["tuned_reasons"])
    items = [f"- {plain(reason)}" + (f" ({count} answers)" if count > 1 else "") for reason, count in reasons.most_common(10)]
    return text + ("\n\nWhat was wrong with the others:\n\n" + "\n".join(items) if items else "")


def _suites(suites: Sequence[SuiteMeasured]) -> list[str]:
    """What was asked beside, to see whether it is forgotten; nothing where nothing was."""
    if not suites:
        return []
    rows = [
        [
            plain(suite_title(each.suite)) + (f" ({plain(each.measure)})" if each.measure else ""), f"{each.items:,}",
            suite_value(each, each.base), suite_value(each, each.tuned), str(each.won), str(each.lost), suite_chance(each),
            each.verdict,
        ]
        for each in suites
    ]  # fmt: skip
    return ["### Forgetting", table(["suite", "items", "base", "tuned", "won", "lost", "chance", "verdict"], rows)]


def _gates(package: Package) -> str:
    heads = ["gate", "verdict", "value", "needs"]
    rows = [
        [gate.gate, gate.verdict, gate_value(gate.value, gate.unit), gate_needs(gate.threshold, gate.unit, gate.at_most)]
        for gate in package.gates
    ]
    notes = [f"- {gate.gate}: {plain(gate.explanation)}" for gate in package.gates]
    return table(heads, rows) + "\n\n" + "\n".join(notes)


def _training(package: Package) -> str:
    report = package.trained.report
    rows = [*_settings(package.config, package.plan), *_planned(package.plan)]
    ended = "all steps" if report["ended"] == "complete" else "stopped early by the held-out loss"
    rows += [("optimizer steps", f"{report['steps']:,} ({ended})"), ("checkpoint", f"step {report['best_step']:,}")]
    rows += [("tokens seen", f"{report['tokens']:,}")] if report.get("tokens") else []
    made_with = publishable(package.made_with)
    rows += [(name, plain(value)) for name, value in made_with if name != "seed"]
    rows += [] if made_with else [("versions", ", ".join(f"{name} {number}" for name, number in versions().items()))]
    return table(["setting", "value"], [list(row) for row in rows])


def _settings(config: Config, plan: dict[str, Any]) -> Iterable[tuple[str, str]]:
    train, lora = config.train, config.train.lora
    packed = plan["isolation"] != "rows" if plan.get("isolation") else config.data.packing
    yield "precision mode", train.precision_mode
    kind = (", rsLoRA" if lora.rslora else "") + (", DoRA" if lora.dora else "")
    yield "LoRA", f"rank {lora.r}, alpha {lora.alpha}, dropout {lora.dropout:g}{kind}"
    yield "target modules", _targets(lora.target_modules, plan)
    yield "learning rate", f"{train.lr:g}, {train.scheduler}, warm-up {100 * train.warmup_ratio:g} % of the steps"
    yield "weight decay, gradient norm", f"{train.weight_decay:g}, {train.grad_clip:g}"
    yield "epochs", f"{train.epochs:g}" + (f", at most {train.max_steps} steps" if train.max_steps else "")
    yield "row length", f"{config.data.max_seq_len} tokens, " + ("packed" if packed else "one conversation a row")
    yield "seed", str(config.seed)


def _targets(chosen: Sequence[str] | AllLinear, plan: dict[str, Any]) -> str:
    if chosen != ALL_LINEAR:
        return ", ".join(chosen)
    return ", ".join(plan.get("target_modules") or ["every linear layer of the language model"])


def _planned(plan: dict[str, Any]) -> Iterable[tuple[str, str]]:
    if plan:
        yield "micro-batch × accumulation", f"{plan['micro_batch']} × {plan['accumulation']} rows"
    if proved := (plan or {}).get("proved"):
        yield "proved at load", plain(LayersProved(**{each.name: proved[each.name] for each in fields(LayersProved)}).sentence())


def _limits(evaluation: dict[str, Any]) -> str:
    rows = sum(evaluation[split]["rows"] for split in ("val", "test") if evaluation[split])
    return (
        f"The figures above rest on {rows:,} held-out rows of the same source as the training data and on "
        f"{len(evaluation['curated'])} curated prompts, whose answers were checked for form (loops, noise, echoes), not for "
        "truth. The base model's own limits and licence apply."
    )
