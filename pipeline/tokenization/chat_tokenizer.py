"""`ChatTokenizer`: a base model's own tokenizer and chat template, from messages to ids and labels.

Labels stand on the assistant's words and the terminator after them, in every assistant turn, and nowhere else. Where a turn
begins is where the rendering of the messages before it, with the generation prompt, ends: exactly the ids the model is
given to answer in inference. A row for which that does not hold is split turn by turn or refused, never masked by a guess.

What a conversation says besides, tools, tool calls, thoughts, reaches the template in the form it takes (`template_form`); what
it does not show of them is named in `Draft.not_shown`.

Not covered: images, and training on anything but the assistant.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base_model.embedding_rows import embedding_rows
from pipeline.base_model.stop_tokens import named_stop_ids, stop_ids_in
from pipeline.common.errors import BadInput
from pipeline.tokenization.fingerprint import tokenizer_fingerprint
from pipeline.tokenization.label_prerender import Outline, outline
from pipeline.tokenization.label_spans import Document, Draft, Encoded, Endings, Tokenized, drafts, labelled, weighted
from pipeline.tokenization.messages import Conversation, Message, Said, as_conversation
from pipeline.tokenization.prepared_messages import check_characters, prepared
from pipeline.tokenization.read_back import ReadBack, total
from pipeline.tokenization.same_tokens import same_tokens
from pipeline.tokenization.shown import FIRST_ANSWER, all_there, answer_of, left_out, not_shown, seen_in_some, without_switches
from pipeline.tokenization.special_tokens import Marked, SpecialTokens
from pipeline.tokenization.template_form import TemplateForm, hidden
from pipeline.tokenization.template_prerender import MOST_SHAPES, Skeletons
from pipeline.tokenization.template_process import IsolatedTemplate, Messages, OutOfBounds, Refused
from pipeline.tokenization.templates import ITS_OWN, OWN, Chosen, chosen_for, how_to_choose, of_tokenizer, with_thinking
from pipeline.tokenization.tokenizer_files import read_folder, read_gguf
from pipeline.tokenization.vocabulary import check_rows
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
        kind: the class that transformers reads the tokenizer as.
        terminator_ids: ids that end an assistant's turn as the template writes it: what is trained.
        stop_ids: ids that end an answer: those, the tokenizer's end token, what the model's files name besides.
        pad_id: an id to fill rows with. May equal a stop id: padding is told by length, never by id.
        vocabulary_size: ids are below it.
    """

    def __init__(
        self, tokenizer: Any, name: str, chosen: Chosen = ITS_OWN, stop_ids: frozenset[int] = frozenset(), rows: int = 0
    ) -> None:
        if getattr(tokenizer, "backend_tokenizer", None) is None:
            raise BadInput(f"{name}: has no fast tokenizer (tokenizer.json)", "choose a model that ships a tokenizer.json")
        self.name = name
        self._chosen = chosen
        self._choose_template(tokenizer)
        self._tokenizer = tokenizer
        try:
            self._special = SpecialTokens(tokenizer.backend_tokenizer.to_str(), tokenizer.all_special_tokens)
        except ValueError as error:
            raise BadInput(f"{name}: its special tokens can't be used: {error}", "choose another base model") from error
        self._isolated, self._out_of_bounds = self._compile(tokenizer), 0
        self._form = TemplateForm(self._tried)
        self._set_thinking(tokenizer)
        self._header_ids = lru_cache(maxsize=_MOST_HEADERS)(self._special.encode)
        self._skeletons = Skeletons(self._traced, self._rendered)
        self._terminators: dict[bool, str] = {}
        self._endings = Endings()
        self._outline = lru_cache(maxsize=MOST_SHAPES)(self._found_outline)
        self.kind = type(tokenizer).__name__
        self.vocabulary_size: int = len(tokenizer)
        self._rows = rows if rows and not check_rows(tokenizer, name, rows) else 0  # 0: nothing to look for
        self.terminator_ids = frozenset(self._probe(stop_ids))
        self.stop_ids = self.terminator_ids | ({tokenizer.eos_token_id} - {None}) | stop_ids
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self.pad_id: int = pad if pad is not None else min(self.stop_ids)

    @classmethod
    def load(cls, base: BaseModel) -> ChatTokenizer:
        """The tokenizer of a base model, a folder or a .gguf file.

        Raises:
            BadInput: it can't be read, has no chat template, or its template can't be trained on.
        """
        return _loaded(base, tokenizer_fingerprint(base), named_stop_ids(base), embedding_rows(base))

    @classmethod
    def from_folder(
        cls, folder: Path, name: str = "", chosen: Chosen = ITS_OWN, stop_ids: frozenset[int] = frozenset(), rows: int = 0
    ) -> ChatTokenizer:
        """The tokenizer saved in a Hugging Face folder, with its own template or another. Errors as for `load`.

        Args:
            stop_ids: that end an answer besides those the folder names: of the base model, where it is an adapter's.
            rows: of the model's embedding; 0 where that is not known.
        """
        name = name or folder.name
        return cls(read_folder(folder, name), name, chosen, stop_ids_in(folder) | stop_ids, rows)

    def encode_conversation(self, said: Said) -> list[Encoded]:
        """Ids and labels of a conversation.

        One document; one per assistant turn when the template writes earlier turns differently once later ones follow, or when
        an answer's first characters merge with what stands before it.

        Raises:
            BadInput: it can't be rendered or can't be masked exactly; the message is fit for a report.
        """
        some = self.drafts(said)
        tokens = self._tokenized(Ids.of([self._special.encode(draft.text) for draft in some]))
        documents = [document for each in zip(some, tokens, strict=True) for document in self.labelled(*each)]
        return [Encoded(document.ids.tolist(), document.spans, document.weights) for document in documents]

    def drafts(self, said: Said) -> list[Draft]:
        """The first half of `encode_conversation`: what is to be tokenized, with `encode`. Raises `BadInput` as it does."""
        conversation = as_conversation(said)
        if conversation.text:
            return [self._of_text(conversation.text)]
        conversation = self._prepared(conversation)
        messages = conversation.messages
        turns = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
        if not any(messages[turn].get("weight", 1) for turn in turns):
            raise BadInput("there is no assistant turn to train on")
        if turns[0] == 0 and not self._begins_with_an_answer:
            return self._drafts_behind_the_first(conversation, turns)
        if conversation.is_plain and (fast := self._outline(tuple([message["role"] for message in messages]))):
            found = fast.drafts([message["content"] for message in messages], self._special.hide)
            if found:
                return weighted(found, [messages[turn].get("weight", 1.0) for turn in turns])
        return self._drafts_looked_for(conversation, turns)

    def _of_text(self, text: str) -> Draft:
        """A text as it is: its special tokens are meant, and what begins and ends one for this model stands around it."""
        check_characters(text)
        begin, end = self._around_text
        text = (begin if not text.startswith(begin) else "") + text + (end if not text.endswith(end) else "")
        marked = self._special.mark(text)
        return Draft(marked.text, len(marked.starts), (), whole=True)

    @cached_property
    def _around_text(self) -> tuple[str, str]:
        """What the tokenizer itself puts before a text, where that is its own token for it; what ends one."""
        tokenizer = self._tokenizer
        first = tokenizer.backend_tokenizer.encode("a").ids[:1]
        begins = tokenizer.bos_token is not None and first == [tokenizer.bos_token_id]
        return tokenizer.bos_token if begins else "", tokenizer.eos_token or ""

    def _drafts_behind_the_first(self, conversation: Conversation, turns: Sequence[int]) -> list[Draft]:
        """Where the template has no beginning for an answer: the assistant's first words are seen and not trained."""
        if not any(conversation.messages[turn].get("weight", 1) for turn in turns[1:]):
            raise BadInput("the assistant speaks first, and the chat template can't begin with an answer")
        found = self._drafts_looked_for(conversation, turns[1:])
        return [replace(draft, not_shown=(*draft.not_shown, FIRST_ANSWER)) for draft in found]

    @cached_property
    def _begins_with_an_answer(self) -> bool:
        return bool(self._tried([], True, {}))

    def _drafts_looked_for(self, conversation: Conversation, turns: Sequence[int]) -> list[Draft]:
        messages = conversation.messages
        answers = [answer_of(messages[turn], self._form) for turn in turns]
        wanted = [(len(messages), False), *((turn, True) for turn in turns), *((turn + 1, False) for turn in turns)]
        whole, *others = self._render_all(conversation, wanted)
        missing = self._missing(conversation, whole, answer=False)
        openings = others[: len(turns)]
        ends = [
            self._closed(end, bool(messages[turn].get("tool_calls")))
            for turn, end in zip(turns, others[len(turns) :], strict=True)
        ]
        if turns[-1] == len(messages) - 1:
            whole = ends[-1]
        try:
            found = drafts(self._special, whole, openings, ends, answers, self._endings)
        except BadInput as error:
            raise missing or error from None
        trained = [turn for turn, answer in zip(turns, answers, strict=True) if answer.weight]
        texts = [draft.text for draft in found]
        names = seen_in_some(messages, trained, texts, missing) if missing else ()
        if not conversation.is_plain:
            names = (*names, *not_shown(conversation, self._form, texts))
        return [replace(draft, not_shown=names) for draft in found] if names else found

    def encode(self, some: Sequence[Draft]) -> list[Tokenized]:
        """The texts of drafts in tokens. Other threads may work meanwhile, also on this."""
        return self._tokenized(self._special.encode_all([draft.text for draft in some]))

    def _tokenized(self, ids: Ids) -> list[Tokenized]:
        return [Tokenized(*each) for each in zip(ids.each(), self._special.places_in(ids), strict=True)]

    def labelled(self, draft: Draft, tokens: Tokenized) -> list[Document]:
        """The second half of `encode_conversation`, for the tokens of the draft's text. Raises `BadInput` as it does."""
        documents = labelled(draft, tokens, self._special, self._header_ids)
        self._check_ids(tokens.ids)
        return documents

    def _check_ids(self, ids: Sequence[int] | NDArray[np.int32]) -> None:
        """Raise `BadInput` where an id has no row in the embedding: of a special token that nothing is expected to write."""
        if self._rows and np.max(ids, initial=0) >= self._rows:
            raise BadInput("the chat template writes a special token that the model's embedding has no row for")

    def read_back(self, some: Iterable[tuple[Draft, Tokenized]]) -> ReadBack:
        """How much of the texts of drafts comes back from their tokens."""
        return total(self._special.read_back(draft.text, tokens.ids.tolist()) for draft, tokens in some)

    def read_back_texts(self, texts: Sequence[str]) -> ReadBack:
        """How much of plain texts comes back from their tokens."""
        return total(self._special.read_back(text, self._special.encode(text)) for text in texts)

    @property
    def template_ids(self) -> frozenset[int]:
        """Ids that only the chat template writes: what a person typed is never one of them."""
        return self._special.ids

    def encode_prompt(self, said: Said) -> list[int]:
        """Ids the model is given to answer what is said, the generation prompt at their end.

        Equal to what stands before the answer in training. Raises `BadInput` where the template refuses the messages.
        """
        conversation = self._prepared(as_conversation(said))
        (prompt,) = self._render_all(conversation, [(len(conversation.messages), True)])
        if missing := self._missing(conversation, prompt, answer=True):
            raise missing
        ids = self._special.encode(prompt.text)
        self._check_ids(ids)
        return ids

    def decode(self, ids: Sequence[int], *, keep_special: bool = False) -> str:
        """Text of `ids`, control tokens left out unless asked for."""
        text = self._tokenizer.decode(list(ids), skip_special_tokens=not keep_special, clean_up_tokenization_spaces=False)
        return str(text)

    @property
    def plain(self) -> Any:
        """The tokenizer of transformers, for a library that takes one: it writes typed special tokens as control tokens."""
        return self._tokenizer

    @property
    def chat_template(self) -> str:
        """The template in force, as Jinja."""
        return str(self._tokenizer.get_chat_template())

    def document(self) -> dict[str, Any]:
        """The tokenizer as `tokenizer.json` has it."""
        found: dict[str, Any] = json.loads(self._tokenizer.backend_tokenizer.to_str())
        return found

    def named_ids(self) -> dict[str, int]:
        """`bos`, `eos`, `unk`, `pad` -> id, of those it has."""
        named = {name: getattr(self._tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "unk", "pad")}
        return {name: number for name, number in named.items() if number is not None}

    @property
    def begins_with_bos(self) -> bool:
        """Whether a text gets the token that begins one of itself, without a template."""
        return bool(self._around_text[0])

    @property
    def bos_of_prompts(self) -> str:
        """The token that a text gets by itself and that the chat template writes too; empty where it is not both.

        llama.cpp puts it before a prompt in place of the template's.
        """
        bos: str | None = self._tokenizer.bos_token
        (prompt,) = self._render_all(Conversation(_PROBE[:1]), [(1, True)])
        return bos if bos and self.begins_with_bos and self._special.unmarked(prompt.text).startswith(bos) else ""

    @property
    def writes_the_time(self) -> bool:
        """Whether the chat template asks for the time."""
        found = self._skeletons.find(("user",), answer=True)
        return bool(found.clock) if found else "strftime_now" in self.chat_template

    def render(self, said: Said) -> str:
        """The text whose ids are `encode_prompt`'s. Raises `BadInput` as that does."""
        conversation = self._prepared(as_conversation(said))
        (prompt,) = self._render_all(conversation, [(len(conversation.messages), True)])
        return self._special.unmarked(prompt.text)

    def reads_as(self, vocabulary: Path) -> bool:
        """Whether a `tokenizer.json` makes the tokens that this tokenizer makes: its class may have built another from it."""
        return same_tokens(self._tokenizer.backend_tokenizer, vocabulary)

    def save(self, folder: Path) -> None:
        """Write the tokenizer as it was loaded, with its chat template, so that `AutoTokenizer` reads it."""
        self._tokenizer.save_pretrained(folder)

    # ---------------------------------------------------------------------------------------- which template

    def _choose_template(self, tokenizer: Any) -> None:
        """Another template in place of the tokenizer's own; a named one where its tokens are there."""
        template = self._chosen.template
        if template == OWN:
            if not tokenizer.chat_template:
                raise BadInput(f"{self.name}: its tokenizer has no chat template", how_to_choose(of_tokenizer(tokenizer)))
            return
        if missing := of_tokenizer(tokenizer).lacking.get(template):
            message = f"data.template: {template} needs the special token {missing}, which {self.name} does not have"
            raise BadInput(message, how_to_choose(of_tokenizer(tokenizer)))
        tokenizer.chat_template = self._chosen.source

    def _set_thinking(self, tokenizer: Any) -> None:
        """The template with thinking on or off where nobody says otherwise."""
        if self._chosen.thinking == "auto":
            return
        switch = self._form.thinking_switch
        if not switch:
            message = f"data.thinking: the chat template of {self.name} has no switch for thinking"
            raise BadInput(message, "humigence config set data.thinking auto")
        tokenizer.chat_template = with_thinking(tokenizer.get_chat_template(), switch, self._chosen.thinking)
        self._isolated = self._compile(tokenizer)
        self._form = TemplateForm(self._tried)

    def _compile(self, tokenizer: Any) -> IsolatedTemplate:
        """Never by transformers itself: folding its constants can take for ever."""
        try:
            return IsolatedTemplate(tokenizer.get_chat_template(), tokenizer.special_tokens_map)
        except (Refused, ValueError, TypeError) as error:
            message = f"{self.name}: its chat template can't be used: {str(error)[:200] or type(error).__name__}"
            raise BadInput(message, how_to_choose(of_tokenizer(tokenizer))) from error

    # ---------------------------------------------------------------------------------------------- rendering

    def _prepared(self, conversation: Conversation) -> Conversation:
        return prepared(conversation, self._splits_thoughts)

    def _splits_thoughts(self) -> bool:
        """Whether a thought in an answer is to be taken out: the template has another place for it, or drops it."""
        return bool(self._form.thought_key) or self._form.drops_thoughts

    def _render_all(self, conversation: Conversation, wanted: Sequence[tuple[int, bool]]) -> list[Marked]:
        """Renderings of beginnings of the conversation: how many messages, and whether an answer follows."""
        texts = self._filled_in(conversation, wanted) if conversation.is_plain else {}
        asked = [each for each in dict.fromkeys(wanted) if each not in texts]
        if asked:
            messages = self._form.with_ids(conversation)
            written = [self._form.written(message, self._special.hide) for message in messages]
            given = hidden(conversation.arguments, self._special.hide)
            if conversation.tools:
                given["tools"] = hidden(conversation.tools, self._special.hide)
            texts |= zip(asked, self._asked(written, asked, given), strict=True)
        return [self._special.mark(texts[each]) for each in wanted]

    def _filled_in(self, conversation: Conversation, wanted: Sequence[tuple[int, bool]]) -> dict[tuple[int, bool], str]:
        """Those of `wanted` that are sure without asking the template."""
        roles = tuple([message["role"] for message in conversation.messages])
        texts = [self._special.hide(message["content"]) for message in conversation.messages]
        known = ((each, self._skeletons.find(roles[: each[0]], each[1])) for each in wanted)
        return {each: found.filled(texts) for each, found in known if found is not None and found.holds(texts)}

    def _asked(self, written: Messages, wanted: Sequence[tuple[int, bool]], given: Mapping[str, Any]) -> list[str]:
        """Renderings as transformers gives them, within bounds."""
        if self._out_of_bounds >= _MOST_OUT_OF_BOUNDS:
            raise BadInput("the chat template took too long or made too much for earlier rows, and is not tried again")
        try:
            found = self._isolated.render_all(written, wanted, given)
            if refusal := next((each for each in found if isinstance(each, Refused)), None):
                raise refusal
        except Refused as error:
            self._out_of_bounds += isinstance(error, OutOfBounds)
            raise BadInput(f"the chat template refuses it: {error}") from error
        return [each for each in found if isinstance(each, str)]

    def _rendered(self, roles: Sequence[str], contents: Sequence[str], answer: bool) -> str:
        """The rendering of plain messages."""
        return self._asked(self._plain(roles, contents), [(len(roles), answer)], {})[0]

    def _traced(self, roles: Sequence[str], stand_ins: Sequence[str], answer: bool) -> dict[str, Any]:
        return self._isolated.trace(self._plain(roles, stand_ins), stand_ins, answer)

    def _plain(self, roles: Sequence[str], contents: Sequence[str]) -> list[dict[str, Any]]:
        messages = (Message(role=role, content=content) for role, content in zip(roles, contents, strict=True))
        return [self._form.written(message, str) for message in messages]

    def _tried(self, messages: Sequence[Mapping[str, Any]], answer: bool, given: Mapping[str, Any]) -> str | None:
        try:
            return self._isolated.render(messages, answer, given)
        except Refused:
            return None

    def _found_outline(self, roles: tuple[str, ...]) -> Outline | None:
        return outline(roles, self._skeletons.find, self._special, self._endings, self._closed)

    def _closed(self, end: Marked, with_call: bool) -> Marked:
        """`end` with the token that ends an answer, where the template writes it before the next turn only."""
        token = self._terminators.get(with_call)
        return self._special.found_in(end.text + self._special.marked_name(token)) if token else end

    def _missing(self, conversation: Conversation, rendered: Marked, answer: bool) -> BadInput | None:
        """The reason where a message is left out; a switch of thinking is not where it makes a difference."""
        messages = conversation.messages
        try:
            obeyed = all_there(messages, rendered.text)
        except BadInput as error:
            return error
        for number in obeyed:
            without = Message(role=messages[number]["role"], content=without_switches(messages[number]["content"]) or " ")
            others = Conversation(
                (*messages[:number], without, *messages[number + 1 :]), conversation.tools, conversation.arguments
            )
            (compared,) = self._render_all(others, [(len(messages), answer)])
            if compared.text == rendered.text:
                return left_out(messages[number])
        return None

    def _find_endings(self, named: frozenset[int]) -> None:
        """How answers end: what the model's files name, and the token of the next turn where only that ends one."""
        stops = self._special.tokens_of(named)
        self._endings = Endings(stops, self._form.drops_thoughts)
        (end,) = self._render_all(Conversation(_PROBE), [(len(_PROBE), False)])
        said = end.text.rfind(_PROBE[1]["content"])
        if said < 0 or any(start > said for start in end.starts):
            return
        for with_call, role in ((False, "user"), (True, "tool")):
            following = self._special.mark(self._form.next_turn(role, with_call) or "")
            if following.starts[:1] == (0,) and (token := self._special.name_at(following.text, 0)) in stops:
                self._terminators[with_call] = token

    def _prompt_opens_the_turn(self) -> None:
        """A template that ignores the generation prompt would have the assistant's header trained as words of the answer."""
        opening, whole, without = self._render_all(Conversation(_PROBE), [(1, True), (2, False), (1, False)])
        before, _, _ = whole.text[len(opening.text) :].partition(_PROBE[1]["content"])
        if before.strip() and opening.text == without.text:
            raise BadInput("it has no generation prompt, so nothing tells where an answer begins (add_generation_prompt)")

    def _probe(self, named: frozenset[int]) -> set[int]:
        """The ids that end an assistant's turn, after checking that marked text gives the ids everybody else gets."""
        try:
            text = self._rendered([each["role"] for each in _PROBE], [each["content"] for each in _PROBE], False)
            self._find_endings(named)
            encoded = self.encode_conversation(_PROBE)
            self._prompt_opens_the_turn()
        except BadInput as error:
            template = self._chosen.template
            which = "its chat template" if template == OWN else f"the chat template {template} (data.template)"
            message = f"{self.name}: can't be trained with {which}: {error.message}"
            raise BadInput(message, how_to_choose(of_tokenizer(self._tokenizer))) from error
        marked = self._special.encode(self._special.mark(text).text)
        if marked != self._tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids:
            raise BadInput(f"{self.name}: its special tokens can't be told from text", "choose another base model")
        ends = {encoded[0].ids[end - 1] for _begin, end in encoded[0].spans}
        if self._endings.stops:
            known = self._endings.stops | self._special.tokens_of({*ends, self._tokenizer.eos_token_id})
            self._endings = replace(self._endings, stops=known)
            self._outline.cache_clear()
        return ends


@lru_cache(maxsize=2)
def _loaded(base: BaseModel, _fingerprint: str, stop_ids: frozenset[int], rows: int) -> ChatTokenizer:
    # Four steps of a run ask for it, and reading one out of a GGUF file takes seconds.
    if base.kind == "gguf":
        return ChatTokenizer(read_gguf(base), base.name, chosen_for(base), stop_ids, rows)
    return ChatTokenizer.from_folder(base.path, base.name, chosen_for(base), rows=rows)
