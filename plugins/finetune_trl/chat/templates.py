"""Chat templates: which one a tokenizer uses, and how messages become text and token ids."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template
from trl import get_training_chat_template

from finetune.errors import BadData, BadOptions, Incompatible, did_you_mean
from finetune_trl.chat.bounds import bounded
from finetune_trl.chat.messages import ASSISTANT, SYSTEM, TOOL, USER, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Encoded = tuple[list[int], list[tuple[int, int]]]
"""Ids, and the characters that each token covers, half-open."""

_CHATML = (
    "BOS{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}END{% endgeneration %}"
    "{% else %}{{ message['content'] }}END{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_PLAIN = (
    "BOS{% for message in messages %}{% if message['role'] == 'assistant' %}{{ 'Assistant:' }}"
    "{% generation %}{{ ' ' + message['content'] }}END{% endgeneration %}{{ '\\n' }}"
    "{% elif message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\\n' }}"
    "{% else %}{{ message['content'] + '\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
BUILT_IN = {"chatml": _CHATML, "plain": _PLAIN}
"""Templates for models that have none; `built_in_template` fills in ``BOS`` and ``END`` for each tokenizer.

`chatml` is OpenAI's Chat Markup Language. `plain` writes names and colons, and no special token but the
end-of-sequence one.
"""
IM_END = "<|im_end|>"
_OPEN, _CLOSE, PROBE = "\ufdd0", "\ufdd1", "\ufdd2"
"""Marks around a control token that stands in a message as text, and a content that no message has. All are Unicode
noncharacters, reserved for the internal use of programs; in the text of a message they are dropped."""


class TemplateRefusal(BadData):
    """A chat template refuses the messages of a row.

    Args:
        problem: What is wrong, as a sentence.
        remedy: What to do, as a sentence.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} {remedy}")
        self.problem, self.remedy = problem, remedy


@dataclass(frozen=True, kw_only=True)
class TemplateInputs:
    """What a chat template gets besides the messages."""

    tools: Sequence[Any] | None = None
    """Definitions of the tools that the model may call."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the template, such as ``enable_thinking``."""


NO_INPUTS = TemplateInputs()


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A dialogue as the template writes it."""

    text: str
    """With marks around control tokens in the text of the messages."""
    spans: list[tuple[int, int]] | None
    """The characters that the assistant writes, half-open; None if the template does not mark them."""


def load_template(option: str | None) -> str | None:
    """Return an option with a path replaced by the text of the file, so that nothing depends on the file later.

    Args:
        option: None for the tokenizer's own template, a name of `BUILT_IN`, the path of a ``.jinja`` file, or a
            template itself.

    Raises:
        BadOptions: It is none of these.
    """
    if option is None or option in BUILT_IN or _is_template(option):
        return option
    path = Path(option).expanduser()
    if not path.is_file():
        raise BadOptions(
            f"preprocessor: chat_template {option!r} is neither a file nor one of {', '.join(BUILT_IN)}."
            f"{did_you_mean(option, BUILT_IN)}"
        )
    return path.read_text(encoding="utf-8")


def set_template(tokenizer: PreTrainedTokenizerBase, option: str | None) -> None:
    """Set the chat template of a tokenizer in place, so that it is saved with the model.

    No token is added to the tokenizer. A token that the template writes and the tokenizer does not know is encoded as
    text.

    Raises:
        BadOptions: Neither the option nor the tokenizer gives a template.
    """
    text = load_template(option)
    if text in BUILT_IN:
        tokenizer.chat_template = built_in_template(str(text), tokenizer)
    elif text is not None:
        tokenizer.chat_template = text
    if not tokenizer.chat_template:
        raise BadOptions(
            "preprocessor: the data are messages, and the tokenizer has no chat template. Set chat_template to a "
            f"built-in one ({', '.join(BUILT_IN)}) or to a .jinja file, such as that of the model's chat version."
        )


def built_in_template(name: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a built-in template, filled in for a tokenizer.

    A turn ends with a token that generation can stop at: ``<|im_end|>`` in `chatml` if the tokenizer has it, else the
    end-of-sequence token. A dialogue begins with the begin-of-sequence token if the tokenizer writes one.

    Raises:
        BadOptions: The tokenizer has no token that could end a turn.
    """
    has_im_end = IM_END in tokenizer.get_added_vocab()
    end = IM_END if name == "chatml" and has_im_end else tokenizer.eos_token
    if end is None:
        raise BadOptions(
            f"preprocessor: chat_template {name!r} ends a turn with the end-of-sequence token, and the tokenizer "
            "has none."
        )
    ids = tokenizer("a").input_ids
    writes_bos = tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]
    end_expression = "{{ '" + IM_END + "' }}" if end == IM_END else "{{ eos_token }}"
    template = BUILT_IN[name].replace("BOS", "{{ bos_token }}" if writes_bos else "")
    return template.replace("END", end_expression)


