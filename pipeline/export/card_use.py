"""The "Use" sections of the cards: lines of code that run as they stand, in the folder the card lies in.

With transformers 4 and 5, and any peft from 0.11: names that later ones merely prefer are not used.
"""

from __future__ import annotations

import json
from typing import Any

from pipeline.base_model.gguf_header import read_header
from pipeline.base_model.gguf_rope import rope_scaling
from pipeline.export.package import Package
from pipeline.export.proof.proof import Proof

_ASK = """\
    messages = [{"role": "user", "content": "What can you do?"}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    ids, mask = prompt["input_ids"].to(model.device), prompt["attention_mask"].to(model.device)
    answer = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=200)
    print(tokenizer.decode(answer[0, ids.shape[1]:], skip_special_tokens=True))"""

MERGED_USE = f"""With transformers, in this folder:

    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(".")
    model = AutoModelForCausalLM.from_pretrained(".")

{_ASK}

With vLLM:

    vllm serve .

As a GGUF file, with llama.cpp's own script:

    python convert_hf_to_gguf.py . --outfile model.gguf

`sha256sum -c checksums.sha256`, one folder up, verifies the files."""


RUNTIME_INT8_USE = f"""With transformers and bitsandbytes, in this folder:

    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(".")
    model = AutoModelForCausalLM.from_pretrained(".", device_map="auto")

{_ASK}

`sha256sum -c checksums.sha256`, one folder up, verifies the files."""

VLLM_INT8_USE = f"""With vLLM, in this folder:

    vllm serve .

With transformers and compressed-tensors:

    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(".")
    model = AutoModelForCausalLM.from_pretrained(".", dtype="auto")

{_ASK}

`sha256sum -c checksums.sha256`, one folder up, verifies the files."""


def gguf_use(file: str) -> str:
    """How a GGUF file is asked something."""
    return f"""With llama.cpp, in this folder; the chat template and what ends an answer are in the file:

    llama-cli -m {file} -cnv
    llama-server -m {file}

With LM Studio, or any other program that reads GGUF: open the file.

The same greedy question may be answered in other words than by transformers, and both be right: sums in another order, and
weights in fewer bits, move log-probabilities a little, and where two words are nearly as likely the other one is written.

`sha256sum -c checksums.sha256`, one folder up, verifies the file."""


def lora_use(file: str, base: str) -> str:
    """How an adapter's GGUF file is asked something, beside a file of the base model.

    Args:
        base: the base model's name.
    """
    return f"""With llama.cpp, in this folder, beside a GGUF file of {base}:

    llama-cli -m BASE.gguf --lora {file} --jinja --chat-template-file ../chat_template.jinja -cnv
    llama-server -m BASE.gguf --lora {file} --jinja --chat-template-file ../chat_template.jinja

The chat template that trained lies in the package, one folder up; a base model's file may hold another. Several adapters can be
loaded beside one base (`--lora A --lora B`), each with its own strength (`--lora-scaled`).

`sha256sum -c checksums.sha256`, one folder up, verifies the file."""


def ollama_use(name: str, *, dated: bool) -> str:
    """How Ollama takes a Modelfile.

    Args:
        name: what the model may be called there.
        dated: the template holds the day of the export.
    """
    day = (
        "\n\nThe model's own template writes the day into each prompt, which Ollama's language can't: it is that of the export."
        if dated
        else ""
    )
    return f"""With Ollama, in this folder:

    ollama create {name} -f Modelfile
    ollama run {name}

`Modelfile` says how the model is spoken to, where an answer ends, and the sampling it was evaluated with. Its `TEMPLATE` writes
what the model's own chat template writes of system messages, questions and answers; tools are not in it, and texts stay as they
are where some templates cut white space at both ends, or the thoughts out of earlier answers. What the model's own template
refuses is refused with the reason.{day}

`sha256sum -c checksums.sha256`, one folder up, verifies the files."""


def proof_text(proof: Proof) -> str:
    """What was compared, and what it says."""
    if not proof.is_proved:
        return f"It was written and not opened: {proof.reason}."
    said = f"{proof.sentence()[0].upper()}{proof.sentence()[1:]}. The answer tokens are {proof.of}."
    return " ".join([said, *(f"{note[0].upper()}{note[1:]}." for note in proof.notes)])


def adapter_use(package: Package) -> str:
    """How the adapter is asked something, with Humigence and with peft alone."""
    return f"""With Humigence, in the folder that holds `artifacts/`:

    humigence infer --prompt "…"

With peft alone, in this folder (the tokenizer, its chat template and what ends an answer lie here too):

{_load_base(package)}
    model = PeftModel.from_pretrained(base, ".")
    model.generation_config = GenerationConfig.from_pretrained(".")

{_ASK}

`sha256sum -c checksums.sha256` verifies the files."""


def _load_base(package: Package) -> str:
    named, more = _named(package), []
    if package.base.kind == "gguf":
        more.append(f"gguf_file={json.dumps(package.base.path.name)}")
    elif package.reference.revision:
        more.append(f"revision={json.dumps(package.reference.revision)}")
    imports = ["from peft import PeftConfig, PeftModel" if "PeftConfig" in named else "from peft import PeftModel"]
    if "os." in named:
        imports = ["import os", "", *imports]
    scaling = _rotary_scaling(package)
    lines = [
        *imports,
        f"from transformers import {'AutoConfig, ' if scaling else ''}AutoModelForCausalLM, AutoTokenizer, GenerationConfig",
        "",
        'tokenizer = AutoTokenizer.from_pretrained(".")',
    ]
    if scaling:
        # transformers passes over the tensor in which a GGUF file keeps it.
        lines += [f"config = AutoConfig.from_pretrained({', '.join([named, *more])})", f"config.rope_scaling = {scaling}"]
        more.append("config=config")
    lines.append(f"base = AutoModelForCausalLM.from_pretrained({', '.join([named, *more])})")
    return "\n".join(f"    {line}" if line else "" for line in lines)


def _rotary_scaling(package: Package) -> dict[str, Any] | None:
    """Of a GGUF base that has one; in a form that transformers 4 and 5 take."""
    if package.base.kind != "gguf":
        return None
    header = read_header(package.base.path)
    found = rope_scaling(package.base.path, header)
    base = header.metadata.get(f"{header.architecture}.rope.freq_base", 10_000.0)
    return found and {**found, "rope_theta": base}


def _named(package: Package) -> str:
    """The base model, as Python names it: its repository, the way to it from this folder, or what the adapter's config says."""
    if package.reference.repo:
        return json.dumps(package.reference.repo)
    if package.base_from_here:
        return json.dumps(package.base_from_here)
    path = 'os.path.expanduser(PeftConfig.from_pretrained(".").base_model_name_or_path)'
    return f"os.path.dirname({path})" if package.base.kind == "gguf" else path
