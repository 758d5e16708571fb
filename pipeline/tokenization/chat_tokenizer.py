"""`ChatTokenizer`: a base model's own tokenizer and chat template, from messages to ids and labels.

Labels stand on the assistant's words and the terminator after them, in every assistant turn, and nowhere else. Where a turn
begins is where the rendering of the messages before it, with the generation prompt, ends: exactly the ids the model is
given to answer in inference. A row for which that does not hold is split turn by turn or refused, never masked by a guess.

Not covered: tool calls, images, and training on anything but the assistant.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.base_model import untrusted_files
from pipeline.base_model.stop_tokens import named_stop_ids, stop_ids_in
from pipeline.common.errors import BadInput
from pipeline.config.schema import ChatTemplate
from pipeline.tokenization.fingerprint import tokenizer_fingerprint
from pipeline.tokenization.label_prerender import outline
from pipeline.tokenization.label_spans import Document, Draft, Encoded, Tokenized, all_there, drafts, labelled
from pipeline.tokenization.messages import Message, check_turns
from pipeline.tokenization.special_tokens import Marked, SpecialTokens
from pipeline.tokenization.template_prerender import MOST_SHAPES, Skeletons
from pipeline.tokenization.template_process import IsolatedTemplate, OutOfBounds, Refused
from pipeline.tokenization.templates import OWN, TEMPLATES, Templates, how_to_choose
from pipeline.tokenization.word_cache import Ids

if TYPE_CHECKING:
    from pipeline.base_model.locate import BaseModel

# Headers are the same few words, except where a template has no special token between question and answer.
_MOST_HEADERS = 256
# Renderings that may go out of bounds before a template is given up: a hostile one would take seconds for every row of a file.
_MOST_OUT_OF_BOUNDS = 5
_PROBE: tuple[Message, ...] = ({"role": "user", "content": "Which one?"}, {"role": "assistant", "content": "This\none."})


class ChatTokenizer:
    """Made by `load` or `from_folder`.

    Attributes:
        name: what a person calls the model.
        terminator_ids: ids that end an assistant's turn as the template writes it: what is trained.
        stop_ids: ids that end an answer: those, the tokenizer's end token, what the model's files name besides.
        pad_id: an id to fill rows with. May equal a stop id: padding is told by length, never by id.
        vocabulary_size: ids are below it.
    """

    def __init__(self, tokenizer: Any, name: str, template: ChatTemplate = OWN, stop_ids: frozenset[int] = frozenset()) -> None:
        if getattr(tokenizer, "backend_tokenizer", None) is None:
            raise BadInput(f"{name}: has no fast tokenizer (tokenizer.json)", "choose a model that ships a tokenizer.json")
        self.name = name
        self._template = template
        self._choose_template(tokenizer)
        self._tokenizer = tokenizer
        try:
            self._special = SpecialTokens(tokenizer.backend_tokenizer.to_str(), tokenizer.all_special_tokens)
        except ValueError as error:
            raise BadInput(f"{name}: its special tokens can't be used: {error}", "choose another base model") from error
        self._isolated, self._out_of_bounds = self._compile(tokenizer), 0
        self._header_ids = lru_cache(maxsize=_MOST_HEADERS)(self._special.encode)
        self._skeletons = Skeletons(self._isolated.trace, self._rendered)
        self._outline = lru_cache(maxsize=MOST_SHAPES)(partial(outline, find=self._skeletons.find, special=self._special))
        self.vocabulary_size: int = len(tokenizer)
        self.terminator_ids = frozenset(self._probe())
        self.stop_ids = self.terminator_ids | ({tokenizer.eos_token_id} - {None}) | stop_ids
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self.pad_id: int = pad if pad is not None else min(self.stop_ids)

    @classmethod
    def load(cls, base: BaseModel) -> ChatTokenizer:
        """The tokenizer of a base model, a folder or a .gguf file.

        Raises:
            BadInput: it can't be read, has no chat template, or its template can't be trained on.
        """
        return _loaded(base, tokenizer_fingerprint(base), named_stop_ids(base))

    @classmethod
    def from_folder(
        cls, folder: Path, name: str = "", template: ChatTemplate = OWN, stop_ids: frozenset[int] = frozenset()
    ) -> ChatTokenizer:
        """The tokenizer saved in a Hugging Face folder, with its own template or a named one. Errors as for `load`.

        Args:
            stop_ids: that end an answer besides those the folder names: of the base model, where it is an adapter's.
        """
        name = name or folder.name
        return cls(_read(folder, name), name, template, stop_ids_in(folder) | stop_ids)

    def encode_conversation(self, messages: Sequence[Message]) -> list[Encoded]:
        """Ids and labels of a conversation.

        One document; one per assistant turn when the template writes earlier turns differently once later ones follow.

        Raises:
            BadInput: it can't be rendered or can't be masked exactly; the message is fit for a report.
        """
        some = self.drafts(messages)
        tokens = self._tokenized(Ids.of([self._special.encode(draft.text) for draft in some]))
        documents = [self.labelled(*each) for each in zip(some, tokens, strict=True)]
        return [Encoded(document.ids.tolist(), document.spans) for document in documents]

    def drafts(self, messages: Sequence[Message]) -> list[Draft]:
        """The first half of `encode_conversation`: what is to be tokenized, with `encode`. Raises `BadInput` as it does."""
        messages = _prepared(messages)
        turns = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
        if not turns:
            raise BadInput("there is no assistant turn to train on")
        fast = self._outline(tuple(message["role"] for message in messages))
        draft = fast.draft([message["content"] for message in messages], self._special.hide) if fast else None
        return [draft] if draft else self._drafts_looked_for(messages, turns)

    def _drafts_looked_for(self, messages: Sequence[Message], turns: Sequence[int]) -> list[Draft]:
        whole = self._render(messages)
        all_there(messages, whole)
        openings = [self._render(messages[:turn], answer=True) for turn in turns]
        ends = [whole if turn == len(messages) - 1 else self._render(messages[: turn + 1]) for turn in turns]
        return drafts(self._special, whole, openings, ends, [messages[turn]["content"] for turn in turns])

    def encode(self, some: Sequence[Draft]) -> list[Tokenized]:
        """The texts of drafts in tokens. Other threads may work meanwhile, also on this."""
        return self._tokenized(self._special.encode_all([draft.text for draft in some]))

    def _tokenized(self, ids: Ids) -> list[Tokenized]:
        return [Tokenized(*each) for each in zip(ids.each(), self._special.places_in(ids), strict=True)]

    def labelled(self, draft: Draft, tokens: Tokenized) -> Document:
        """The second half of `encode_conversation`, for the tokens of the draft's text. Raises `BadInput` as it does."""
        return labelled(draft, tokens, self._header_ids)

    def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        """Ids the model is given to answer `messages`, the generation prompt at their end.

        Equal to what stands before the answer in training. Raises `BadInput` where the template refuses the messages.
        """
        messages = _prepared(messages)
        prompt = self._render(messages, answer=True)
        all_there(messages, prompt)
        return self._special.encode(prompt.text)

    def decode(self, ids: Sequence[int], *, keep_special: bool = False) -> str:
        """Text of `ids`, control tokens left out unless asked for."""
        text = self._tokenizer.decode(list(ids), skip_special_tokens=not keep_special, clean_up_tokenization_spaces=False)
        return str(text)

    def save(self, folder: Path) -> None:
        """Write the tokenizer as it was loaded, with its chat template, so that `AutoTokenizer` reads it."""
        self._tokenizer.save_pretrained(folder)

    # ---------------------------------------------------------------------------------------- which template

    def _choose_template(self, tokenizer: Any) -> None:
        """The named template in place of the tokenizer's own, where its tokens are there."""
        if self._template == OWN:
            if not tokenizer.chat_template:
                raise BadInput(f"{self.name}: its tokenizer has no chat template", how_to_choose(_fitting(tokenizer)))
            return
        if missing := _fitting(tokenizer).lacking.get(self._template):
            message = f"data.template: {self._template} needs the special token {missing}, which {self.name} does not have"
            raise BadInput(message, how_to_choose(_fitting(tokenizer)))
        tokenizer.chat_template = TEMPLATES[self._template].jinja

    def _compile(self, tokenizer: Any) -> IsolatedTemplate:
        """Never by transformers itself: folding its constants can take for ever."""
        try:
            return IsolatedTemplate(tokenizer.get_chat_template(), tokenizer.special_tokens_map)
        except (Refused, ValueError, TypeError) as error:
            message = f"{self.name}: its chat template can't be used: {str(error)[:200] or type(error).__name__}"
            raise BadInput(message, how_to_choose(_fitting(tokenizer))) from error

    # ---------------------------------------------------------------------------------------------- rendering

    def _render(self, messages: Sequence[Message], *, answer: bool = False) -> Marked:
        """The rendering; with the generation prompt when an `answer` is to follow."""
        roles = tuple(message["role"] for message in messages)
        hidden = [self._special.hide(message["content"]) for message in messages]
        skeleton = self._skeletons.find(roles, answer)
        known = skeleton is not None and skeleton.holds(hidden)
        return self._special.mark(skeleton.filled(hidden) if skeleton and known else self._rendered(roles, hidden, answer))

    def _rendered(self, roles: Sequence[str], contents: Sequence[str], answer: bool) -> str:
        """The rendering as transformers gives it, within bounds."""
        if self._out_of_bounds >= _MOST_OUT_OF_BOUNDS:
            raise BadInput("the chat template took too long or made too much for earlier rows, and is not tried again")
        try:
            return self._isolated.render(roles, contents, answer)
        except Refused as error:
            self._out_of_bounds += isinstance(error, OutOfBounds)
            raise BadInput(f"the chat template refuses it: {error}") from error

    def _prompt_opens_the_turn(self) -> None:
        """A template that ignores the generation prompt would have the assistant's header trained as words of the answer."""
        opening, whole = self._render(_PROBE[:1], answer=True), self._render(_PROBE)
        before, _, _ = whole.text[len(opening.text) :].partition(_PROBE[1]["content"])
        if before.strip() and opening.text == self._render(_PROBE[:1]).text:
            raise BadInput("it has no generation prompt, so nothing tells where an answer begins (add_generation_prompt)")

    def _probe(self) -> set[int]:
        """The ids that end an assistant's turn, after checking that marked text gives the ids everybody else gets."""
        try:
            text = self._rendered([each["role"] for each in _PROBE], [each["content"] for each in _PROBE], False)
            encoded = self.encode_conversation(_PROBE)
            self._prompt_opens_the_turn()
        except BadInput as error:
            which = "its chat template" if self._template == OWN else f"the chat template {self._template} (data.template)"
            message = f"{self.name}: can't be trained with {which}: {error.message}"
            raise BadInput(message, how_to_choose(_fitting(self._tokenizer))) from error
        if encoded[0].ids != self._tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids:
            raise BadInput(f"{self.name}: its special tokens can't be told from text", "choose another base model")
        return {encoded[0].ids[end - 1] for _begin, end in encoded[0].spans}


