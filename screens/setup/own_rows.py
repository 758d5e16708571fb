"""Files of rows that are held out as they are: val and test of one's own."""

from __future__ import annotations

from pipeline.common.errors import BadInput
from pipeline.dataset.readers.file_check import require_readable
from pipeline.runs.folders import Workspace


def nothing_there(path: str, workspace: Workspace) -> str:
    """Why no rows can be read at a path; "" where there is none, or they can."""
    if not path:
        return ""
    try:
        require_readable(workspace.resolve(path), "")
    except BadInput as error:
        return error.message.removeprefix(": ")
    return ""
