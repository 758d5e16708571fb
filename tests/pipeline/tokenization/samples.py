"""A template and texts that several tests of the tokenization try."""

from __future__ import annotations

# As Qwen3: what the assistant thought is left out of every turn but the last.
FORGETS_THOUGHTS = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}"
    "{% if message.role == 'assistant' and not loop.last %}{{ message.content.split('</think>')[-1].lstrip('\n') }}"
    "{% else %}{{ message.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# The same without anything before an answer: where the assistant speaks first there is nothing that it is predicted from.
NOTHING_BEFORE = (
    "{% for message in messages %}{% if message.role == 'assistant' and not loop.last %}"
    "{{ message.content.split('</think>')[-1].lstrip('\n') }}{% elif message.role == 'assistant' %}{{ message.content }}"
    "{% else %}{{ '<|im_start|>' + message.role + '\n' + message.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
)


FRAGMENTS = [
    "</s>", "<s>", "<unk>", "<|im_end|>", "<|im_start|>", "<|endoftext|>", "<|user|>\n", "<|assistant|>\n", "assistant\n",
    "<0x0A>", "<", ">", "|", "</", "s>", "<|im_", "end|>", "{{ 7 * 7 }}", "{% for x in y %}", "'", '"', "\\n",
    "\n", "\n\n", "  ", "   x", "\t", " ", "\u3000", "\u00a0", "\r\n", "\u200b", "\ufeff", "\x07", "\x1c", "\ue000", "\U000f0000",
    "é", "e\u0301", "😀", "👩\u200d👧", "مرحبا", "日本語", "The capital", "Paris", "overfitting", "I'm", "1234567",
]  # fmt: skip