def has_generation_blocks(template: str) -> bool:
    """Say whether a template marks the assistant's words itself, between ``{% generation %}`` and its end."""
    return bool(re.search(r"\{%-?\s*generation\s*-?%\}", template))


def training_template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return TRL's variant of the tokenizer's template, which marks the assistant's words; None if it has none."""
    template = tokenizer.chat_template
    if isinstance(template, str) and has_generation_blocks(template):
        return None
    try:
        return get_training_chat_template(tokenizer)
    except ValueError:  # TRL does not know the template
        return None


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    inputs: TemplateInputs = NO_INPUTS,
    add_generation_prompt: bool = False,
) -> str:
    """Return messages as the template writes them, with marks around control tokens in the text of the messages.

    Give the text to `encode`, which removes the marks.

    Raises:
        TemplateRefusal: The template refuses the messages.
    """
    marked = _marked_messages(tokenizer, messages)
    return _render(tokenizer, marked, inputs, add_generation_prompt=add_generation_prompt).text


def render_dialogue(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    inputs: TemplateInputs = NO_INPUTS,
    training: str | None = None,
) -> Rendered:
    """Return the text of `render`, with what the assistant writes, if the template marks it.

    The text is always the model's own. A training template of TRL gives the marks where it writes the same text, or the
    same text with further control tokens at its end, which end the last turn.

    Args:
        tokenizer: Holds the template.
        messages: The dialogue.
        inputs: What else the template gets.
        training: What `training_template` returned.

    Raises:
        TemplateRefusal: The template refuses the messages.
    """
    marked = _marked_messages(tokenizer, messages)
    rendered = _render(tokenizer, marked, inputs)
    if training is None or rendered.spans is not None:
        return rendered
    try:
        variant = _render(tokenizer, marked, inputs, template=training)
    except BadData:
        return rendered
    if not variant.text.startswith(rendered.text):
        return rendered
    rest = variant.text[len(rendered.text) :]
    for token in control_tokens(tokenizer):
        rest = rest.replace(token, "")
    return rendered if rest.strip() else variant


def render_probed(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], position: int, *, inputs: TemplateInputs
) -> str:
    """Return the text of `render` with the content of one message, and its tool calls, replaced by `PROBE`.

    Raises:
        TemplateRefusal: The template refuses the messages.
    """
    marked = _marked_messages(tokenizer, messages)
    message = marked[position]
    if message["content"] or not message.get("tool_calls"):
        message["content"] = PROBE
    if message.get("tool_calls"):
        message["tool_calls"] = [{"type": "function", "function": {"name": PROBE, "arguments": {}}}]
    return _render(tokenizer, marked, inputs).text


def render_changed(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    position: int,
    change: Mapping[str, Any],
    *,
    inputs: TemplateInputs,
) -> str:
    """Return the text of `render` with other values in one message, which may hold `PROBE`.

    Raises:
        TemplateRefusal: The template refuses the messages.
    """
    marked = _marked_messages(tokenizer, messages)
    marked[position] |= change
    return _render(tokenizer, marked, inputs).text


def _render(
    tokenizer: PreTrainedTokenizerBase,
    marked: list[dict[str, Any]],
    inputs: TemplateInputs,
    *,
    add_generation_prompt: bool = False,
    template: str | None = None,
) -> Rendered:
    """Return messages as a template writes them; None is the tokenizer's own template."""
    tools: Any = inputs.tools
    if template is None:
        template = tokenizer.get_chat_template(tools=tools)
    has_blocks = has_generation_blocks(template)
    variables: dict[str, Any] = {**tokenizer.special_tokens_map, **inputs.options}
    options: dict[str, Any] = {
        "tools": tools,
        "chat_template": template,
        "add_generation_prompt": add_generation_prompt,
        "return_assistant_tokens_mask": has_blocks,
        **variables,
    }
    try:
        texts, spans = _write(_adapted(marked, template), options)
        return Rendered(text=texts[0], spans=list(spans[0]) if has_blocks else None)
    except _TEMPLATE_ERRORS as error:
        why = str(error).rstrip(".!")
    # Not within `except`: the error holds the variables of the template, which can be gigabytes.
    roles = ", ".join(str(message.get("role")) for message in marked)
    remedy = _remedy(tokenizer, marked, inputs, template)
    raise TemplateRefusal(f"the chat template refuses the roles {roles}: {why}.", remedy)


