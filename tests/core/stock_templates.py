"""The page of chat templates: what `sft` trains with each template that TRL ships.

``python tests/core/stock_templates.py`` writes `docs/reference/chat-templates.md`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import trl
from compatibility import FAILS, TRAINS, as_written, table

from finetune.errors import BadData
from finetune.interfaces import IGNORE_INDEX
from finetune.testing.tokenizers import tokenizer
from finetune_trl.sft.preprocessor import SFTPreprocessor

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "chat-templates.md"
FOLDER = Path(trl.__file__).parent / "chat_templates"
TEMPLATES = {file.stem: file for file in sorted(FOLDER.glob("*.jinja")) if not file.stem.endswith("_training")}
NO_DEFINITIONS = "trains, without the definitions of the tools"
Cell = tuple[str, str]
"""A template and a shape of a dialogue."""


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


_FOG = (_user("Is there fog at the quay?"), _assistant("Aye, thick fog."))
_CALL = {"type": "function", "function": {"name": "look_out", "arguments": {"place": "lighthouse"}}}
_TOOL = {
    "type": "function",
    "function": {
        "name": "look_out",
        "description": "Return how far one can see.",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string", "description": "Where to look."}},
            "required": ["place"],
        },
    },
}
_SEEN = {"role": "tool", "name": "look_out", "content": "200 metres"}
_CALLS = [
    {**_CALL, "function": {"name": name, "arguments": {"place": "lighthouse"}}} for name in ("look_out", "listen")
]
SHAPES: Mapping[str, Mapping[str, Any]] = {
    "one turn": {"messages": [*_FOG]},
    "several turns": {"messages": [*_FOG, _user("And at sea?"), _assistant("There it is clear.")]},
    "tools": {
        "messages": [
            _FOG[0],
            _assistant("", tool_calls=[_CALL]),
            _SEEN,
            _FOG[1],
        ],
        "tools": [_TOOL],
    },
    "text and call": {
        "messages": [_FOG[0], _assistant("Let me look.", tool_calls=[_CALL]), _SEEN, _FOG[1]],
        "tools": [_TOOL],
    },
    "two calls": {
        "messages": [
            _FOG[0],
            _assistant("", tool_calls=_CALLS),
            _SEEN,
            {"role": "tool", "name": "listen", "content": "a horn"},
            _FOG[1],
        ],
        "tools": [_TOOL, {**_TOOL, "function": {**_TOOL["function"], "name": "listen"}}],
    },
    "system message": {"messages": [{"role": "system", "content": "Answer in one sentence."}, *_FOG]},
}
_TOKEN = re.compile(r"<[|｜][^<>|｜\s'\"]{1,40}[|｜]>|</?[A-Za-z_]{1,40}>|<\|[a-z_]+>|<[a-z_]+\|>|\[/?[A-Z_]{2,}\]")


def words(template: str) -> Any:
    """Return a tokenizer that knows the tokens that a template writes, as the tokenizer of its model does."""
    made = tokenizer("gpt2")
    made.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    special, plain = [], []
    for token in dict.fromkeys(_TOKEN.findall(template)):
        is_plain = re.fullmatch(r"</?[a-z_]+>", token) and "turn" not in token and "utterance" not in token
        (plain if is_plain else special).append(token)
    made.add_special_tokens({"additional_special_tokens": special})
    made.add_tokens(plain)  # <think> and <tool_call> are no special tokens
    return made


def outcome(name: str, shape: str) -> str:
    """Return `TRAINS`, `NO_DEFINITIONS`, `FAILS` if other words than the assistant's are trained, or the refusal."""
    template = TEMPLATES[name].read_text(encoding="utf-8")
    row = SHAPES[shape]
    made = words(template)
    fitted = SFTPreprocessor(chat_template=template, max_length=100_000).fit([row])
    for finding in fitted.check_with_tokenizer([row], made):
        if finding.level == "row":
            return f"{finding.column}: {finding.message} {finding.fix}"
    try:
        features = fitted.features({column: [value] for column, value in row.items()}, made)
        feature = {column: values[0] for column, values in features.items()}
        counts = {**fitted.counts(features), "features": 1}
        fitted.validate_features([feature], [row], made, counts=counts, split="train")
    except BadData as error:
        return str(error)
    trained = made.decode([label for label in feature["labels"] if label != IGNORE_INDEX])
    for message in row["messages"]:
        said = [message["content"]]
        if message.get("tool_calls"):
            said = [call["function"]["name"] for call in message["tool_calls"]]
            said += ["lighthouse", *filter(None, [message["content"]])]
        if any((text in trained) != (message["role"] == "assistant") for text in said):
            return FAILS
    if "tools" in row and _TOOL["function"]["description"] not in made.decode(feature["input_ids"]):
        return NO_DEFINITIONS
    return TRAINS


def page(outcomes: Mapping[Cell, str]) -> str:
    """Return the whole page."""
    marks = {TRAINS: "✓", NO_DEFINITIONS: "(✓)", FAILS: "**fails**"}
    refusals = list(dict.fromkeys(words for words in outcomes.values() if words not in marks))
    numbers = {words: number for number, words in enumerate(refusals, start=1)}
    marks |= {words: f"[^{number}]" for words, number in numbers.items()}
    rows = [[f"`{name}`", *(marks[outcomes[name, shape]] for shape in SHAPES)] for name in TEMPLATES]
    train = []
    for shape in SHAPES:
        count = sum(outcomes[name, shape] in (TRAINS, NO_DEFINITIONS) for name in TEMPLATES)
        train.append(f"{count} with {shape}")
    parts = [
        HEAD,
        table(["Template", *SHAPES], rows),
        f"Of {len(TEMPLATES)} templates, these train: {', '.join(train)}. Tried with trl {version('trl')}.",
        "## Messages",
        "\n".join(f"[^{number}]: {as_written(words)}" for words, number in numbers.items()),
    ]
    return "\n\n".join(parts) + "\n"


HEAD = """\
---
hide: [toc]
---

# Chat templates

What `sft` trains with each chat template that TRL ships. They are the templates of widely used models. This page is
generated by `python tests/core/stock_templates.py`.

A **✓** means that the row is trained with default options: every answer of the assistant and every call of a tool is in
the loss, nothing of the other roles is, a token that ends the answer is trained, and the model reads the same words
before an answer in training and in prediction. In *text and call*, a turn has text and a call of a tool; in *two
calls*, it has two calls. **(✓)** means the same, and that the template leaves out the definitions in the column
`tools`; describe the tools in a system message.

A **number** leads to the message that refuses the row before the first step."""


def written(text: str) -> dict[Cell, str]:
    """Return the outcomes that a page states."""
    words = dict(re.findall(r"^\[\^(\d+)\]: (.*)$", text, flags=re.MULTILINE))
    known = {"✓": TRAINS, "(✓)": NO_DEFINITIONS, "**fails**": FAILS}
    found: dict[Cell, str] = {}
    for name, *marks in re.findall(r"^\| `(\w+)` \|" + r" (\S+) \|" * len(SHAPES) + "$", text, flags=re.MULTILINE):
        for shape, mark in zip(SHAPES, marks, strict=True):
            found[name, shape] = known[mark] if mark in known else words[mark.strip("[^]")]
    return found


if __name__ == "__main__":
    OUTCOMES = {(name, shape): outcome(name, shape) for name in TEMPLATES for shape in SHAPES}
    PAGE.write_text(page(OUTCOMES), encoding="utf-8")
