"""What the properties are tried on, and how many times: a few in the suite, twenty thousand with `make fuzz`."""

from __future__ import annotations

import json
import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.corpus.desk import HERE
from tests.hostile_text import SEQUENCES
from tests.pipeline.dataset.readers.containers import CONTAINERS, PACKED

PROPERTIES = 11
# Cases in all, divided among the properties.
CASES = int(os.environ.get("HUMIGENCE_FUZZ_CASES", "400"))
many = settings(max_examples=max(1, CASES // PROPERTIES), deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)

_PIECES = [
    b"\0", b"\n", b"\r\n", b"\r", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\xef\xbb\xbf", b"\xff", b"\xc3",
    b"\xe2\x80\xa8",
    b"\\u0000", b"\\ud83d", b"null", b"NaN", b"1e999", b"9" * 5000, b"[" * 2000, b'{"messages":', b'"role": "user"', b" ", b"\t",
    *(sequence.encode("utf-8", "surrogatepass") for sequence in SEQUENCES.values()),
]  # fmt: skip


@st.composite
def spoilt(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """One of `originals` after some accidents: pieces cut out, doubled, put in, overwritten."""
    data = draw(st.sampled_from(originals))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        until = min(len(data), at + draw(st.integers(0, 40)))
        piece = draw(st.sampled_from(_PIECES) | st.binary(max_size=12))
        how = draw(st.sampled_from(["cut", "end", "put", "over", "twice", "swap"]))
        data = {
            "cut": data[:at] + data[until:],
            "end": data[:at],
            "put": data[:at] + piece + data[at:],
            "over": data[:at] + piece + data[until:],
            "twice": data[:until] + data[at:],
            "swap": data[at:] + data[:at],
        }[how]
    return data


def originals(folder: str) -> list[bytes]:
    """The files of the corpus, the small ones."""
    return [data for file in sorted((HERE / folder).iterdir()) if len(data := file.read_bytes()) < 5000]


def _container_files() -> list[bytes]:
    """A few rows in each kind of data file, plain and compressed."""
    rows = [{"prompt": f'What is {number}?\n"Say"', "completion": "é🙂,;"} for number in range(5)]
    plain = [write(rows) for write in CONTAINERS.values()]
    return [*plain, *(pack(plain[0]) for pack in PACKED.values()), PACKED["gz"](plain[-3])]


CONTAINER_FILES = _container_files()
# What a damaged file says of itself may be any number.
MOST_ROWS = 2000

TEXT = st.sampled_from(["", " ", "a", "Hello?", "\n", *SEQUENCES.values(), "<|im_end|>", "</s>", "é日本🙂"]) | st.text(
    max_size=30
)
VALUE: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
_ROLE = st.sampled_from(["user", "assistant", "system", "tool", "", "User"]) | VALUE
_MESSAGE = st.fixed_dictionaries({"role": _ROLE, "content": TEXT | VALUE}) | VALUE
_GOOD = st.lists(TEXT, min_size=2, max_size=6).map(
    lambda turns: {"messages": [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]}
)
ROW = _GOOD | st.fixed_dictionaries({"messages": st.lists(_MESSAGE, max_size=5)}) | VALUE


# Messages of OpenAssistant's trees, with few names: answers to themselves, in circles, to what is not there, twice the same.
_ID = st.sampled_from(["a", "b", "c", "d", "e", "", None, 3])
OASST = st.lists(
    st.fixed_dictionaries(
        {"message_id": _ID, "parent_id": _ID, "role": st.sampled_from(["prompter", "assistant", "x", 1]), "text": TEXT},
        optional={
            "message_tree_id": _ID, "rank": st.integers(-2, 3) | VALUE, "deleted": st.booleans() | VALUE, "lang": TEXT | VALUE,
            "review_result": st.booleans() | VALUE, "replies": st.lists(VALUE, max_size=2), "tree_state": TEXT,
        },
    ),
    min_size=1, max_size=9,
)  # fmt: skip
# Rows with the keys that schemas know, and anything under them.
KNOWN_KEYS = st.sampled_from(
    ["messages", "conversations", "conversation", "chat", "data", "prompt", "completion", "question", "answers", "context",
     "input", "output", "instruction", "history", "system", "tools", "chosen", "rejected", "text", "label", "contents",
     "reasoning", "System_Prompt", "chat_template_kwargs"]
)  # fmt: skip
_PART = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "tool_use", "tool_result", "thinking", "functionCall", "image"]) | VALUE},
    optional=dict.fromkeys(("text", "content", "name", "input", "tool_use_id", "functionCall"), TEXT | VALUE),
)
_TURN = st.dictionaries(
    st.sampled_from(["role", "from", "content", "value", "parts", "human", "assistant", "output", "tool_calls", "weight"]),
    st.sampled_from(["user", "assistant", "gpt", "tool", "Hi"]) | st.lists(_PART, max_size=2) | VALUE, max_size=4,
) | TEXT  # fmt: skip
KNOWN_ROW = st.dictionaries(KNOWN_KEYS, st.lists(_TURN, max_size=4) | TEXT | VALUE, max_size=4)


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """A config in which some settings have any value, and some keys are strange."""
    from pipeline.config.keys import every_key
    from pipeline.config.schema import Config

    document: dict[str, Any] = json.loads(json.dumps(Config().to_json()))
    names = [key.name for key in every_key()]
    for _ in range(draw(st.integers(0, 4))):
        *sections, last = draw(st.sampled_from(names) | TEXT).split(".")
        inner = document
        for section in sections:
            inner = inner.setdefault(section, {})
            if not isinstance(inner, dict):
                break
        else:
            inner[last] = draw(VALUE)
    return document
