"""Python's search for garbage in cycles, made short: no key is answered while it goes on.

It would look through all that Textual and pydantic keep, 40 ms every other second while a run is on.
"""

from __future__ import annotations

import gc


def keep_for_good() -> None:
    """What is there now stays until the program ends: later searches pass over it.

    Not while there is a screen that will be closed: nothing of it could be freed.
    """
    gc.collect()
    gc.freeze()
