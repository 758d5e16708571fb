"""Settings that stand for each other: what follows for the others where a person sets one of them.

Where the rows come from is `data.source` together with `data.raw_path`, `data.hub` or `data.sources`, three shares of
`data.split` are one, and a split that has rows of its own gets none of them. Both the command line and the form set what follows
in the same moment and say so.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any, Literal

from pipeline.config.schema import DataSection, SplitSection

Origin = Literal["bundled", "generated", "local", "hub", "several"]

SOURCE, RAW_PATH = "data.source", "data.raw_path"
HUB_REPO, SOURCES = "data.hub.repo", "data.sources"
SHARES = ("data.split.train", "data.split.val", "data.split.test")
OWN_ROWS = {"data.val_path": "data.split.val", "data.test_path": "data.split.test"}
ASKED = (SOURCE, RAW_PATH, *SHARES, *OWN_ROWS)  # the settings whose values are looked at
USUAL_PLACE = str(DataSection.model_fields["raw_path"].default)
# Where rows that are made are written when the usual place may be taken.
OWN_PLACES: dict[str, str] = {"bundled": "data/raw/oa_demo.jsonl", "generated": "data/raw/generated.jsonl"}
_DECIMALS = 9  # 1 − 0.9 is 0.1


def origin(data: DataSection) -> Origin:
    """Where the rows really come from: a path that a person chose is a file of theirs, whatever `data.source` says.

    Rows are made at the places that are for it and nowhere else: a name that is misspelt is never filled with them.
    """
    if data.source in ("hub", "several"):
        return data.source
    places = (USUAL_PLACE, *OWN_PLACES.values())
    return data.source if posixpath.normpath(data.raw_path) in places else "local"


def with_what_follows(entries: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What a person sets, and what that makes of the settings it stands for.

    Args:
        entries: dotted key to value, as they are set together.
        now: the values of `ASKED` before.
    """
    return {**entries, **_of_rows(entries, now), **_of_shares(entries, now), **_of_own_rows(entries, now)}


def _of_rows(entries: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    if RAW_PATH in entries:
        return {} if SOURCE in entries or now[SOURCE] == "local" else {SOURCE: "local"}
    if SOURCE not in entries and (named := _named_by(entries, str(now[SOURCE]))):
        return {SOURCE: named} if named != now[SOURCE] else {}
    source, place = entries.get(SOURCE), str(now[RAW_PATH])
    if source not in OWN_PLACES or posixpath.normpath(place) == OWN_PLACES[source]:
        return {}
    # The demo's usual place is the default one; rows of another origin may lie there.
    usual = source == now[SOURCE] or source == "bundled"
    return {} if usual and posixpath.normpath(place) == USUAL_PLACE else {RAW_PATH: OWN_PLACES[source]}


def _named_by(entries: Mapping[str, Any], source: str) -> str:
    """Where rows come from by a data set of the hub, or several sources, that a person names; "" where none is."""
    if entries.get(SOURCES):
        return "several"
    if SOURCES in entries and source == "several":
        return "local"
    return "hub" if entries.get(HUB_REPO) else ""


def _of_shares(entries: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The rest of one: of a new share of train divided between val and test as it was, else train's."""
    given = [key for key in SHARES if key in entries]
    if len(given) != 1 or not _is_share(entries[given[0]]):
        return {}
    train, val, test = SHARES
    if not all(_is_share(now[key]) for key in SHARES):
        return {}
    if given == [train]:
        rest, before = 1 - entries[train], now[val] + now[test]
        of_val = now[val] / before if before else 0.5
        return {val: round(rest * of_val, _DECIMALS), test: round(rest - round(rest * of_val, _DECIMALS), _DECIMALS)}
    other = test if given == [val] else val
    left = round(1 - entries[given[0]] - now[other], _DECIMALS)
    return {train: left} if left > 0 else {}


def _of_own_rows(entries: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """No share for a split that gets rows of its own, the default one for a split that has none any more; train has the rest."""
    shares = {key: now[key] for key in SHARES}
    if any(key in entries for key in SHARES) or not all(_is_share(share) for share in shares.values()):
        return {}
    for path, share in OWN_ROWS.items():
        if path not in entries or bool(entries[path]) == bool(now[path]):
            continue
        wanted = 0.0 if entries[path] else float(SplitSection.model_fields[share.rpartition(".")[2]].default)
        if entries[path] or not shares[share]:
            shares[share] = wanted
    train, val, test = SHARES
    left = round(1 - shares[val] - shares[test], _DECIMALS)
    changed = {key: share for key, share in {**shares, train: left}.items() if share != now[key]}
    return changed if left > 0 and set(changed) - {train} else {}


def _is_share(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
