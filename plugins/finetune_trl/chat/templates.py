"""Chat templates: which one a tokenizer uses, and what it makes of messages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from finetune.errors import BadData, BadOptions, Incompatible, did_you_mean
from finetune_trl.chat.messages import ASSISTANT, USER, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Encoded = tuple[list[int], list[tuple[int, int]]]
"""Ids, and the characters that each stands for, half-open."""

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
OURS = {"chatml": _CHATML, "plain": _PLAIN}
"""Templates for models that bring none; ``BOS`` and ``END`` are filled in for each tokenizer by `ours`.

`chatml` is OpenAI's Chat Markup Language; `plain` has names and colons, and no token but the end-of-sequence one.
"""
IM_END = "<|im_end|>"
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
"""Marks round a control token that somebody wrote as text. Unicode reserves these two for such use inside a program;
where somebody writes them they are dropped."""


def load(option: str | None) -> str | None:
    """Return an option with a path replaced by what the file says, so that nothing depends on the file later.

    Args:
        option: None for the tokenizer's own, a name of `OURS`, the path of a ``.jinja`` file, or a template itself.

    Raises:
        BadOptions: It is none of these.
    """
    if option is None or option in OURS or _is_template(option):
        return option
    path = Path(option).expanduser()
    if not path.is_file():
        raise BadOptions(
            f"preprocessor: chat_template {option!r} is neither a file nor one of {', '.join(OURS)}."
            f"{did_you_mean(option, OURS)}"
        )
    return path.read_text(encoding="utf-8")


def ensure(tokenizer: PreTrainedTokenizerBase, option: str | None) -> None:
    """Give a tokenizer the chat template of an option, in place, so that it is saved with the model.

    No token is ever added to a tokenizer: what a template writes and the tokenizer does not know is encoded as text.

    Raises:
        BadOptions: There is no template, or it is none.
    """
    text = load(option)
    if text in OURS:
        tokenizer.chat_template = ours(str(text), tokenizer)
    elif text is not None:
        tokenizer.chat_template = text
    if not tokenizer.chat_template:
        raise BadOptions(
            "preprocessor: the data are messages, and the tokenizer has no chat template to write them by. Set "
            f"chat_template to one of ours ({', '.join(OURS)}), or to a .jinja file: the one of the model's chat "
            "version, where there is one."
        )


def ours(name: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return one of our templates, for a tokenizer.

    A turn ends with ``<|im_end|>`` in `chatml` where that is a token, else with the end-of-sequence token: something
    that generation can stop at. It begins with the begin-of-sequence token where the tokenizer writes one.

    Raises:
        BadOptions: The tokenizer has no token that could end a turn.
    """
    known = tokenizer.get_added_vocab()
    end = IM_END if name == "chatml" and IM_END in known else tokenizer.eos_token
    if end is None:
        raise BadOptions(
            f"preprocessor: chat_template {name!r} ends a turn with the end-of-sequence token, and the tokenizer "
            "has none."
        )
    ids = tokenizer("a").input_ids
    begins = tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]
    written = "{{ '" + IM_END + "' }}" if end == IM_END else "{{ eos_token }}"
    return OURS[name].replace("BOS", "{{ bos_token }}" if begins else "").replace("END", written)


