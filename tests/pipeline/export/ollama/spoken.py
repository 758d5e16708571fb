"""Chat templates that write what those of the curated families do of texts, in few lines; without tools, images and thoughts.

Written for these tests: what is compared is how they write, not how they are written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jinja2 import TemplateError

from pipeline.tokenization.template_environment import ChatEnvironment
from pipeline.tokenization.templates import TEMPLATES
from tests.pipeline.tokenization.published import PUBLISHED

_TURN = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
_ASK = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
_ALTERNATE = (
    "{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
)
_SYSTEM_APART = (
    "{% if messages[0].role == 'system' %}{% set first = messages[0].content %}{% set rest = messages[1:] %}"
    "{% else %}{% set rest = messages %}{% endif %}"
)


def _chatml(default: str, before: str = "") -> str:
    system = "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nDEFAULT<|im_end|>\n' }}{% endif %}"
    return before + (system.replace("DEFAULT", default) if default else "") + _TURN + _ASK


SPOKEN: Mapping[str, str] = {
    "SmolLM2": _chatml("You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
    "Qwen 2.5": _chatml("You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
    "LFM 2": _chatml("", "{{ bos_token }}"),
    "TinyLlama": (
        "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    ),
    "SmolLM 3": (
        "{{ '<|im_start|>system\n## Metadata\n\nKnowledge Cutoff Date: June 2025\nToday Date: ' + strftime_now('%d %B %Y') }}"
        "{{ '\nReasoning Mode: /no_think\n\n## Custom Instructions\n\n' }}"
        + _SYSTEM_APART + "{{ (first or 'You are a helpful AI assistant named SmolLM.') + '\n\n<|im_end|>\n' }}"
        "{% for m in rest %}{% if m.role == 'assistant' %}"
        "{{ '<|im_start|>assistant\n<think>\n\n</think>\n' + m.content.lstrip('\n') + '<|im_end|>\n' }}"
        "{% elif m.role == 'user' %}{{ '<|im_start|>user\n' + m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n\n</think>\n' }}{% endif %}"
    ),
    "Llama 3.2": (
        "{{ bos_token }}" + _SYSTEM_APART + "{{ '<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: "
        "December 2023\nToday Date: ' + strftime_now('%d %b %Y') + '\n\n' + (first or '') | trim + '<|eot_id|>' }}"
        "{% for m in rest %}"
        "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    "Mistral": (
        _SYSTEM_APART + "{{ bos_token }}" + _ALTERNATE + "{% if m.role == 'user' %}{% if loop.last and first is defined %}"
        "{{ '[INST] ' + first + '\n\n' + m.content + '[/INST]' }}{% else %}{{ '[INST] ' + m.content + '[/INST]' }}{% endif %}"
        "{% else %}{{ ' ' + m.content | trim + eos_token }}{% endif %}{% endfor %}"
    ),
    "Mistral, later": (
        "{{ bos_token }}{% if messages[0].role == 'system' %}{{ '[SYSTEM_PROMPT]' + messages[0].content + '[/SYSTEM_PROMPT]' }}"
        "{% endif %}" + _SYSTEM_APART + _ALTERNATE + "{% if m.role == 'user' %}{{ '[INST]' + m.content + '[/INST]' }}"
        "{% else %}{{ m.content + eos_token }}{% endif %}{% endfor %}"
    ),
    "Gemma 3": (
        "{{ bos_token }}" + _SYSTEM_APART + _ALTERNATE
        + "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' }}"
        "{% if loop.first and first is defined %}{{ first + '\n\n' }}{% endif %}"
        "{{ m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    ),
    "Phi 4": (
        "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"
    ),
    "Granite 4": (
        "{% if messages[0].role != 'system' %}{{ '<|start_of_role|>system<|end_of_role|>You are a helpful assistant. Please "
        "ensure responses are professional, accurate, and safe.<|end_of_text|>\n' }}{% endif %}{% for m in messages %}"
        "{{ '<|start_of_role|>' + m.role + '<|end_of_role|>' + m.content + '<|end_of_text|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}"
    ),
    "OLMo 2": (
        "{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content }}"
        "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}"
        "{% if not (loop.last and m.role == 'assistant') %}{{ '\n' }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    ),
    "Llama 2": (
        _SYSTEM_APART + _ALTERNATE + "{% if m.role == 'user' %}{{ bos_token + '[INST] ' }}"
        "{% if loop.first and first is defined %}"
        "{{ '<<SYS>>\n' + first + '\n<</SYS>>\n\n' }}{% endif %}{{ m.content | trim + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
    ),
    **{f"data.template {name}": each.jinja for name, each in TEMPLATES.items()},
    **{name: each.template for name, each in PUBLISHED.items()},
}  # fmt: skip


def renderer(template: str, today: str = "26 Jul 2024"):  # type: ignore[no-untyped-def]
    """The template as `dialogue.Render`, on a day."""
    environment = ChatEnvironment()
    environment.globals["strftime_now"] = lambda _: today
    compiled = environment.from_string(template)

    def render(messages: Sequence[Mapping[str, str]]) -> str | None:
        try:
            return str(compiled.render(messages=messages, add_generation_prompt=True, bos_token="<s>", eos_token="</s>"))
        except TemplateError:
            return None

    return render
