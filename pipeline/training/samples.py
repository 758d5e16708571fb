"""What the model being trained answers to the first curated prompts: to read while the curve falls."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.training.checkpointing import random_state

if TYPE_CHECKING:
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

# Tokens: long enough to see how an answer goes, short enough not to hold up training.
MOST_NEW_TOKENS = 48


class Samples:
    """The prompts, encoded once.

    Args:
        max_new_tokens: of an answer; at most `MOST_NEW_TOKENS` here.
    """

    def __init__(self, tokenizer: ChatTokenizer, prompts: list[str], max_new_tokens: int) -> None:
        from pipeline.modeling.generate import user_prompt

        self._tokenizer, self._prompts = tokenizer, prompts
        self._ids = [user_prompt(tokenizer, prompt) for prompt in prompts]
        self._most = min(max_new_tokens, MOST_NEW_TOKENS)

    def answers(self, model: Any, progress: Callable[[int, int], None] = lambda *_: None) -> list[tuple[str, str]]:
        """(prompt, answer) of each; the likeliest token always. Leaves no trace in the model or any generator.

        Args:
            progress: called at each token with the answers that are whole, and of how many; may raise to end them.

        Raises:
            OutOfMemory: there is no room for one answer.
        """
        from pipeline.modeling.generate import generate_batch

        if not self._prompts:
            return []
        told = partial(_of_all, progress, len(self._ids))
        with random_state.preserved():
            answers = generate_batch(model, self._tokenizer, self._ids, self._most, on_token=told)
        return list(zip(self._prompts, answers, strict=True))


def _of_all(progress: Callable[[int, int], None], total: int, done: int) -> None:
    progress(done, total)
