"""Chat templates of three families that know tools, with the output of the published ones of Llama 3.1, Mistral 7B v0.3, Mistral
Nemo and Qwen2.5 (whose calls are Hermes'), to the character.

A template's format is what it writes: these were written anew for that. Kept are the long instructions, what is trimmed, what is
refused and in which words, where the published ones leave a message out. Left out: Llama's code interpreter (`builtin_tools`).
"""

from __future__ import annotations

from tests.pipeline.tokenization.published import Published

_LLAMA_TOLD = (
    "Given the following functions, please respond with a JSON for a function call with its proper arguments that best answers"
    ' the given prompt.\n\nRespond in the format {"name": function name, "parameters": dictionary of argument name and its value'
    "}.Do not use variables.\n\n"
)
# The tools stand in the first question; a call shows itself alone, whatever is said beside it; a result is written as JSON.
_LLAMA = (
    "{% set day = date_string if date_string is defined else '26 Jul 2024' %}"
    "{% macro head(role) %}{{ '<|start_header_id|>' + role + '<|end_header_id|>\n\n' }}{% endmacro %}"
    "{% set ns = namespace(system='', rest=messages) %}"
    "{% if messages[0].role == 'system' %}{% set ns.system = messages[0].content | trim %}"
    "{% set ns.rest = messages[1:] %}{% endif %}"
    "{{ bos_token + head('system') }}{{ 'Environment: ipython\n' if tools }}"
    "{{ 'Cutting Knowledge Date: December 2023\nToday Date: ' + day + '\n\n' + ns.system + '<|eot_id|>' }}"
    "{% if tools %}{% if not ns.rest %}"
    '{{ raise_exception("Cannot put tools in the first user message when there\'s no first user message!") }}{% endif %}'
    "{{ head('user') + TOLD }}{% for tool in tools %}{{ tool | tojson(indent=4) + '\n\n' }}{% endfor %}"
    "{{ ns.rest[0].content | trim + '<|eot_id|>' }}{% set ns.rest = ns.rest[1:] %}{% endif %}"
    "{% for m in ns.rest %}{% if m.role in ['tool', 'ipython'] %}"
    "{{ head('ipython') + (m.content | tojson if m.content is mapping or m.content is iterable else m.content) + '<|eot_id|>' }}"
    "{% elif 'tool_calls' in m %}{% if m.tool_calls | length != 1 %}"
    "{{ raise_exception('This model only supports single tool-calls at once!') }}{% endif %}"
    "{% set call = m.tool_calls[0].function %}"
    "{{ head('assistant') + '{\"name\": \"' + call.name + '\", \"parameters\": ' + call.arguments | tojson + '}<|eot_id|>' }}"
    "{% else %}{{ head(m.role) + m.content | trim + '<|eot_id|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ head('assistant') }}{% endif %}"
).replace("TOLD", repr(_LLAMA_TOLD))

