"""Where a row says that it comes from: the conversation or document that several rows may be parts of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# As published data sets call it: OpenAssistant's trees, WildChat and LMSYS, UltraFeedback and UltraChat, chunks of documents.
KEYS = ("message_tree_id", "conversation_id", "conversation_hash", "prompt_id", "document_id", "doc_id")
# ShareGPT's long conversations are cut into rows by FastChat: "QWJhYvA_0", "QWJhYvA_14".
_CUT = re.compile(r"(?=.*[0-9A-Z].*_)(?=.*[a-z].*_)([A-Za-z0-9]{7})_\d{1,4}")


def origin_of(row: Mapping[str, Any]) -> str:
    """Two rows with the same are parts of one conversation or document; "" where a row does not say."""
    for key in KEYS:
        value = row.get(key)
        if value and isinstance(value, (str, int)):
            return f"{key} {value}"
    part = row.get("id")
    cut = _CUT.fullmatch(part) if isinstance(part, str) else None
    return f"id {cut[1]}" if cut else ""