def marks_answers(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Say whether the template itself says what the assistant generates, between ``{% generation %}`` and its end."""
    return bool(re.search(r"\{%-?\s*generation\s*-?%\}", tokenizer.get_chat_template()))


def render(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, add_generation_prompt: bool = False
) -> str:
    """Return messages as the template writes them; control tokens in what people say stand between marks of ours.

    `encode` heeds the marks: it is what turns the text into ids.

    Raises:
        BadData: The template refuses the messages.
    """
    return render_with_answers(tokenizer, messages, add_generation_prompt=add_generation_prompt)[0]


def render_with_answers(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, add_generation_prompt: bool = False
) -> tuple[str, list[tuple[int, int]]]:
    """Return what `render` does, and which of its characters stand between ``{% generation %}`` and its end.

    Raises:
        BadData: The template refuses the messages.
    """
    control = control_tokens(tokenizer)
    marked = [
        {key: _marked(control, part) if key == "content" else part for key, part in message.items()}
        for message in messages
    ]
    template = tokenizer.get_chat_template()
    try:
        texts, spans = render_jinja_template(
            conversations=[marked],
            chat_template=template,
            add_generation_prompt=add_generation_prompt,
            return_assistant_tokens_mask=marks_answers(tokenizer),
            **tokenizer.special_tokens_map,
        )
    except (TemplateError, TypeError) as error:
        raise BadData(
            f"the chat template refuses messages of the roles {[message.get('role') for message in messages]}: {error} "
            "Change the data, or the template (preprocessor.chat_template)."
        ) from error
    return texts[0], spans[0] if spans else []


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Return the tokens that only a template may write: special ones, and added ones that the template names."""
    template = str(tokenizer.chat_template or "")
    return tuple(
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if token.special or (token.content.strip() and token.content in template)
    )


def holds_marks(text: str) -> bool:
    """Say whether a rendered text holds a control token that somebody said."""
    return _OPEN in text


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[Encoded]:
    """Return the ids of rendered texts, and which characters each token stands for.

    What stands between marks is encoded as text, and never becomes a control token. No special token is added.

    Raises:
        BadData: The tokenizer makes a control token of plain text, whatever it is told.
        Incompatible: The tokenizer keeps no offsets.
    """
    if not tokenizer.is_fast:
        raise Incompatible(
            f"the tokenizer ({type(tokenizer).__name__}) does not say which characters a token stands for, so what is "
            "trained cannot be told from what is not. Use one that is built on `tokenizers`."
        )
    clean = [position for position, text in enumerate(texts) if _OPEN not in text and _CLOSE not in text]
    made: dict[int, Encoded] = {}
    if clean:
        whole = tokenizer(
            [texts[position] for position in clean],
            add_special_tokens=False,
            return_offsets_mapping=True,
            verbose=False,
        )
        made = dict(zip(clean, zip(whole["input_ids"], whole["offset_mapping"], strict=True), strict=True))
    return [made[position] if position in made else _pieces(tokenizer, text) for position, text in enumerate(texts)]


def ids_of(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, add_generation_prompt: bool = False
) -> list[int]:
    """Return the ids of messages, as the template writes them."""
    return encode(tokenizer, [render(tokenizer, messages, add_generation_prompt=add_generation_prompt)])[0][0]


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the token that ends a turn of the assistant, or None where the template writes none.

    >>> from finetune.testing.tokenizers import tokenizer
    >>> words = tokenizer("llama")
    >>> ensure(words, "plain")
    >>> words.convert_ids_to_tokens(end_of_turn(words))
    '</s>'
    """
    said = "Aye"
    text = render(tokenizer, [{"role": USER, "content": "Fog"}, {"role": ASSISTANT, "content": said}])
    after = text.rpartition(said)[2]
    special = {tokenizer.convert_tokens_to_ids(token) for token in control_tokens(tokenizer)}
    ids = encode(tokenizer, [after])[0][0] if after else []
    return next((token for token in ids if token in special), None)


def _is_template(option: str) -> bool:
    return "{{" in option or "{%" in option


def _marked(control: Sequence[str], said: str) -> str:
    said = said.replace(_OPEN, "").replace(_CLOSE, "")
    found = [token for token in control if token in said]
    if not found:
        return said
    longest_first = "|".join(re.escape(token) for token in sorted(found, key=len, reverse=True))
    return re.sub(longest_first, lambda match: f"{_OPEN}{match[0]}{_CLOSE}", said)


def _pieces(tokenizer: PreTrainedTokenizerBase, text: str) -> Encoded:
    """Encode a text with marks, piece by piece."""
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    start = 0
    for match in [*re.finditer(f"{_OPEN}([^{_OPEN}{_CLOSE}]*){_CLOSE}|[{_OPEN}{_CLOSE}]", text), None]:
        stop = match.start() if match else len(text)
        parts = [(start, text[start:stop], False)]
        if match and match[1]:
            parts.append((match.start(1), match[1], True))
        for place, piece, as_text in parts:
            if piece:
                more, where = _piece(tokenizer, piece, as_text=as_text, first=not ids)
                ids += more
                spans += [(place + begin, place + end) for begin, end in where]
        start = match.end() if match else stop
    return ids, spans


def _piece(tokenizer: PreTrainedTokenizerBase, piece: str, *, as_text: bool, first: bool) -> Encoded:
    """Encode one piece of a text; a later one after a line break, or SentencePiece would put a space before it."""
    options = {"add_special_tokens": False, "return_offsets_mapping": True, "split_special_tokens": as_text}
    lead = "" if first else "\n"
    before = tokenizer(lead, add_special_tokens=False)["input_ids"] if lead else []
    made = tokenizer(lead + piece, **options)
    ids, spans, skip = made["input_ids"], made["offset_mapping"], len(before)
    if ids[:skip] != before:
        lead, skip = "", 0
        made = tokenizer(piece, **options)
        ids, spans = made["input_ids"], made["offset_mapping"]
    if as_text and tokenizer.convert_tokens_to_ids(piece) in ids[skip:]:
        raise BadData(f"{piece!r} stands in a message, and the tokenizer makes a control token of it. Remove it.")
    return ids[skip:], [(max(begin - len(lead), 0), end - len(lead)) for begin, end in spans[skip:]]