_TEMPLATE_ERRORS = (
    TemplateError, TypeError, AttributeError, KeyError, IndexError, ValueError, OverflowError, RecursionError,
    MemoryError, TimeoutError,
)  # fmt: skip


def _write(messages: list[dict[str, Any]], options: Mapping[str, Any]) -> Any:
    """Return the texts and the marked characters of one dialogue."""
    with bounded(str(options["chat_template"])):
        try:
            return render_jinja_template(conversations=[messages], **options)
        except TypeError:  # DeepSeek's template joins arguments as text
            return render_jinja_template(conversations=[_with_json_arguments(messages)], **options)


def _remedy(
    tokenizer: PreTrainedTokenizerBase, marked: list[dict[str, Any]], inputs: TemplateInputs, template: str
) -> str:
    """Return what to do about messages that a template refuses: what it accepts, tried out."""
    if any(message["role"] == TOOL or message.get("tool_calls") for message in marked):
        return (
            "Set preprocessor.chat_template to a template that writes calls of tools and their results, or drop the "
            "rows with tools."
        )
    if marked[0]["role"] == SYSTEM and len(marked) > 1:
        try:
            _render(tokenizer, marked[1:], inputs, template=template)
        except BadData:
            return _CHANGE
        return (
            "It accepts them without the system message: put its text at the beginning of the first message of the "
            "user, or set another template (preprocessor.chat_template)."
        )
    return _CHANGE


_CHANGE = "Change the data, or the template (preprocessor.chat_template)."


@dataclass(frozen=True, kw_only=True)
class _Habits:
    """How a template reads messages."""

    reads_parts: bool
    """Whether it reads content as a list of parts alone, as the templates of some models of images do."""
    drops_calls: bool
    """Whether it leaves out calls of tools."""
    null_content: bool
    """Whether it writes a call only if the content of the message is null, as DeepSeek R1 does."""


@lru_cache(maxsize=128)
def _habits(template: str) -> _Habits:
    """Find out how a template reads messages, by what it writes of a dialogue that no one has."""

    def writes(*messages: dict[str, Any]) -> bool | None:
        options = {"tools": None, "chat_template": template, "add_generation_prompt": False}
        tokens = {"bos_token": "", "eos_token": "", "pad_token": "", "unk_token": ""}
        try:
            texts, _ = _write(list(messages), {**options, **tokens})
        except _TEMPLATE_ERRORS:
            return None
        return PROBE in texts[0]

    probed = {"role": USER, "content": PROBE}
    reads_parts = not writes(probed) and bool(writes({**probed, "content": _parts(PROBE)}))
    asked = {"role": USER, "content": _parts("Fog") if reads_parts else "Fog"}
    call = {"id": "000000000", "type": "function", "function": {"name": PROBE, "arguments": {}}}
    called = {"role": ASSISTANT, "content": _parts("") if reads_parts else "", "tool_calls": [call]}
    with_text = writes(asked, called)
    null_content = not with_text and bool(writes(asked, {**called, "content": None}))
    drops_calls = with_text is False and not null_content  # where it refuses the probe, it can still write other calls
    return _Habits(reads_parts=reads_parts, drops_calls=drops_calls, null_content=null_content)


