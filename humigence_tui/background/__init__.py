"""The threads of the app. Each belongs to the app, never to a widget, and tells its news with `post` (thread-safe)."""

from __future__ import annotations

from collections.abc import Callable

from textual.message import Message

# `App.post_message`: safe to call from any thread, answers False once the app has closed.
Post = Callable[[Message], bool]
