"""Whether a `tokenizer.json` makes the same tokens as a tokenizer that was loaded: tried, not read off a class's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# Where tokenizers differ: spaces at either end and in rows, line ends, digits, letters beyond ASCII, code, contractions.
_TEXTS = (
    "The quick brown fox doesn't jump over 13 lazy dogs, and it's 2026.", " a  b   c\n\n d\t\te \r\n",
    "1234567890 3.14 1,000,000",
    "Grüße, naïve café, ÅÄÖ, ﬁ", "日本語のテキストと中文，한국어", "العربية हिन्दी ไทย", "🙂👩‍👩‍👧 \u200b\u00a0x",
    "def f(x):\n    return x**2  # <html> </s>", "I'LL we've HELLO camelCase snake_case", "",
)  # fmt: skip


def same_tokens(backend: Any, vocabulary: Path) -> bool:
    """Args: `backend` is a `tokenizers.Tokenizer`; `vocabulary` a file that may not be there, or be damaged."""
    from tokenizers import Tokenizer

    if not vocabulary.is_file():
        return False
    other = Tokenizer.from_file(str(vocabulary))
    special = "x".join(token.content for token in backend.get_added_tokens_decoder().values())
    return backend.get_vocab_size() == other.get_vocab_size() and all(
        _seen(backend, text) == _seen(other, text) for text in (*_TEXTS, special)
    )


def _seen(backend: Any, text: str) -> tuple[list[int], str]:
    ids: list[int] = backend.encode(text, add_special_tokens=False).ids
    return ids, backend.decode(ids, skip_special_tokens=False)
