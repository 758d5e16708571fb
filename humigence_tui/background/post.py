"""How a thread of the app hands its news on."""

from __future__ import annotations

from collections.abc import Callable

from textual.message import Message

# `App.post_message`: safe to call from any thread, answers False once the app has closed.
Post = Callable[[Message], bool]
