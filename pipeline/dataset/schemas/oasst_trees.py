"""OpenAssistant's messages as rows that are one conversation each: trees put together from messages, and paths taken from trees.

Messages may stand in any order, and all of a tree in one row or each in its own. Those of their own are held on the disk (a
database without a name, gone with the process) until all have been read: a reply may stand before what it replies to.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, BinaryIO

from pipeline.config.schema import DataSection
from pipeline.dataset.readers.reader import DataFile, RawRow, Reader, RowAccess
from pipeline.dataset.schemas.fields import from_json

Message = Mapping[str, Any]
DELETED, REVIEWED, FOREIGN = "deleted messages", "messages rejected in review", "messages in other languages"
_LOOKED_AT = 100
_MOST_WAITING = 1000  # messages on their way to the disk


def root_of(row: Mapping[str, Any]) -> Any:
    """The first message of a row that is a tree, or the row itself."""
    prompt = from_json(row.get("prompt"))
    return prompt if isinstance(prompt, dict) else row


def is_message(row: Mapping[str, Any]) -> bool:
    """Whether a row is a message by itself, which says by `parent_id` what it replies to."""
    return all(isinstance(row.get(key), str) for key in ("message_id", "role", "text")) and "replies" not in row


def why_left_out(message: Message) -> str:
    """A name for the reason, "" for a good message."""
    if message.get("deleted"):
        return DELETED
    return REVIEWED if message.get("review_result") is False else ""


def rank(message: Message) -> float:
    """0 is the best; those without one come last."""
    value = message.get("rank")
    return float(value) if isinstance(value, (int, float)) else float("inf")


def replies(message: Message) -> list[Message]:
    found = message.get("replies")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def gathered(reader: Reader, file: DataFile, data: DataSection) -> Reader:
    """`Schema.gathered`: the same reader where each row is a tree already and its best path is wanted."""
    flat = any(is_message(raw.row) for raw in islice(reader.rows(file), _LOOKED_AT))
    if data.columns or not (flat or data.oasst.paths == "all" or data.oasst.languages):
        return reader

    def rows(file: DataFile) -> Iterator[RawRow]:
        for raw in _trees(reader.rows(file)) if flat else reader.rows(file):
            yield from _as_asked(raw, data)

    return replace(
        reader,
        rows=rows,
        positions=lambda file: ((raw.number, place) for place, raw in enumerate(rows(file))),
        access=lambda file: _access(rows(file)),
    )


# ------------------------------------------------------------------------------------------------ from messages to trees


def _trees(rows: Iterator[RawRow]) -> Iterator[RawRow]:
    """A row a tree, where its first message stands; what is no message as it is, what belongs to no tree with the reason."""
    with closing(sqlite3.connect("")) as database:  # without a name: on the disk, where it grows
        database.execute("CREATE TABLE message (seq INTEGER PRIMARY KEY, id BLOB, parent BLOB, raw)")
        _fill(database, rows)
        database.execute("CREATE INDEX by_id ON message (id)")
        database.execute("CREATE INDEX by_parent ON message (parent)")
        database.execute("CREATE TABLE reached (seq INTEGER PRIMARY KEY)")
        beginnings = database.execute(
            "SELECT m.seq, m.id, m.parent, m.raw FROM message m"
            " WHERE m.parent IS NULL OR NOT EXISTS (SELECT 1 FROM message p WHERE p.id = m.parent) ORDER BY m.seq"
        )
        for seq, name, parent, raw in beginnings:
            if name is None:
                yield _read(raw)
            elif parent is not None:
                yield from _lost(database, seq)
            else:
                yield replace(_read(raw), row=_tree(database, seq))
        circles = database.execute(
            "SELECT raw FROM message m WHERE id IS NOT NULL AND parent IS NOT NULL"
            " AND NOT EXISTS (SELECT 1 FROM reached r WHERE r.seq = m.seq) ORDER BY seq"
        )
        for (raw,) in circles:
            yield replace(_read(raw), row={}, problem="the messages that it replies to have no first one")


def _fill(database: sqlite3.Connection, rows: Iterator[RawRow]) -> None:
    def values() -> Iterator[tuple[Any, ...]]:
        for raw in rows:
            of_tree = not raw.problem and is_message(raw.row)
            name = raw.row["message_id"] if of_tree else None
            parent = raw.row.get("parent_id") or None if of_tree else None
            yield _key(name), _key(parent), json.dumps([raw.number, raw.row, raw.problem, raw.place], default=str)

    waiting = values()
    while batch := list(islice(waiting, _MOST_WAITING)):
        database.executemany("INSERT INTO message (id, parent, raw) VALUES (?, ?, ?)", batch)


def _key(name: Any) -> bytes | None:
    return None if name is None else str(name).encode("utf-8", "surrogatepass")


def _read(raw: str) -> RawRow:
    return RawRow(*json.loads(raw))


_BELOW = (
    "WITH RECURSIVE tree(seq) AS (SELECT ? UNION SELECT m.seq FROM tree t JOIN message a ON a.seq = t.seq"
    " JOIN message m ON m.parent = a.id) "
)


def _tree(database: sqlite3.Connection, seq: int) -> dict[str, Any]:
    """The row of a tree, as it is published, of the messages below its first."""
    messages = [(number, raw.row) for number, raw in _from(database, seq)]
    database.executemany("INSERT OR IGNORE INTO reached VALUES (?)", [[number] for number, _ in messages])
    by_id: dict[str, dict[str, Any]] = {}
    for _, message in messages:
        by_id.setdefault(message["message_id"], message)["replies"] = []
    for number, message in messages:
        if number != seq and by_id[message["message_id"]] is message:
            by_id[str(message["parent_id"])]["replies"].append(message)
    root = next(message for number, message in messages if number == seq)
    root.setdefault("replies", [])
    whole = {"message_tree_id": root.get("message_tree_id") or root["message_id"], "prompt": root}
    return whole | ({"tree_state": root["tree_state"]} if root.get("tree_state") else {})


def _lost(database: sqlite3.Connection, seq: int) -> Iterator[RawRow]:
    """A reply to what is not in the file, and all that reply to it."""
    for _, raw in _from(database, seq):
        yield replace(raw, row={}, problem="the message that it replies to is not in the file")


def _from(database: sqlite3.Connection, seq: int) -> list[tuple[int, RawRow]]:
    """A message and all below it, in the order of the file; they are known as reached."""
    found = database.execute(f"{_BELOW} SELECT m.seq, m.raw FROM tree JOIN message m ON m.seq = tree.seq ORDER BY m.seq", [seq])
    messages = [(number, _read(raw)) for number, raw in found]
    database.executemany("INSERT OR IGNORE INTO reached VALUES (?)", [[number] for number, _ in messages])
    return messages


# -------------------------------------------------------------------------------------------------- from trees to paths


def _as_asked(raw: RawRow, data: DataSection) -> Iterator[RawRow]:
    """The row of a tree in the languages that are wanted, or a row for each of its paths."""
    root = root_of(raw.row)
    if raw.problem or "text" not in root:
        yield raw
        return
    pruned, names = _pruned(root, data.oasst.languages)
    if pruned is None:
        yield replace(raw, row={}, problem="the tree's first message is in another language (data.oasst.languages)")
        return
    beside = {key: value for key, value in raw.row.items() if key in ("message_tree_id", "tree_state")}
    if data.oasst.paths == "best":
        yield replace(raw, row={**beside, "prompt": pruned, "left_out": sorted(names)})
        return
    for number, path in enumerate(_paths(pruned)):
        left_out = sorted(names | _reasons(pruned)) if number == 0 else []
        yield replace(raw, row={**beside, "prompt": _chain(path), "left_out": left_out})


def _pruned(root: Message, languages: Sequence[str]) -> tuple[dict[str, Any] | None, set[str]]:
    """The tree without messages in other languages and what follows on them, and names of what that left out."""
    wanted = {each.casefold() for each in languages}

    def fits(message: Message) -> bool:
        said = message.get("lang")
        return not wanted or not isinstance(said, str) or bool({said.casefold(), said.casefold().split("-")[0]} & wanted)

    if not fits(root):
        return None, set()
    top = dict(root)
    names, to_do = set[str](), [top]
    while to_do:
        message = to_do.pop()
        good = [dict(each) for each in replies(message) if fits(each)]
        names |= {FOREIGN} if len(good) < len(replies(message)) else set()
        message["replies"] = good
        to_do += good
    return top, names


@dataclass(frozen=True, slots=True)
class _Node:
    message: Message
    parent: int
    children: list[int]


def _nodes(root: Message) -> list[_Node]:
    """The good messages of a tree, each behind what it replies to, the best replies first."""
    nodes = [_Node(root, -1, [])]
    for at, node in enumerate(nodes):  # it grows as it is gone through
        for reply in sorted((each for each in replies(node.message) if not why_left_out(each)), key=rank):
            node.children.append(len(nodes))
            nodes.append(_Node(reply, at, []))
    return nodes


def _reasons(root: Message) -> set[str]:
    found, to_do = set[str](), [root]
    while to_do:
        for reply in replies(to_do.pop()):
            found.add(why_left_out(reply))
            to_do += [] if why_left_out(reply) else [reply]
    return found - {""}


def _paths(root: Message) -> Iterator[list[Message]]:
    """The paths from the first message to each last answer, the best first; an answer of an earlier one weighs nothing."""
    if why_left_out(root):
        yield [root]
        return
    nodes = _nodes(root)
    answered = [False] * len(nodes)  # whether an answer stands below
    for node in reversed(range(1, len(nodes))):
        if answered[node] or nodes[node].message.get("role") == "assistant":
            answered[nodes[node].parent] = True
    trained, to_do, found = set[int](), [0], False
    while to_do:
        at = to_do.pop()
        to_do += reversed(nodes[at].children)
        if answered[at] or nodes[at].message.get("role") != "assistant":
            continue
        path, here = list[int](), at
        while here >= 0:
            path.append(here)
            here = nodes[here].parent
        found = True
        yield [{**nodes[each].message, "loss_weight": 0} if each in trained else nodes[each].message for each in reversed(path)]
        trained |= {each for each in path if nodes[each].message.get("role") == "assistant"}
    if not found:
        yield [root]


def _chain(path: Sequence[Message]) -> dict[str, Any]:
    """A tree with a single path."""
    chain: list[dict[str, Any]] = []
    for message in reversed(path):
        chain = [{**message, "replies": chain}]
    return chain[0]


# ----------------------------------------------------------------------------------------------------------- any of them


class _Spooled:
    """`RowAccess` of rows that stand nowhere as they are: written to a file without a name."""

    def __init__(self, file: BinaryIO, rows: Iterator[RawRow]) -> None:
        self._file, self._begins = file, array("q")
        for raw in rows:
            self._begins.append(file.tell())
            file.write(json.dumps([raw.number, raw.row, raw.problem, raw.place], default=str).encode() + b"\n")

    def row_at(self, number: int, position: int) -> RawRow:
        self._file.seek(self._begins[position])
        return _read(self._file.readline().decode())

    def text_at(self, position: int, most_bytes: int) -> str:
        raw = self.row_at(0, position)
        return raw.problem or json.dumps(raw.row, ensure_ascii=False)[:most_bytes]


@contextmanager
def _access(rows: Iterator[RawRow]) -> Iterator[RowAccess]:
    with tempfile.TemporaryFile() as file:
        yield _Spooled(file, rows)
