"""Chat templates that behave as the published ones of their families do, in few lines, each with a tokenizer for it.

Written for these tests. As the published ones have it: headers, terminators, what the generation prompt opens, where thoughts and
tool calls go, what is left out of earlier turns. Left out: images, long instructions, whatever no test here could tell.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers.convert_slow_tokenizer import bytes_to_unicode

from tests import tiny


@dataclass(frozen=True)
class Published:
    """One template.

    Attributes:
        special: its special tokens; the first ends a text.
        added: tokens that stand for themselves and may be typed.
        stops: what generation_config.json names as the end of an answer.
        begin: the token that begins a text; empty for the one that the small tokenizer has.
    """

    template: str
    special: Sequence[str]
    added: Sequence[str] = ()
    stops: Sequence[str] = ()
    begin: str = ""

    def save(self, folder: Path, *, of_bytes: bool = False) -> Path:
        """A tokenizer with the template, and the files beside it that name what ends an answer.

        Args:
            of_bytes: every byte is a token with the byte as its id, and the special tokens follow from 256 on in the order in
                which they stand here, those that may be typed behind them: what the ids of a text are can be told by hand.
        """
        tiny.save_tokenizer(folder, template=self.template, llama=False)
        document = json.loads((folder / "tokenizer.json").read_text())
        if of_bytes:
            document["model"] |= {"vocab": {character: byte for byte, character in bytes_to_unicode().items()}, "merges": []}
            document["added_tokens"] = []
        else:
            # As in their vocabularies two line ends are one token: it would reach over the end of a prompt that opens a thought.
            document["model"]["vocab"]["ĊĊ"] = 1 + max(document["model"]["vocab"].values())
            document["model"]["merges"].append(["Ċ", "Ċ"])
        ids = {token["content"]: token["id"] for token in document["added_tokens"]}
        following = 1 + max(document["model"]["vocab"].values())
        for token in (*self.special, *self.added):
            if token not in ids:
                ids[token] = following + sum(number >= following for number in ids.values())
                flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
                added = {"id": ids[token], "content": token, "special": token in self.special, **flags}
                document["added_tokens"].append(added)
        (folder / "tokenizer.json").write_text(json.dumps(document))
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        settings |= {"eos_token": self.special[0], "pad_token": self.special[0]}
        if self.begin:
            settings["bos_token"] = self.begin
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        stops = [ids[token] for token in self.stops or self.special[:1]]
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": stops}))
        return folder


_CHATML = ("<|im_end|>", "<|im_start|>", "<|endoftext|>")
_THOUGHTS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
_TOOLS = "{% if tools %}{{ '<|im_start|>system\n# Tools\n' + tools | tojson + '<|im_end|>\n' }}{% endif %}"
# The last question: what was thought before it is left out.
_LAST = (
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}"
    "{% endfor %}"
)
# What was thought, under its name or in the answer.
_SPLIT = (
    "{% set said = m.content or '' %}{% set thought = '' %}{% if m.reasoning_content is string %}"
    "{% set thought = m.reasoning_content %}{% elif '</think>' in said %}"
    "{% set thought = said.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set said = said.split('</think>')[-1].lstrip('\n') %}{% endif %}"
)
_RESULTS = (
    "{% elif m.role == 'tool' %}{{ '<|im_start|>user\n<tool_response>\n' + m.content + '\n</tool_response><|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
)
_AS_JSON = (
    "{% for c in m.tool_calls or [] %}{{ '\n' if said or not loop.first }}"
    "{{ '<tool_call>\n' + {'name': c.function.name, 'arguments': c.function.arguments} | tojson + '\n</tool_call>' }}{% endfor %}"
)
_AS_TAGS = (
    "{% for c in m.tool_calls or [] %}{{ ('\n\n' if said else '') + '<tool_call>\n<function=' + c.function.name + '>\n' }}"
    "{% for key, value in c.function.arguments | items %}"
    "{{ '<parameter=' + key + '>\n' + (value if value is string else value | tojson) + '\n</parameter>\n' }}{% endfor %}"
    "{{ '</function>\n</tool_call>' }}{% endfor %}"
)
_QWEN = (
    _TOOLS + _LAST + "{% for m in messages %}{% if m.role == 'assistant' %}" + _SPLIT + "{{ '<|im_start|>assistant\n' }}"
    "{% if WHEN %}{{ '<think>\n' + thought.strip('\n') + '\n</think>\n\n' }}{% endif %}{{ said }}CALLS{{ '<|im_end|>\n' }}"
    + _RESULTS + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}PROMPT{% endif %}"
)  # fmt: skip
_OFF_ONLY = "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
_OPENS = _OFF_ONLY.replace("{% endif %}", "{% else %}{{ '<think>\n' }}{% endif %}")


def _qwen(when: str, calls: str, prompt: str) -> Published:
    template = _QWEN.replace("WHEN", when).replace("CALLS", calls).replace("PROMPT", prompt)
    return Published(template, _CHATML, _THOUGHTS)


_DEEPSEEK = (
    "{% set ns = namespace(system='', results=false) %}"
    "{% for m in messages %}{% if m.role == 'system' %}{% set ns.system = ns.system + m.content %}{% endif %}{% endfor %}"
    "{{ bos_token + ns.system }}{% for m in messages %}"
    "{% if m.role == 'user' %}{% set ns.results = false %}{{ '<｜User｜>' + m.content }}"
    "{% elif m.role == 'tool' %}{% set ns.results = true %}{{ '<｜tool▁output▁begin｜>' + m.content + '<｜tool▁output▁end｜>' }}"
    "{% elif m.role == 'assistant' %}{% if not ns.results %}{{ '<｜Assistant｜>' }}{% endif %}{% set ns.results = false %}"
    "{{ m.content.split('</think>')[-1] if '</think>' in m.content else m.content }}"
    "{% for c in m.tool_calls or [] %}{{ '<｜tool▁call▁begin｜>' + c.function.name + '\n' + c.function.arguments"
    " + '<｜tool▁call▁end｜>' }}{% endfor %}{{ '<｜end▁of▁sentence｜>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt and not ns.results %}{{ '<｜Assistant｜><think>\n' }}{% endif %}"
)
_NEMOTRON = (
    _LAST + "{% if messages[0].role == 'system' %}{% set first = messages[0].content %}{% set rest = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}{% set ns = namespace(last=-1) %}"
    "{% for m in rest %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{{ '<|im_start|>system\n' + first }}{% if tools %}{{ '\n# Tools\n' + tools | tojson }}{% endif %}{{ '<|im_end|>\n' }}"
    "{% for m in rest %}{% if m.role == 'assistant' %}"
    "{% if m.reasoning_content is string and m.reasoning_content | trim | length > 0 %}"
    "{% set said = '<think>\n' ~ m.reasoning_content ~ '\n</think>\n' ~ (m.content | default('', true)) %}"
    "{% elif '<think>' not in m.content and '</think>' not in m.content %}{% set said = '<think></think>' ~ m.content %}"
    "{% else %}{% set said = m.content %}{% endif %}"
    "{% if loop.index0 < ns.last and '</think>' in said %}{% set said = '<think></think>' ~ said.split('</think>')[-1] %}"
    "{% endif %}"
    "{{ '<|im_start|>assistant\n' ~ said | trim }}" + _AS_TAGS.replace("'\n\n' if said else ''", "'\n'") + "{{ '<|im_end|>\n' }}"
    + _RESULTS + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{{ '<think>\n' if enable_thinking is not defined or enable_thinking else '<think></think>' }}{% endif %}"
)  # fmt: skip
_GEMMA = (
    "{% macro shown(text) %}{% set ns = namespace(left='') %}{% for part in text.split('<channel|>') %}"
    "{% set ns.left = ns.left + (part.split('<|channel>')[0] if '<|channel>' in part else part) %}{% endfor %}"
    "{{ ns.left | trim }}{% endmacro %}"
    + _LAST
    + "{{ bos_token }}{% set thinks = enable_thinking is defined and enable_thinking %}"
    "{% if thinks or tools or messages[0].role in ['system', 'developer'] %}{{ '<|turn>system\n' }}"
    "{{ '<|think|>\n' if thinks }}{% if messages[0].role in ['system', 'developer'] %}{{ messages[0].content | trim }}{% endif %}"
    "{% for t in tools or [] %}{{ '<|tool>declaration:' + t.function.name + '<tool|>' }}{% endfor %}{{ '<turn|>\n' }}{% endif %}"
    "{% set turn = namespace(open=false) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set turn.open = false %}{{ '<|turn>user\n' + m.content | trim + '<turn|>\n' }}{% elif m.role == 'assistant' %}"
    "{{ '<|turn>model\n' if not turn.open }}{% set turn.open = false %}"
    "{% if m.get('reasoning_content') and loop.index0 > ns.last %}"
    "{{ '<|channel>thought\n' + m.reasoning_content + '\n<channel|>' }}{% endif %}"
    "{% for c in m.get('tool_calls') or [] %}{{ '<|tool_call>call:' + c.function.name + '{' }}"
    "{% for key, value in c.function.arguments | dictsort %}{{ key + ':<|\"|>' + value + '<|\"|>' }}{% endfor %}"
    "{{ '}<tool_call|>' }}{% endfor %}"
    "{% if m.get('tool_calls') %}{% set turn.open = true %}{{ '<|tool_response>' }}"
    "{% else %}{{ shown(m.content) + '<turn|>\n' }}{% endif %}{% elif m.role == 'tool' %}"
    "{{ 'response:' + m.get('name', 'unknown') + '{value:<|\"|>' + m.content + '<|\"|>}<tool_response|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt and not turn.open %}{{ '<|turn>model\n' }}{% endif %}"
)
_GLM = (
    "[gMASK]<sop>{% if tools %}{{ '<|system|>\n# Tools\n' + tools | tojson }}{% endif %}" + _LAST + "{% for m in messages %}"
    "{% if m.role == 'user' %}{{ '<|user|>\n' + m.content }}"
    "{{ '/nothink' if enable_thinking is defined and not enable_thinking and not m.content.endswith('/nothink') }}"
    "{% elif m.role == 'assistant' %}" + _SPLIT + "{{ '<|assistant|>\n<think>' }}"
    "{% if loop.index0 > ns.last and thought %}{{ thought.strip() }}{% endif %}{{ '</think>' }}"
    "{% if said.strip() %}{{ '\n' + said.strip() }}{% endif %}"
    "{% for c in m.tool_calls or [] %}{{ '\n<tool_call>' + c.function.name }}{% for key, value in c.function.arguments.items() %}"
    "{{ '\n<arg_key>' + key + '</arg_key>\n<arg_value>' + value + '</arg_value>' }}{% endfor %}{{ '\n</tool_call>' }}{% endfor %}"
    "{% elif m.role == 'tool' %}{{ '<|observation|>\n<tool_response>\n' + m.content + '\n</tool_response>' }}"
    "{% else %}{{ '<|system|>\n' + m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}"
    "{{ '\n<think></think>' if enable_thinking is defined and not enable_thinking }}{% endif %}"
)
_COHERE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|START_OF_TURN_TOKEN|>' }}"
    "{% if m.role == 'user' %}{{ '<|USER_TOKEN|>' + m.content }}"
    "{% elif m.role == 'assistant' %}{{ '<|CHATBOT_TOKEN|><|START_RESPONSE|>' + m.content + '<|END_RESPONSE|>' }}"
    "{% else %}{{ '<|SYSTEM_TOKEN|>' + m.content }}{% endif %}{{ '<|END_OF_TURN_TOKEN|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>' }}{% endif %}"
)
_HARMONY = (
    "{{ '<|start|>system<|message|>Reasoning: ' + (reasoning_effort or 'medium') + '<|end|>' }}"
    "{% if messages[0].role in ['system', 'developer'] %}{% set rest = messages[1:] %}{% set first = messages[0].content %}"
    "{% else %}{% set rest = messages %}{% set first = '' %}{% endif %}{% if first or tools %}"
    "{{ '<|start|>developer<|message|># Instructions\n\n' + first }}{% for t in tools or [] %}{{ 'type ' + t.function.name }}"
    "{% endfor %}{{ '<|end|>' }}{% endif %}{% set call = namespace(name='') %}{% for m in rest %}"
    "{% if m.role == 'user' %}{{ '<|start|>user<|message|>' + m.content + '<|end|>' }}"
    "{% elif m.role == 'tool' %}"
    "{{ '<|start|>functions.' + call.name + ' to=assistant<|channel|>commentary<|message|>' + m.content | tojson + '<|end|>' }}"
    "{% elif 'tool_calls' in m %}{% set called = m.tool_calls[0].function %}{% set call.name = called.name %}"
    "{% set later = rest[loop.index:] | selectattr('role', 'equalto', 'assistant') | rejectattr('tool_calls') | list %}"
    "{% if m.thinking and not later %}"
    "{{ '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}{% endif %}"
    "{{ '<|start|>assistant to=functions.' + called.name + '<|channel|>commentary json<|message|>' + called.arguments | tojson }}"
    "{{ '<|call|>' }}{% elif loop.last and not add_generation_prompt %}{% if m.thinking %}"
    "{{ '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}{% endif %}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' + m.content + '<|return|>' }}"
    "{% else %}{{ '<|start|>assistant<|channel|>final<|message|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
_PHI = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)

PUBLISHED: dict[str, Published] = {
    "Qwen3": _qwen("loop.index0 > ns.last and (loop.last or thought)", _AS_JSON, _OFF_ONLY),
    "Qwen3.5 thinking": _qwen("loop.index0 > ns.last", _AS_TAGS, _OPENS),
    "Qwen3.6": _qwen("preserve_thinking is true or loop.index0 > ns.last", _AS_TAGS, _OPENS),
    "DeepSeek V3 and R1": Published(
        _DEEPSEEK,
        (
            "<｜end▁of▁sentence｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁output▁begin｜>",
            "<｜tool▁output▁end｜>",
        ),
        ("<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"),
    ),
    "Nemotron 3": Published(_NEMOTRON, _CHATML, _THOUGHTS),
    "Gemma 4": Published(
        _GEMMA,
        (
            "<turn|>", "<|turn>", "<|think|>", "<|channel>", "<channel|>", "<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>",
            "<|tool_response>", "<tool_response|>", '<|"|>',
        ),
        stops=("<turn|>", "<|tool_response>"),
    ),
    "GLM 4.5": Published(
        _GLM,
        ("<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
        _THOUGHTS,
        ("<|endoftext|>", "<|user|>", "<|observation|>"),
    ),
    "Cohere 2": Published(
        _COHERE,
        (
            "<|END_OF_TURN_TOKEN|>", "<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>",
            "<|START_RESPONSE|>", "<|END_RESPONSE|>",
        ),
    ),
    "gpt-oss": Published(
        _HARMONY,
        ("<|return|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|call|>"),
        stops=("<|return|>", "<|call|>"),
    ),
    "Phi-4-mini": Published(_PHI, ("<|endoftext|>", "<|end|>", "<|user|>", "<|assistant|>"), stops=("<|endoftext|>", "<|end|>")),
}  # fmt: skip