# The system message stands in the last question, only as long as that has no answer; the tools stand before it either way.
_MISTRAL = (
    "{% set ns = namespace(system=none, rest=messages, turn=0) %}"
    "{% if messages[0].role == 'system' %}{% set ns.system = messages[0].content %}{% set ns.rest = messages[1:] %}{% endif %}"
    "{% for m in ns.rest if not (m.role in ['tool', 'tool_results'] or m.tool_calls) %}"
    "{% if (m.role == 'user') != (ns.turn % 2 == 0) %}{{ raise_exception('After the optional system message, conversation roles"
    " must alternate user/assistant/user/assistant/...') }}{% endif %}{% set ns.turn = ns.turn + 1 %}{% endfor %}"
    "{% set asked = ns.rest | selectattr('role', 'equalto', 'user') | list %}{{ bos_token }}"
    "{% macro checked(id) %}{% if not id or id | length != 9 %}"
    "{{ raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}{% endif %}{{ id }}{% endmacro %}"
    "{% for m in ns.rest %}{% if m.role == 'user' %}{% if tools and m == asked[-1] %}{{ '[AVAILABLE_TOOLS]_[' }}"
    '{% for tool in tools %}{{ \'{"type": "function", "function": {\' }}'
    "{% for key, value in tool.function.items() if key != 'return' %}{{ '\"' + key + '\": ' }}"
    "{{ '\"' + value + '\"' if value is string else value | tojson }}{{ ', ' if not loop.last }}{% endfor %}"
    "{{ '}}' + (', ' if not loop.last else ']') }}{% endfor %}{{ '[/AVAILABLE_TOOLS]' }}{% endif %}"
    "{{ '[INST]_' + (ns.system + '\n\n' if loop.last and ns.system is not none else '') + m.content + '[/INST]' }}"
    "{% elif m.tool_calls %}{{ '[TOOL_CALLS]_[' }}{% for call in m.tool_calls %}"
    "{{ (call.function | tojson)[:-1] + ', \"id\": \"' + checked(call.id) + '\"}' }}"
    "{{ ', ' if not loop.last else ']' + eos_token }}"
    "{% endfor %}{% elif m.role == 'assistant' %}{{ '_' + SAID + eos_token }}"
    "{% elif m.role in ['tool', 'tool_results'] %}"
    '{{ \'[TOOL_RESULTS]_{"content": \' + m.content | string + \', "call_id": "\' + checked(m.tool_call_id)'
    " + '\"}[/TOOL_RESULTS]' }}{% else %}{{ raise_exception('Only user and assistant roles are supported, with the exception of"
    " an initial optional system message!') }}{% endif %}{% endfor %}"
)
_MISTRAL_TOKENS = (
    "</s>", "<s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
)  # fmt: skip

_QWEN_TOLD = (
    "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function"
    " signatures within <tools></tools> XML tags:\n<tools>"
)
_QWEN_CALLED = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call>"
    ' XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)
# Results that follow each other stand in one turn of the user.
_QWEN = (
    "{% set has = messages[0].role == 'system' %}"
    "{{ '<|im_start|>system\n' + (messages[0].content if has else"
    " 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.') }}"
    "{% if tools %}{{ TOLD }}{% for tool in tools %}{{ '\n' + tool | tojson }}{% endfor %}{{ CALLED }}{% endif %}"
    "{{ '<|im_end|>\n' }}{% for m in messages %}{% if m.role == 'tool' %}"
    "{{ '<|im_start|>user' if loop.first or messages[loop.index0 - 1].role != 'tool' }}"
    "{{ '\n<tool_response>\n' + m.content + '\n</tool_response>' }}"
    "{{ '<|im_end|>\n' if loop.last or messages[loop.index0 + 1].role != 'tool' }}"
    "{% elif m.role == 'assistant' and m.tool_calls %}{{ '<|im_start|>assistant' }}{{ '\n' + m.content if m.content }}"
    "{% for call in m.tool_calls %}{{ '\n<tool_call>\n{\"name\": \"' + call.function.name + '\", \"arguments\": '"
    " + call.function.arguments | tojson + '}\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}"
    "{% elif not (loop.first and has) %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
).replace("TOLD", repr(_QWEN_TOLD)).replace("CALLED", repr(_QWEN_CALLED))  # fmt: skip

PUBLISHED_WITH_TOOLS: dict[str, Published] = {
    "Llama 3.1": Published(
        _LLAMA,
        ("<|eot_id|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|end_of_text|>"),
        stops=("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
        begin="<|begin_of_text|>",
    ),
    "Mistral v0.3": Published(
        _MISTRAL.replace("_[", " [")
        .replace("_{", " {")
        .replace("]_'", "] '")
        .replace("'_'", "' '")
        .replace("SAID", "m.content | trim"),
        _MISTRAL_TOKENS,
        begin="<s>",
    ),
    "Mistral Nemo": Published(
        _MISTRAL.replace("]_", "]").replace("'_' + ", "").replace("SAID", "m.content"), _MISTRAL_TOKENS, begin="<s>"
    ),
    "Qwen2.5": Published(
        _QWEN,
        ("<|im_end|>", "<|im_start|>", "<|endoftext|>"),
        ("<tool_call>", "</tool_call>"),
        ("<|im_end|>", "<|endoftext|>"),
    ),
}
