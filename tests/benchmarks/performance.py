"""The tables of docs/performance.md and the README's figure, from the JSON that the benchmarks wrote; `python -m tests.docs` puts
them there.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from tests.benchmarks.harness import RESULTS

# The newest go of each.
_FIRST, _NEWEST = "without graphs", "swiglu with what adapters add"
_ROWS = (
    ("TinyLlama-1.1B, memory free", "memory free", _NEWEST),
    ("at the shipped defaults (dropout 0.05)", "at the shipped defaults (dropout 0.05)", _FIRST),
    ("the MLP projections adapted too", "MLP projections too", _NEWEST),
    ("held to 15.5 GiB, a 16 GB card's memory", "within 15.5 GiB", _FIRST),
    ("held to 6 GiB", "within 6 GiB", _NEWEST),
    ("all activations recomputed", "everything recomputed", _FIRST),
    ("transformers' own layers", "the model's own layers", _FIRST),
    ("SmolLM2-135M, 16 rows a step", "smollm2-135m", _NEWEST),
)
_SHAPES = {
    "tinyllama-1.1b": "TinyLlama-1.1B",
    "llama-3.2-1b": "Llama-3.2-1B",
    "qwen3-1.7b": "Qwen3-1.7B",
    "smollm2-135m": "SmolLM2-135M",
}
_WORK = "NF4, rank 16 on q k v o, 16,384 tokens a step, conversations of log-normal length, real tokens only."


def table() -> str:
    """What docs/performance.md shows, in Markdown."""
    parts = (
        *_beside_others(),
        "",
        *_by_family(),
        "",
        *_by_setting(),
        "",
        _memory(),
        "",
        *_all_peers(),
        "",
        *_answering(),
        "",
        _beginning(),
    )
    return "\n".join(parts) + "\n"


def sentence() -> str:
    """The README's figure with its conditions, in Markdown."""
    go = _newest_go()
    ours, best = _ours(go)[0], _best(go, _ours(go)[0]["shape"])
    ratio = ours["tok_s"] / best["tok_s"]
    text = (
        f"On one {_device()} it trains {_SHAPES[ours['shape']]}'s shape (NF4, rank 16 on q k v o, 16,384 tokens a step, memory "
        f"free) at {ours['tok_s']:,} tokens/s: {ratio:.1f} times the {best['tok_s']:,} of the best other trainer measured, "
        f"{_name(best)} ({_given(best)}). {_versions(go)}; {go['date']}."
    )
    return textwrap.fill(text, 130, break_on_hyphens=False) + "\n"


# ------------------------------------------------------------------------------------------- beside others


def _beside_others() -> list[str]:
    go = _newest_go()
    return [
        f"### Beside the best of the others: one {_device()}, {go['date']}",
        "",
        f"{_versions(go)}; Humigence at {go['ours']['commit']}.",
        _WORK,
        "",
        "| shape | Humigence, tokens/s | GiB | the best of the others, tokens/s | GiB | what it was given | ratio |",
        "| --- | ---: | ---: | ---: | ---: | --- | ---: |",
        *(_compared(each, _best(go, each["shape"])) for each in _ours(go)),
    ]


def _compared(ours: dict[str, Any], peer: dict[str, Any]) -> str:
    figures = f"{ours['tok_s']:,} | {ours['peak_gib']:.1f} | {peer['tok_s']:,} | {peer['peak_gib']:.1f}"
    return f"| {_SHAPES[ours['shape']]} | {figures} | {_name(peer)}: {_given(peer)} | {ours['tok_s'] / peer['tok_s']:.1f} × |"


def _all_peers() -> list[str]:
    return [
        "### Every one of the others that was measured",
        "",
        "| shape | trainer | what it was given | tokens/s | peak GiB | date |",
        "| --- | --- | --- | ---: | ---: | --- |",
        *(
            f"| {_SHAPES[peer['shape']]} | {_name(peer)} | {_given(peer)} | {peer['tok_s']:,} | {peer['peak_gib']:.1f} | {date} |"
            for date, peer in sorted(_measured_peers(), key=_by_shape_and_speed)
        ),
    ]


def _measured_peers() -> Iterator[tuple[str, dict[str, Any]]]:
    """(date, peer) of every measurement."""
    steps = _read("h100-train-step")
    yield from ((steps["machine"]["date"], peer) for peer in steps["peers"])
    for go in _read("h100-peers")["goes"]:
        yield from ((go["date"], peer) for peer in go["peers"])


def _by_shape_and_speed(dated: tuple[str, dict[str, Any]]) -> tuple[int, int]:
    return list(_SHAPES).index(dated[1]["shape"]), -dated[1]["tok_s"]


def _name(peer: dict[str, Any]) -> str:
    return str(peer["name"]).split(",")[0].removesuffix(" with Liger")


def _given(peer: dict[str, Any]) -> str:
    """How a peer was set up, in words: what is left out of them it did without, or chose itself."""
    sequences, parts = peer.get("micro_batch"), peer.get("accumulate", 1)
    given = [
        "no packing" if peer["no_packing"] else "packing",
        "Liger kernels" if peer["liger"] else "",
        {"flash_attention_4": "flash-attn-4", None: ""}.get(peer.get("attention"), str(peer.get("attention"))),
        "activation checkpointing" if peer["checkpointing"] else "",
        (f"{sequences} × {parts} sequences" if parts > 1 else f"{sequences} sequences") if sequences else "",
        f"held to {peer['memory_gib']} GiB" if peer.get("memory_gib") else "",
    ]
    return ", ".join(filter(None, given))


