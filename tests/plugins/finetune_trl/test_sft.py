"""What is trained is what TRL would train, is what is shown, and every row that goes wrong is counted."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

from finetune.errors import BadData, Incompatible
from finetune.plugins import discover
from finetune.recipe.options import as_options, build
from finetune.testing import check_preprocessor
from finetune.testing.laws import check_finding
from finetune.testing.tokenizers import tokenizer
from finetune_trl.chat import templates
from finetune_trl.chat.rows import PromptCompletion
from finetune_trl.sft.preprocessor import SFTPreprocessor

SAID = [
    "Fog.",
    "The pier, and the quay.",
    "Old Tomás keeps it.",
    "No",
    "£4.50 – Ærø?",
    "🙂👍",
    "tar\nand salt",
    " two  ",
]
TASK = discover().find("tasks", "sft")


def llama3() -> Any:
    """Return a tokenizer that writes a begin token and no end, as Llama 3's does."""
    words = tokenizer("roberta")
    words.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return words


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def said(number: int) -> str:
    return SAID[number % len(SAID)]


MESSAGES = [
    {"messages": [{"role": "system", "content": "Be brief."}] * (n % 2)
     + [turn for k in range(1 + n % 3) for turn in (user(said(n + k)), assistant(said(3 * n + k + 1)))]}
    for n in range(24)
]  # fmt: skip
TEXTS = [{"prompt": f"{said(n)} Is it so?", "completion": f" {said(n + 1)}"} for n in range(24)]
CHATS = [{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in MESSAGES]
PLAIN = [{"text": f"{said(n)} {said(n + 1)}"} for n in range(24)]
WORDS = {"gpt2": tokenizer("gpt2"), "llama3": llama3(), "roberta": tokenizer("roberta")}
FORMS: dict[str, list[dict[str, Any]]] = {"messages": MESSAGES, "texts": TEXTS, "chats": CHATS, "text": PLAIN}


def features(rows: Sequence[dict[str, Any]], words: Any, **options: Any) -> dict[str, list[Any]]:
    preprocessor = SFTPreprocessor(**options).fit(rows)
    return dict(preprocessor.features({name: [row[name] for row in rows] for name in rows[0]}, words))


def runs(labels: Sequence[int], words: Any) -> list[str]:
    """Return the text of each run of trained tokens."""
    found: list[list[int]] = []
    for before, label in zip([-100, *labels], labels, strict=False):
        if label != -100:
            found = [*found, []] if before == -100 else found
            found[-1].append(label)
    return [words.decode(run) for run in found]


# --- the oracle: TRL's own tokenization -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(llama_base: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(llama_base())


def without_marks(name: str, words: Any) -> str:
    """Return a template of ours as most models have theirs: without ``{% generation %}``."""
    return re.sub(r"\{% (end)?generation %\}", "", templates.built_in_template(name, words))


def trls(rows: Sequence[dict[str, Any]], words: Any, model: Any, folder: Path, **options: Any) -> Dataset:
    """Return what TRL makes of rows by itself."""
    arguments = SFTConfig(
        str(folder), bf16=False, activation_checkpointing=False, use_cpu=True, report_to="none", max_length=None,
        **options,
    )  # fmt: skip
    trainer = SFTTrainer(model, arguments, train_dataset=Dataset.from_list(list(rows)), processing_class=words)
    return trainer.train_dataset


@pytest.mark.parametrize("name", list(templates.BUILT_IN))
@pytest.mark.parametrize(
    ("form", "ours", "theirs"),
    [
        ("messages", "assistant", {"assistant_only_loss": True}),
        ("messages", "all", {}),
        ("chats", "completion", {}),
        ("chats", "all", {"completion_only_loss": False}),
        ("texts", "completion", {}),
        ("texts", "all", {"completion_only_loss": False}),
        ("text", "all", {}),
    ],
)
def test_the_trained_tokens_of_every_row_are_those_of_trl(
    form: str, ours: Any, theirs: dict[str, Any], name: str, model: Any, tmp_path: Path
) -> None:
    words = llama3()
    templates.set_template(words, name)
    made = features(FORMS[form], words, loss_on=ours, chat_template=name)
    oracle = trls(FORMS[form], words, model, tmp_path, **theirs)
    assert made["input_ids"] == oracle["input_ids"][:]
    assert made["labels"] == oracle["labels"][:]
    counted = sum(label != -100 for labels in oracle["labels"] for label in labels[1:])
    counts = SFTPreprocessor(form="text").counts(made)
    assert counts["trained_tokens"] == counted and counts["rows_without_trained_tokens"] == 0


SPEECH = st.text(st.characters(exclude_categories=["Cs", "Cn"]), min_size=1) | st.text(" \n\ta.", min_size=1)


@pytest.mark.parametrize("family", ["gpt2", "llama3", "roberta"])
@given(turns=st.lists(st.tuples(SPEECH, SPEECH), min_size=1, max_size=4))
def test_what_is_trained_is_what_the_assistant_said_and_its_end(family: str, turns: list[tuple[str, str]]) -> None:
    words = WORDS[family]
    row = {"messages": [message for asked, answer in turns for message in (user(asked), assistant(answer))]}
    made = features([row], words, chat_template="plain", max_length=100_000)
    assert runs(made["labels"][0], words) == [f" {answer}{words.eos_token}" for _, answer in turns]
    assert made["labels"][0].count(words.eos_token_id) == len(turns)
    assert SFTPreprocessor(form="messages").counts(made)["end_of_turn_outside_loss"] == 0


def test_a_template_that_marks_no_answers_gives_the_same_answers() -> None:
    words = llama3()
    marked = features(MESSAGES, words, chat_template="plain")
    bare = features(MESSAGES, words, chat_template=without_marks("plain", words))
    assert bare["input_ids"] == marked["input_ids"]
    assert bare["labels"] == marked["labels"]


def test_the_last_turn_alone_is_trained_where_the_loss_is_on_completions() -> None:
    words = tokenizer("gpt2")
    row = {"messages": [user("Fog?"), assistant("Aye."), user("Sure?"), assistant("No.")]}
    made = features([row], words, chat_template="plain", loss_on="completion")
    assert words.decode([label for label in made["labels"][0] if label != -100]) == " No.<|endoftext|>\n"


# --- what is shown and counted ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "begin"), [("llama3", "<s>"), ("roberta", "<s>"), ("gpt2", "")])
def test_the_sample_marks_the_trained_tokens(family: str, begin: str) -> None:
    words = llama3() if family == "llama3" else tokenizer(family)
    made = features([{"prompt": "Who keeps it?", "completion": " Old Tomás."}], words)
    feature = {name: values[0] for name, values in made.items()}
    shown = SFTPreprocessor(form="prompt-completion").show(feature, words)
    assert shown == f"{begin}Who keeps it?⟦ Old Tomás.{words.eos_token}⟧", "one end, though RoBERTa's adds its own"
    assert "⟦" not in SFTPreprocessor().show({"input_ids": feature["prompt_ids"]}, words)


def test_several_turns_are_marked_one_by_one() -> None:
    words = llama3()
    row = {"messages": [user("Fog?"), assistant("Aye."), user("Sure?"), assistant("No.")]}
    made = features([row], words, chat_template="plain")
    feature = {name: values[0] for name, values in made.items()}
    assert SFTPreprocessor().show(feature, words) == (
        "<s>User: Fog?\nAssistant:⟦ Aye.</s>⟧\nUser: Sure?\nAssistant:⟦ No.</s>⟧\n"
    )  # fmt: skip


@pytest.mark.parametrize("max_length", [4, 9, 14, 200])
def test_what_max_length_cuts_is_counted(max_length: int) -> None:
    words = llama3()
    whole = features(TEXTS, words)
    cut = features(TEXTS, words, max_length=max_length)
    counts = SFTPreprocessor(form="text").counts(cut)
    assert cut["input_ids"] == [ids[:max_length] for ids in whole["input_ids"]]
    assert counts["tokens_lost"] == sum(max(0, len(ids) - max_length) for ids in whole["input_ids"])
    assert counts["truncated"] == sum(len(ids) > max_length for ids in whole["input_ids"])
    wanted = [[label for label in labels[:max_length] if label != -100] for labels in whole["labels"]]
    assert counts["rows_without_trained_tokens"] == wanted.count([])
    assert counts["trained_tokens"] == sum(map(len, wanted))
    assert cut["prompt_ids"] == whole["prompt_ids"], "a prompt to answer is never cut"


def test_an_end_of_turn_outside_the_loss_is_counted() -> None:
    words = llama3()
    inside = templates.built_in_template("plain", words)
    outside = inside.replace("{{ eos_token }}{% endgeneration %}", "{% endgeneration %}{{ eos_token }}")
    none = inside.replace("{{ eos_token }}", "")
    for template, count in ((inside, 0), (outside, 24), (none, 24)):
        made = features(MESSAGES, words, chat_template=template)
        assert SFTPreprocessor(form="messages").counts(made)["end_of_turn_outside_loss"] == count


def test_a_template_that_rewrites_earlier_turns_is_counted() -> None:
    words = llama3()
    # as Qwen 3 does with what was thought: only the last turn keeps a mark
    rewriting = (
        "{% for m in messages %}{{ m['role'] + ':' }}"
        "{% if loop.last and m['role'] == 'assistant' %}{{ '*' }}{% endif %}"
        "{{ m['content'] + eos_token }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
    )
    made = features(MESSAGES, words, chat_template=rewriting)
    several = sum(len(row["messages"]) > 3 for row in MESSAGES)
    counts = SFTPreprocessor(form="messages").counts(made)
    assert counts["rewritten_turns"] == several
    assert counts["prompt_not_prefix"] == counts["end_of_turn_outside_loss"] == 0
    for row, labels in zip(MESSAGES, made["labels"], strict=True):
        answers = [message["content"] for message in row["messages"] if message["role"] == "assistant"]
        answers[-1] = f"*{answers[-1]}"
        assert runs(labels, words) == [f"{answer}</s>" for answer in answers]


def test_a_prompt_whose_last_token_grows_is_counted_and_split_where_tokens_differ() -> None:
    words = tokenizer("gpt2", ["harbour harbour harbour"], 300)
    rows = [{"prompt": "har", "completion": "bour"}, {"prompt": "har", "completion": " x"}]
    made = features(rows, words)
    assert SFTPreprocessor(form="text").counts(made)["prompt_not_prefix"] == 1
    assert words.decode([label for label in made["labels"][0] if label != -100]) == "harbour<|endoftext|>"


def test_two_begin_tokens_and_control_tokens_are_counted() -> None:
    words = llama3()
    counts = SFTPreprocessor(form="text").counts(
        features([{"text": "<s>Fog."}, {"text": "Fog."}, {"text": "Fog.</s>"}], words)
    )
    assert (counts["double_bos"], counts["control_tokens"]) == (1, 1)
    chats = [
        {"messages": [user("What is </s>?"), assistant("An end.")]},
        {"messages": [user("Fog?"), assistant("Aye.")]},
    ]
    counts = SFTPreprocessor(form="messages").counts(features(chats, words, chat_template="plain"))
    assert (counts["double_bos"], counts["control_tokens"], counts["end_of_turn_outside_loss"]) == (0, 1, 0)


def test_the_end_stays_in_the_loss_where_it_is_the_padding_too() -> None:
    words = tokenizer("gpt2")
    assert words.pad_token_id == words.eos_token_id
    rows = [{"prompt": "Who?", "completion": " Old Tomás and his daughter."}, {"prompt": "Who?", "completion": " I."}]
    preprocessor = SFTPreprocessor().fit(rows)
    made = features(rows, words)
    assert preprocessor.counts(made)["padded_with_eos"] == 2
    lines = [{name: values[k] for name, values in made.items() if name in TASK.features} for k in range(2)]
    batch = preprocessor.collator(words, None)(lines)
    for line, labels, mask in zip(lines, batch["labels"].tolist(), batch["attention_mask"].tolist(), strict=True):
        size = len(line["input_ids"])
        assert labels[size - 1] == words.eos_token_id and set(labels[size:]) <= {-100}
        assert mask == [1] * size + [0] * (len(mask) - size)
    assert batch["prompt_ids"].shape[1] == max(len(line["prompt_ids"]) for line in lines)


def test_padding_is_an_unused_token_where_there_is_one_and_the_end_where_there_is_none() -> None:
    words = llama3()
    words.pad_token = None
    assert (
        SFTPreprocessor(form="text").counts(features(PLAIN, words))["padded_with_eos"] == 0
        and words.pad_token == "<pad>"
    )
    words = tokenizer("gpt2")
    words.pad_token = None
    assert SFTPreprocessor(form="text").counts(features(PLAIN, words))["padded_with_eos"] == 24
    words.pad_token = words.eos_token = None
    with pytest.raises(Incompatible, match="neither a padding nor an end-of-sequence token"):
        features(PLAIN, words)


# --- forms and findings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", list(FORMS))
def test_every_form_obeys_the_laws(form: str) -> None:
    check_preprocessor(SFTPreprocessor(chat_template="plain"), examples=FORMS[form], tokenizer=llama3(), task=TASK)


ALPACA = [{"instruction": "Translate.", "input": "the pier", "output": "la jetée"},
          {"instruction": "Name a ship.", "input": "", "output": "The Elm."}]  # fmt: skip
SHAREGPT = [
    {"conversations": [{"from": "human", "value": "Fog?"}, {"from": "gpt", "value": "Aye."}]},
    {"conversations": [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Rain?"},
                       {"from": "gpt", "value": "No."}]},
]  # fmt: skip


@pytest.mark.parametrize(("converter", "rows"), [("alpaca", ALPACA), ("sharegpt", SHAREGPT)])
def test_converters_obey_the_laws_and_give_what_messages_give(converter: Any, rows: list[dict[str, Any]]) -> None:
    words = llama3()
    options = {"converter": converter, "chat_template": "plain"}
    check_preprocessor(SFTPreprocessor(**options), examples=rows, tokenizer=words, task=TASK)
    by_hand = {
        "alpaca": [{"prompt": [user("Translate.\n\nthe pier")], "completion": [assistant("la jetée")]},
                   {"prompt": [user("Name a ship.")], "completion": [assistant("The Elm.")]}],
        "sharegpt": [{"messages": [user("Fog?"), assistant("Aye.")]},
                     {"messages": [{"role": "system", "content": "Be brief."}, user("Rain?"), assistant("No.")]}],
    }  # fmt: skip
    assert features(rows, words, **options) == features(by_hand[converter], words, chat_template="plain")


def test_a_prompt_alone_becomes_a_message_where_the_data_are_messages() -> None:
    words = llama3()
    fitted = SFTPreprocessor(chat_template="plain").fit(MESSAGES)
    asked = fitted.features({"prompt": ["Fog?"]}, words)
    assert words.decode(asked["input_ids"][0]) == "<s>User: Fog?\nAssistant:"
    assert asked["input_ids"] == fitted.features({"messages": [[user("Fog?")]]}, words)["input_ids"]
    assert "labels" not in asked and not list(fitted.check([{"prompt": "Fog?"}]))
    shared = SFTPreprocessor(chat_template="plain", converter="sharegpt").fit(SHAREGPT)
    assert shared.features({"prompt": ["Fog?"]}, words) == asked and not list(shared.check([{"prompt": "Fog?"}]))
    plain = SFTPreprocessor().fit(TEXTS).features({"prompt": ["Fog?"]}, words)
    assert words.decode(plain["input_ids"][0]) == "<s>Fog?"


def found(rows: Sequence[dict[str, Any]], **options: Any) -> list[tuple[str, int | None, str | None]]:
    findings = list(SFTPreprocessor(**options).fit(rows).check(rows))
    for finding in findings:
        check_finding(finding)
    return [(finding.code, finding.row, finding.column) for finding in findings]


@pytest.mark.parametrize(
    ("row", "code", "column"),
    [
        ({"prompt": None, "completion": " I."}, "prompt-missing", "prompt"),
        ({"prompt": 4, "completion": " I."}, "neither-text-nor-messages", "prompt"),
        ({"prompt": "\ud800", "completion": " I."}, "prompt-surrogate", "prompt"),
        ({"prompt": " ", "completion": "I."}, "prompt-empty", "prompt"),
        ({"prompt": "Who?", "completion": None}, "completion-missing", "completion"),
        ({"prompt": "Who?", "completion": "\n"}, "completion-empty", "completion"),
        ({"prompt": "Who?", "completion": [assistant("I.")]}, "mixed-forms", "prompt"),
        ({"prompt": [user("Who?")], "completion": [user("I.")]}, "completion-not-assistant", "completion[0].role"),
        (
            {"prompt": [user("Who?"), assistant("I.")], "completion": [assistant("I.")]},
            "last-not-user",
            "prompt[1].role",
        ),
    ],
)
def test_a_bad_prompt_or_completion_is_named(row: dict[str, Any], code: str, column: str) -> None:
    assert (code, 1, column) in found([TEXTS[0], row])


def test_bad_rows_of_other_people_are_named_by_their_own_columns() -> None:
    rows = [*ALPACA, {"instruction": "Why?", "input": None, "output": " "}]
    assert found(rows, converter="alpaca") == [("content-empty", 2, "output")]
    shares = [*SHAREGPT, {"conversations": [{"from": "robot", "value": "Fog?"}, {"from": "gpt", "value": "Aye."}]},
              {"conversations": [{"from": "human", "value": "Fog?"}]}]  # fmt: skip
    assert found(shares, converter="sharegpt") == [
        ("unknown-role", 2, "conversations[0].from"), ("last-not-assistant", 3, "conversations[0].from"),
    ]  # fmt: skip


def test_rows_of_several_forms_are_an_error() -> None:
    mixed = [{"messages": MESSAGES[0]["messages"], "text": None}, {"messages": None, "text": "Fog."}]
    assert ("mixed-forms", 1, None) in found(mixed)
    assert [code for code, *_ in found([{"question": "Who?", "answer": "I."}])] == ["no-form"]
    assert [code for code, *_ in found([{"messages": [user("Who?")]}])] == ["no-form"], "no row has an answer"


@pytest.mark.parametrize(
    ("row", "options", "columns", "fix"),
    [
        ({"instruction": "Why?", "input": "", "output": "Fog."}, {}, "'instruction', 'input', 'output'", "alpaca"),
        ({"conversations": [{"from": "gpt", "value": "Aye."}]}, {}, "'conversations'", "converter: sharegpt"),
        ({"question": "Who?", "answer": "I."}, {}, "'question', 'answer'", "{question: prompt, answer: completion}"),
        ({"messages": [user("Who?")]}, {}, "'messages'", "a turn of the assistant"),
        ({"prompt": "Who?", "completion": "I."}, {"converter": "alpaca"}, "'prompt', 'completion'", "Leave"),
        ({"title": "Elm"}, {}, "'title'", "Call them messages"),
    ],
)
def test_rows_without_an_answer_are_named_by_their_columns(row: Any, options: Any, columns: str, fix: str) -> None:
    (finding,) = SFTPreprocessor(**options).fit([row]).check([row])
    check_finding(finding)
    assert finding.code == "no-form" and f"the columns are {columns}." in finding.message and fix in finding.fix
    assert "the columns are none" in next(iter(SFTPreprocessor().check([]))).message


def test_a_text_with_a_prompt_beside_it_is_trained_as_text() -> None:
    row = {"text": "Fog over the quay.", "prompt": "Who?"}
    learned = SFTPreprocessor().fit([row])
    assert learned.prompt_completion(row) == PromptCompletion(prompt=None, completion="Fog over the quay.")
    assert learned.prompt_completion({"prompt": "Who?"}) == PromptCompletion(prompt="Who?")


def test_a_completion_of_text_becomes_a_turn_where_the_data_are_chats() -> None:
    learned = SFTPreprocessor().fit(CHATS)
    assert learned.prompt_completion({"prompt": "Who?", "completion": "I."}) == PromptCompletion(
        prompt=[user("Who?")], completion=[assistant("I.")]
    )
    assert not list(learned.check([{"prompt": "Who?", "completion": " I."}]))


def test_messages_where_the_run_was_made_for_text_are_named() -> None:
    chat = {"prompt": [user("Who?")], "completion": [assistant("I.")]}
    assert found([TEXTS[0], chat]) == [("mixed-forms", 1, "prompt")]
    asked = list(SFTPreprocessor().fit(TEXTS).check([{"prompt": [user("Who?")]}]))
    assert [finding.code for finding in asked] == ["mixed-forms"]


@pytest.mark.parametrize(
    ("row", "code", "place"),
    [
        ({"instruction": 7, "output": "Aye."}, "content-not-text", "instruction"),
        ({"instruction": "Fog?", "input": ["a", 7], "output": "Aye."}, "content-not-text", "input"),
        ({"instruction": "Fog?", "output": "Aye.", "history": "Gulls?"}, "message-not-an-object", "history"),
        ({"instruction": "Fog?", "output": "Aye.", "history": [["Gulls?"]]}, "message-not-an-object", "history[0]"),
    ],
)
def test_an_odd_row_of_alpaca_is_named_and_nothing_crashes(row: dict[str, Any], code: str, place: str) -> None:
    for rows, number in (([row], 0), ([{"instruction": "Fog?", "output": "Aye."}, row], 1)):
        assert found(rows, converter="alpaca") == [(code, number, place)]


def test_an_empty_text_and_a_loss_on_what_a_text_has_not_are_named() -> None:
    assert found([{"text": "Fog."}, {"text": ""}, {"text": None}]) == [
        ("text-empty", 1, "text"), ("text-missing", 2, "text"),
    ]  # fmt: skip
    assert found([{"text": "Fog."}], loss_on="completion") == [("no-prompt", None, None)]


def test_what_only_the_whole_split_shows_is_a_warning() -> None:
    long = {"prompt": "Who?", "completion": " I" * 3000}
    control = {"prompt": "What is <|im_end|>?", "completion": " An end."}
    glued = {"prompt": "Who is", "completion": "it"}
    rows = [*TEXTS, long, control, glued]
    assert found(rows) == [
        ("row-much-longer", 24, None),
        ("control-token-in-text", 25, None),
        ("no-space-between", 26, "completion"),
    ]
    assert all(finding.level == "warning" for finding in SFTPreprocessor().fit(rows).check(rows))


def test_every_finding_is_described() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/findings.md").read_text(encoding="utf-8")
    folder = Path(__file__).parents[3] / "plugins/finetune_trl"
    codes: dict[str, Path] = {}
    for file in folder.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        for code in re.findall(r"(?:finding\(\s*|code=)\"([a-z-]+)\"", text):
            codes[code] = file
    for name in ("prompt", "completion", "answer", "text", "content"):
        codes |= {f"{name}-{problem}": folder for problem in ("missing", "empty", "surrogate")}
    assert len(codes) > 40
    for code, file in codes.items():
        assert f"`{code}`" in page, f"{code} of {file.name} is not described"


def test_answered_and_unanswered_rows_do_not_go_together() -> None:
    rows = {"prompt": ["Who?", "Why?"], "completion": [" I.", None]}
    with pytest.raises(BadData, match="some rows have answers and others have none"):
        SFTPreprocessor().fit(TEXTS).features(rows, llama3())


def test_what_was_learned_is_plain_data_and_builds_the_same_preprocessor(tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text("{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}", encoding="utf-8")
    fitted = SFTPreprocessor(chat_template=str(file)).fit(MESSAGES)
    file.unlink()
    again = build(SFTPreprocessor, json.loads(json.dumps(as_options(fitted))), where="preprocessor")
    assert again == fitted and again.needs().answers == ("messages",)


def test_an_unused_chat_template_gives_a_warning_with_how_to_make_chats() -> None:
    rows = [{"prompt": f"What is {number}?", "completion": " A number."} for number in range(3)]
    sft = SFTPreprocessor(chat_template="plain").fit(rows)
    (finding,) = [found for found in sft.check(rows) if found.code == "chat-template-unused"]
    check_finding(finding)
    assert finding.level == "warning" and "converter: alpaca" in finding.fix
    asked = [{"instruction": row["prompt"], "output": row["completion"]} for row in rows]
    chats = SFTPreprocessor(chat_template="plain", converter="alpaca").fit(asked)
    assert not [found for found in chats.check(asked) if found.code == "chat-template-unused"]


def test_a_template_that_marks_nothing_is_not_called_a_long_prompt() -> None:
    counts = {"features": 4, "rows_without_trained_tokens": 4, "truncated": 0}
    with pytest.raises(
        BadData, match=r"max_length cuts none of them: the chat template writes nothing .*loss_on: completion"
    ):
        SFTPreprocessor().validate_counts(counts, split="train")
    with pytest.raises(BadData, match="the prompt alone fills max_length"):
        SFTPreprocessor().validate_counts({**counts, "truncated": 4}, split="train")
