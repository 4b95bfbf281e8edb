"""Prompt texts of other tools, as chat templates of Jinja."""

from __future__ import annotations

import re

ALPACA = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
"""How the prompt of Alpaca begins, for a row without input."""

_QUOTED = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}


def alpaca(style: str = "instruct") -> str | None:
    """Return the prompt of Axolotl's alpaca rows as a chat template; None for a style that has a built-in one.

    The instruction and the input of a row are one message here, so the two are not under headings of their own.

    >>> print(alpaca().splitlines()[5])
    {%- if message.role == 'user' %}{{ "### Instruction:\\n" + message.content + "\\n\\n### Response:\\n" }}
    """
    if style == "instruct":
        return template(ALPACA + "### Instruction:\n{instruction}\n\n### Response:\n", system="{system}\n\n")
    if style == "chat":
        return template(f"SYSTEM: {ALPACA.strip()}\nUSER: {{instruction}}\nASSISTANT:", system="SYSTEM: {system}\n")
    if style == "phi":
        text = f"<|system|>\n{ALPACA.strip()}<|end|>\n<|user|>\n{{instruction}}<|end|>\n<|assistant|>\n"
        return template(text, system="<|system|>\n{system}<|end|>\n")
    return None


def template(prompt: str, *, system: str = "{system}\n") -> str:
    """Return a chat template that writes a prompt text, the answer, and the end-of-sequence token.

    Args:
        prompt: The text of a turn of the user, with ``{instruction}`` for what the user says. What stands before it is
            written once.
        system: The text of a system message, with ``{system}``; it takes the place of the beginning of the prompt.

    >>> print(template("Q: {instruction} A:").splitlines()[4])
    {%- if message.role == 'user' %}{{ "Q: " + message.content + " A:" }}
    """
    before, _, after = prompt.partition("{instruction}")
    begin, _, end = system.partition("{system}")
    head, turn = _split_head(before)
    told = _sum(_text(begin), "messages[0].content", _text(end))
    lines = ["{{- bos_token or '' }}", f"{{%- if messages[0].role == 'system' %}}{told}"]
    if head:
        lines.append("{%- else %}" + _sum(_text(head)))
    lines += [
        "{%- endif %}",
        "{%- for message in messages %}",
        "{%- if message.role == 'user' %}" + _sum(_text(turn), "message.content", _text(after)),
        "{%- elif message.role == 'assistant' %}{{ message.content + eos_token }}",
        "{%- endif %}",
        "{%- endfor %}",
    ]
    return "\n".join(lines)


def _split_head(before: str) -> tuple[str, str]:
    """Return what is written once, and what begins each turn: its last lines, which hold a heading or a mark.

    >>> _split_head("Below is a task.\\n\\n### Instruction:\\n")
    ('Below is a task.\\n\\n', '### Instruction:\\n')
    """
    mark = re.search(r"(###[^\n]*\n|USER: |<\|user\|>\n|\[INST\] ?)$", before)
    return (before[: mark.start()], before[mark.start() :]) if mark else ("", before)


def _text(text: str) -> str:
    """Return a text as Jinja writes it, in quotes; nothing for an empty one."""
    return '"' + "".join(_QUOTED.get(character, character) for character in text) + '"' if text else ""


def _sum(*parts: str) -> str:
    return "{{ " + " + ".join(filter(None, parts)) + " }}"