def _parts(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


def _adapted(messages: list[dict[str, Any]], template: str) -> list[dict[str, Any]]:
    """Return messages in the form in which the template reads them.

    Raises:
        ValueError: A message calls a tool, and the template leaves calls out.
    """
    habits = _habits(template)
    adapted: list[dict[str, Any]] = []
    for message in messages:
        content: Any = message["content"]
        if message.get("tool_calls"):
            if habits.drops_calls:
                raise ValueError("it leaves out tool_calls")
            if habits.null_content and not content:
                content = None
        if habits.reads_parts and isinstance(content, str):
            content = _parts(content)
        adapted.append({**message, "content": content})
    return adapted


def _with_json_arguments(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return messages with the arguments of tool calls as JSON text."""
    changed: list[dict[str, Any]] = []
    for message in messages:
        calls = []
        for call in message.get("tool_calls") or ():
            arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False)
            calls.append({**call, "function": {**call["function"], "arguments": arguments}})
        changed.append({**message, "tool_calls": calls} if calls else dict(message))
    return changed


def _marked_messages(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return messages with marks around control tokens in their text.

    In what the assistant says, tokens that are not special stay as they are: ``<think>`` is written by the model.
    """
    tokens = _tokens(tokenizer)
    marked: list[dict[str, Any]] = []
    for message in messages:
        pattern = tokens.special_pattern if message["role"] == ASSISTANT else tokens.control_pattern
        marked.append({"content": "", **_mark_all(pattern, message)})
    return marked


def _mark_all(control: re.Pattern[str], value: Any) -> Any:
    """Return a value with marks around control tokens in every text that it holds."""
    if isinstance(value, str):
        return _mark_control(control, value)
    if isinstance(value, Mapping):
        return {key: _mark_all(control, inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_mark_all(control, inner) for inner in value]
    return value


def rfind_unmarked(text: str, token: str, start: int, stop: int) -> int:
    """Return the last place of a control token in a part of a rendered text, where it is no text of a message; or -1.

    >>> rfind_unmarked("Aye.</s>\ufdd0</s>\ufdd1", "</s>", 0, 14)
    4
    """
    place = text.rfind(token, start, stop)
    while place > 0 and text[place - 1] == _OPEN:
        place = text.rfind(token, start, place)
    return place


@dataclass(frozen=True, kw_only=True)
class _Tokens:
    """The control tokens of a tokenizer with its template."""

    control: tuple[str, ...]
    special: tuple[str, ...]

    @cached_property
    def control_pattern(self) -> re.Pattern[str]:
        return _any_of(self.control)

    @cached_property
    def special_pattern(self) -> re.Pattern[str]:
        return _any_of(self.special)


_KNOWN_TOKENS: WeakKeyDictionary[Any, tuple[Any, _Tokens]] = WeakKeyDictionary()
"""Tokenizer → the state in which its tokens were listed, and the tokens: transformers builds the list of added tokens
again for each call, which takes longer than a chat with some thousands of them."""


def _tokens(tokenizer: PreTrainedTokenizerBase) -> _Tokens:
    template = str(tokenizer.chat_template or "")
    state = (template, tuple(tokenizer.all_special_tokens), len(tokenizer))
    known = _KNOWN_TOKENS.get(tokenizer)
    if known is None or known[0] != state:
        control, special = [], []
        for token in tokenizer.added_tokens_decoder.values():
            if token.special:
                special.append(token.content)
            if token.special or (token.content.strip() and token.content in template):
                control.append(token.content)
        known = state, _Tokens(control=tuple(control), special=tuple(special))
        _KNOWN_TOKENS[tokenizer] = known
    return known[1]


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Return the tokens that only a template may write: special tokens, and added ones that the template names."""
    return _tokens(tokenizer).control


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Return the tokens that the tokenizer declares special."""
    return _tokens(tokenizer).special


def without_marks(text: str) -> str:
    """Return a rendered text without the marks around control tokens."""
    return text.replace(_OPEN, "").replace(_CLOSE, "")


def has_marks(text: str) -> bool:
    """Say whether a rendered text holds a control token that stood in a message."""
    return _OPEN in text


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[Encoded]:
    """Return the ids of rendered texts, and the characters that each token covers.

    Text between marks never becomes a control token. No special token is added.

    Raises:
        BadData: The tokenizer makes a control token of text even with split_special_tokens.
        Incompatible: The tokenizer keeps no offsets.
    """
    if not tokenizer.is_fast:
        raise Incompatible(
            f"the tokenizer ({type(tokenizer).__name__}) does not return the characters that a token covers, so the "
            "trained tokens cannot be found. Use a fast tokenizer, which is built on `tokenizers`."
        )
    unmarked = [position for position, text in enumerate(texts) if _OPEN not in text and _CLOSE not in text]
    encoded: dict[int, Encoded] = {}
    if unmarked:  # in one call, which is many times faster than one by one
        batch = tokenizer(
            [texts[position] for position in unmarked],
            add_special_tokens=False,
            return_offsets_mapping=True,
            verbose=False,
        )
        for place, position in enumerate(unmarked):
            encoded[position] = batch["input_ids"][place], batch["offset_mapping"][place]
    for position, text in enumerate(texts):
        if position not in encoded:
            encoded[position] = _encode_marked(tokenizer, text)
    return [encoded[position] for position in range(len(texts))]


def encode_messages(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    inputs: TemplateInputs = NO_INPUTS,
    add_generation_prompt: bool = False,
) -> list[int]:
    """Return the ids of messages, as the template writes them."""
    text = render(tokenizer, messages, inputs=inputs, add_generation_prompt=add_generation_prompt)
    return encode(tokenizer, [text])[0][0]


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the token that ends a turn of the assistant, or None where the template writes none.

    >>> from finetune.testing.tokenizers import tokenizer
    >>> words = tokenizer("llama")
    >>> set_template(words, "plain")
    >>> words.convert_ids_to_tokens(end_of_turn(words))
    '</s>'
    """
    return next(iter(end_ids(tokenizer)), None)


def end_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids of `ends_of_turn`."""
    ids: Any = tokenizer.convert_tokens_to_ids(list(ends_of_turn(tokenizer)))
    return list(ids)


def ends_of_turn(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Return the tokens that end a turn of the assistant: the last turn, an earlier one, and one that calls a tool.

    Most templates write the same token in all three places. GPT-OSS writes three.
    """
    answer, name = "Aye", "fog_signal"
    asked: Message = {"role": USER, "content": "Fog"}
    said: Message = {"role": ASSISTANT, "content": answer}
    call = {"type": "function", "function": {"name": name, "arguments": {}}}
    called: Message = {"role": ASSISTANT, "content": "", "tool_calls": [call]}
    ends: list[str] = []
    for dialogue in ([asked, said], [asked, said, asked], [asked, called]):
        try:
            text = render(tokenizer, dialogue)
        except BadData:
            continue
        calls = dialogue[-1] is called
        if not calls:
            ends += _tokens_in(tokenizer, text.rpartition(answer)[2], control_tokens(tokenizer))[:1]
        elif name in text:  # a call ends with tokens of its own, such as </tool_call>, which are not special
            ends += _tokens_in(tokenizer, text.rpartition(name)[2], special_tokens(tokenizer))[-1:]
    return tuple(dict.fromkeys(ends))


def _tokens_in(tokenizer: PreTrainedTokenizerBase, text: str, wanted: Sequence[str]) -> list[str]:
    """Return the tokens of a text that are among the wanted ones, in order."""
    ids = encode(tokenizer, [text])[0][0] if text else []
    tokens = [str(token) for token in tokenizer.convert_ids_to_tokens(ids)]
    return [token for token in tokens if token in wanted]


def _is_template(option: str) -> bool:
    return "{{" in option or "{%" in option


def _any_of(tokens: Sequence[str]) -> re.Pattern[str]:
    """Return a pattern that finds any of some tokens, the longest first; none of them if there are none."""
    longest_first = sorted(filter(None, tokens), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _mark_control(control: re.Pattern[str], text: str) -> str:
    for mark in (_OPEN, _CLOSE, PROBE):
        text = text.replace(mark, "")
    return control.sub(lambda match: f"{_OPEN}{match[0]}{_CLOSE}", text)


_MARKS = re.compile(f"{_OPEN}([^{_OPEN}{_CLOSE}]*){_CLOSE}|[{_OPEN}{_CLOSE}]")


def _encode_marked(tokenizer: PreTrainedTokenizerBase, text: str) -> Encoded:
    """Encode a text with marks, piece by piece."""
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []

    def add(start: int, piece: str, *, as_text: bool) -> None:
        if piece:
            more, spans = _encode_piece(tokenizer, piece, as_text=as_text, first=not ids)
            ids.extend(more)
            offsets.extend((start + begin, start + end) for begin, end in spans)

    start = 0
    for match in _MARKS.finditer(text):
        add(start, text[start : match.start()], as_text=False)
        if match[1]:
            add(match.start(1), match[1], as_text=True)
        start = match.end()
    add(start, text[start:], as_text=False)
    return ids, offsets


def _encode_piece(tokenizer: PreTrainedTokenizerBase, piece: str, *, as_text: bool, first: bool) -> Encoded:
    """Encode one piece of a text.

    A later piece is encoded after a line break, whose tokens are removed again: SentencePiece would put a space before
    a piece that stands alone.
    """
    options: Any = {"add_special_tokens": False, "return_offsets_mapping": True, "split_special_tokens": as_text}
    lead = "" if first else "\n"
    lead_ids = tokenizer(lead, add_special_tokens=False)["input_ids"] if lead else []
    encoded = tokenizer(lead + piece, **options)
    if encoded["input_ids"][: len(lead_ids)] != lead_ids:  # the line break merged with the piece
        lead, lead_ids = "", []
        encoded = tokenizer(piece, **options)
    skip = len(lead_ids)
    ids = encoded["input_ids"][skip:]
    if as_text and tokenizer.convert_tokens_to_ids(piece) in ids:
        raise TemplateRefusal(
            f"a message holds {piece!r}, and the tokenizer makes a control token of it.", "Remove it."
        )
    offsets = []
    for begin, end in encoded["offset_mapping"][skip:]:
        offsets.append((max(begin - len(lead), 0), end - len(lead)))
    return ids, offsets