def _fitting(tokenizer: Any) -> Templates:
    """The named templates whose special tokens this vocabulary has; those that end a turn with its end token need that."""
    known = {
        *tokenizer.all_special_tokens,
        *(token.content for token in tokenizer.added_tokens_decoder.values() if token.special),
    }
    missing = {}
    for name, template in TEMPLATES.items():
        lacking = [token for token in template.needs if token not in known]
        if not template.needs and not tokenizer.eos_token:
            lacking = ["that ends a text (eos_token)"]
        if lacking:
            missing[name] = lacking[0]
    return Templates(bool(tokenizer.chat_template), missing)


@lru_cache(maxsize=2)
def _loaded(base: BaseModel, _fingerprint: str, stop_ids: frozenset[int]) -> ChatTokenizer:
    # Four steps of a run ask for it, and reading one out of a GGUF file takes seconds.
    if base.kind == "gguf":
        from pipeline.base_model.gguf_reader import read_once

        with read_once():
            tokenizer = _read(base.path.parent, base.name, gguf_file=base.path.name)
            return ChatTokenizer(tokenizer, base.name, base.template, stop_ids)
    return ChatTokenizer.from_folder(base.path, base.name, base.template)


def _read(folder: Path, name: str, **options: str) -> Any:
    from transformers import AutoTokenizer

    if not options and (problems := untrusted_files.file_problems(folder)):
        raise BadInput(f"{name}: its tokenizer is not read from {folder}: {problems[0]}", "humigence model check")
    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False, **options)
    except Exception as error:  # the tokenizers library raises bare `Exception` for a damaged file
        first_line = (str(error).splitlines() or [""])[0][:300]
        reason = first_line or type(error).__name__
        raise BadInput(f"{name}: its tokenizer can't be read from {folder}: {reason}", "humigence model check") from error


def _prepared(messages: Sequence[Message]) -> list[Message]:
    """Checked, and white space before the assistant's words removed: it would merge with the header before it."""
    check_turns(messages)
    return [
        Message(role=message["role"], content=_well_formed(message["content"], message["role"] == "assistant"))
        for message in messages
    ]


def _well_formed(content: str, answer: bool) -> str:
    try:
        content.encode()
    except UnicodeEncodeError as error:
        raise BadInput("a message holds half a character (a lone surrogate)") from error
    return content.lstrip() if answer else content