def _best(go: dict[str, Any], shape: str) -> dict[str, Any]:
    return max((each for each in go["peers"] if each["shape"] == shape), key=lambda each: float(each["tok_s"]))


def _newest_go() -> dict[str, Any]:
    goes: list[dict[str, Any]] = [each for each in _read("h100-peers")["goes"] if "ours" in each]
    return max(goes, key=lambda each: str(each["date"]))


def _ours(go: dict[str, Any]) -> list[dict[str, Any]]:
    return list(go["ours"]["rows"])


# ---------------------------------------------------------------------------------------------- by family


def _by_family() -> list[str]:
    document = _read("h200-fused-families")
    machine, rows = document["machine"], [each for each in document["fused_families"] if "problem" not in each]
    return [
        f"### The fused layers by family: one {machine['device']}, {machine['date']}",
        "",
        textwrap.fill(
            f"{_versions(machine)}; Humigence at {machine['commit']}. NF4, rank 16 on the layers around attention, 16,384 tokens "
            "a step, conversations of log-normal length, real tokens only, the train step alone "
            "(`python -m tests.benchmarks.fused_families`). The matmul limit is what there would be if nothing but the products "
            "with frozen weights took time, 4 FLOP a weight and token, the head included, at 780 TFLOP/s.",
            130,
            break_on_hyphens=False,
        ),
        "",
        "| shape | rows at once | layers recomputed | tokens/s | written down before | of the limit | peak GiB | planned GiB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *map(_family, rows),
    ]


def _family(one: dict[str, Any]) -> str:
    cells = (
        one["variant"], f"{one['micro_batch']} × {one['row_tokens']:,}", str(one["recomputed_layers"]),
        f"{one['tokens_per_second']:,.0f}", f"{one['expected_tokens_per_second']:,}",
        f"{100 * one['tokens_per_second'] / one['limit_tokens_per_second']:.0f} %", f"{one['peak_gib']:.1f}",
        f"{one['predicted_gib']:.1f}",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


# --------------------------------------------------------------------------------------------- by setting


def _by_setting() -> list[str]:
    document = _read("h100-train-step")
    goes = {go["name"]: {each["variant"]: each for each in go["train_step"]} for go in document["goes"]}
    machine = document["machine"]
    return [
        f"### By setting: one {machine['device']}, {machine['date']}",
        "",
        f"{_versions(machine)}.",
        _WORK,
        "",
        "| train step | tokens/s | peak GiB |",
        "| --- | ---: | ---: |",
        *(_train(label, goes[go][variant]) for label, variant, go in _ROWS),
    ]


def _train(label: str, ours: dict[str, Any]) -> str:
    return f"| {label} | {ours['tokens_per_second']:,.0f} | {ours['peak_gib']:.1f} |"


def _memory() -> str:
    modes = _read("h100-train-memory")["train_memory"]
    families = [each for name in ("h100", "h200") for each in _read(f"{name}-family-memory")["family_memory"]]
    models = sorted({each["case"].partition(",")[0] for each in families})
    text = (
        f"Peak memory as predicted before the start: within {_worst(modes):.1f} % in {len(modes)} cases of four precision modes, "
        f"and within {_worst(families):.1f} % in {len(families)} of the shapes of {len(models)} models ({', '.join(models)})."
    )
    return textwrap.fill(text, 130, break_on_hyphens=False)


def _worst(cases: list[dict[str, Any]]) -> float:
    """The largest error of a prediction, in percent of what was taken."""
    return max(100 * abs(each["predicted_gib"] / each["peak_gib"] - 1) for each in cases)


def _answering() -> list[str]:
    document = _read("h100-inference")
    rows = [each for each in document["rows"] if each["mode"] == "qlora_nf4"]
    return [
        f"### Answering in 4 bits: one {document['device']}, {document['date']}",
        "",
        f"{_versions(document)}.",
        "",
        "| how | tokens/s | ratio |",
        "| --- | ---: | ---: |",
        *(f"| {each['way']} | {each['tokens_per_s']:,.0f} | {each['ratio']:.1f} × |" for each in rows),
    ]


def _beginning() -> str:
    document = _read("infer-start")
    first, later, plain, ratio = (each["value"] for each in document["figures"])
    text = (
        f"`humigence infer` with the 135M demo model, a GGUF file in NF4, takes {first:.1f} processor seconds the first time and "
        f"{later:.1f} from then on, when weights and tokenizer are read from their copies; ten lines of transformers that load "
        f"it from bf16 safetensors and answer as much take {plain:.1f}: {ratio:.1f} × ({document['machine']['cpus']} processors, "
        f"{document['machine']['date']}; `make bench WHAT=infer-start`)."
    )
    return textwrap.fill(text, 130, break_on_hyphens=False)


def _device() -> str:
    """What the others were measured on."""
    return str(_read("h100-peers")["machine"]["device"])


def _versions(measured: dict[str, Any]) -> str:
    return ", ".join(f"{name} {found}" for name, found in measured["versions"].items())


def _read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return document


if __name__ == "__main__":
    print(table(), end="")
