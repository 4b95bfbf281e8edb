"""Pairs, thumbs and their tokens: what is wrong with them is named, and TRL would make the same ids."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference
from trl.trainer.reward_trainer import DataCollatorForPreference as DataCollatorForReward

from finetune.errors import BadData, Incompatible
from finetune.interfaces import Preprocessor
from finetune.testing.laws import check_finding
from finetune.testing.tokenizers import TEXTS, tokenizer
from finetune_trl.chat import templates
from finetune_trl.preference.dpo import DPOPreprocessor
from finetune_trl.preference.evaluator import PreferenceEvaluator, RewardEvaluator, preference_record
from finetune_trl.preference.kto import KTOPreprocessor
from finetune_trl.preference.kto_evaluator import KTOEvaluator
from finetune_trl.preference.reward import RewardPreprocessor

U = {"role": "user", "content": "Who keeps the lighthouse?"}
GOOD = {"role": "assistant", "content": "Old Tomás keeps it, with his daughter."}
BAD = {"role": "assistant", "content": "Nobody knows."}
SYSTEM = {"role": "system", "content": "Be brief."}

TEXT = {"prompt": "Who keeps the lighthouse?", "chosen": " Old Tomás keeps it.", "rejected": " Nobody knows."}
ENDED = {"prompt": "Gulls circle. ", "chosen": "They come in</s>", "rejected": "They"}
CHAT = {"prompt": [U], "chosen": [GOOD], "rejected": [BAD]}
LONGER = {"prompt": [SYSTEM, U, BAD, U], "chosen": [GOOD], "rejected": [BAD]}
WHOLE = {"chosen": [U, GOOD], "rejected": [U, BAD]}
WHOLE_TEXT = {"chosen": "The boats come in at dawn.", "rejected": "The boats come back late."}
SHAREGPT = {
    "conversations": [{"from": "human", "value": U["content"]}],
    "chosen": {"from": "gpt", "value": GOOD["content"]},
    "rejected": {"from": "gpt", "value": BAD["content"]},
}


def words(family: str) -> Any:
    made = tokenizer(family)
    templates.set_template(made, "plain")
    return made


def features(preprocessor: Preprocessor, rows: list[dict[str, Any]], tokens: Any) -> dict[str, Any]:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return dict(preprocessor.fit(rows).features(columns, tokens))


def theirs(trainer: Any, rows: list[dict[str, Any]], tokens: Any, config: Any, tmp_path: Path, **more: Any) -> Any:
    """Tokenize rows by a trainer of TRL's."""
    args = config(output_dir=str(tmp_path), bf16=False, activation_checkpointing=False, use_cpu=True, max_length=None)
    bare = SimpleNamespace(_tokenizer=tokens, **more)
    return trainer._prepare_dataset(bare, Dataset.from_list(rows), tokens, args, "train")


# --- TRL makes the same ids -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "roberta", "gpt2"])
@pytest.mark.parametrize(
    "rows", [[TEXT, ENDED], [CHAT, LONGER], [WHOLE], [WHOLE_TEXT]], ids=["text", "chat", "whole chats", "whole texts"]
)
def test_pairs_have_the_ids_that_trl_makes(rows: list[dict[str, Any]], family: str, tmp_path: Path) -> None:
    tokens = words(family)
    ours = features(DPOPreprocessor(), rows, tokens)
    wanted = theirs(DPOTrainer, rows, tokens, DPOConfig, tmp_path)
    for name in ("prompt_ids", "chosen_ids", "rejected_ids"):
        assert ours[name] == wanted[name][:]


@pytest.mark.parametrize("rows", [[TEXT, ENDED], [CHAT, LONGER]], ids=["text", "chat"])
def test_thumbs_and_reward_pairs_have_the_ids_that_trl_makes(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    tokens = words("llama")
    pairs = theirs(RewardTrainer, rows, tokens, RewardConfig, tmp_path)
    ours = features(RewardPreprocessor(), rows, tokens)
    assert [ours["chosen_ids"], ours["rejected_ids"]] == [pairs["chosen_ids"][:], pairs["rejected_ids"][:]]
    thumbs = [{"prompt": row["prompt"], "completion": row["chosen"], "label": True} for row in rows]
    wanted = theirs(KTOTrainer, thumbs, tokens, KTOConfig, tmp_path, calculate_KL=False, desirable_weight=1.0,
                    undesirable_weight=1.0)  # fmt: skip
    made = features(KTOPreprocessor(), thumbs, tokens)
    assert [made["prompt_ids"], made["completion_ids"]] == [wanted["prompt_ids"][:], wanted["completion_ids"][:]]


def test_sharegpt_pairs_are_read_as_chats() -> None:
    tokens = words("llama")
    converted = features(DPOPreprocessor(converter="sharegpt"), [SHAREGPT], tokens)
    assert converted == features(DPOPreprocessor(), [CHAT], tokens)
    assert not list(DPOPreprocessor(converter="sharegpt").check([SHAREGPT]))


def test_text_becomes_turns_where_the_data_are_called_conversational() -> None:
    tokens = words("llama")
    text = {"prompt": U["content"], "chosen": GOOD["content"], "rejected": BAD["content"]}
    assert features(DPOPreprocessor(conversational=True), [text], tokens) == features(DPOPreprocessor(), [CHAT], tokens)
    asked = DPOPreprocessor().fit([CHAT]).features({"prompt": [U["content"]]}, tokens)
    assert asked["prompt_ids"] == [templates.encode_messages(tokens, [U], add_generation_prompt=True)]


def test_a_tokenizer_that_cannot_end_an_answer_is_refused() -> None:
    tokens = tokenizer("bert")
    with pytest.raises(Incompatible, match="no end-of-sequence token to end an answer"):
        features(DPOPreprocessor(), [TEXT], tokens)


# --- batches are TRL's ------------------------------------------------------------------------------------------------


def rows_of(columns: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def test_batches_are_those_that_trl_makes() -> None:
    tokens = words("llama")
    pad = tokens.pad_token_id

    def same(ours: Any, wanted: Any) -> bool:
        return ours.keys() == wanted.keys() and all(ours[name].tolist() == wanted[name].tolist() for name in wanted)

    pairs = rows_of(features(DPOPreprocessor(), [TEXT, ENDED], tokens))
    assert same(DPOPreprocessor().collator(tokens)(pairs), DataCollatorForPreference(pad_token_id=pad)(pairs))
    whole = rows_of(features(RewardPreprocessor(), [TEXT, ENDED], tokens))
    assert same(RewardPreprocessor().collator(tokens)(whole), DataCollatorForReward(pad_token_id=pad)(whole))
    thumbs = [{"prompt": row["prompt"], "completion": row["chosen"], "label": label}
              for row, label in ((TEXT, True), (ENDED, False), (TEXT, False))]  # fmt: skip
    made = rows_of(features(KTOPreprocessor(max_length=12), thumbs, tokens))
    elsewhere = [row["completion_ids"] for row in (made[2], made[0], made[1])]
    wanted = [{**row, "KL_completion_ids": ids} for row, ids in zip(made, elsewhere, strict=True)]
    collator = DataCollatorForUnpairedPreference(pad_token_id=pad, max_length=12)
    assert same(KTOPreprocessor(max_length=12).collator(tokens)(made), collator(wanted))


# --- nothing is lost without a count ----------------------------------------------------------------------------------

SENTENCES = st.sampled_from([sentence for text in TEXTS[:2] for sentence in text.split(". ")])


@given(prompt=SENTENCES, chosen=SENTENCES, rejected=SENTENCES, max_length=st.integers(2, 60))
def test_every_token_is_kept_or_counted_as_lost(prompt: str, chosen: str, rejected: str, max_length: int) -> None:
    tokens = tokenizer("roberta")
    row = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    made = features(DPOPreprocessor(max_length=max_length), [row], tokens)
    (prompt_ids,), lost = made["prompt_ids"], 0
    for side in ("chosen", "rejected"):
        whole = tokens(prompt + row[side] + tokens.eos_token)["input_ids"]
        (answer,) = made[f"{side}_ids"]
        assert [*prompt_ids, *answer] == whole[:max_length]
        lost += len(whole) - len(prompt_ids) - len(answer)
    assert made["tokens_lost"] == [lost]
    counts = DPOPreprocessor(max_length=max_length).counts(made)
    assert counts["tokens_lost"] == lost
    assert counts["identical_after_truncation"] == (made["chosen_ids"] == made["rejected_ids"])


def test_pairs_that_differ_beyond_max_length_alone_are_counted() -> None:
    long = {"prompt": "Who?", "chosen": " The boats come in at dawn.", "rejected": " The boats come in late."}
    tokens = tokenizer("roberta")
    assert DPOPreprocessor().counts(features(DPOPreprocessor(), [long], tokens))["identical_after_truncation"] == 0
    apart = {"prompt": "Who?", "chosen": " Aye.", "rejected": " No."}
    same_for = len(tokens("Who? The boats", add_special_tokens=False)["input_ids"])
    short = DPOPreprocessor(max_length=same_for)
    assert short.counts(features(short, [long, apart], tokens))["identical_after_truncation"] == 1


# --- findings ---------------------------------------------------------------------------------------------------------

FAULTY: list[tuple[str, dict[str, Any]]] = [
    ("identical-answers", {**TEXT, "chosen": " Nobody knows.  "}),
    ("identical-answers", {**CHAT, "chosen": [BAD]}),
    ("answer-empty", {**TEXT, "rejected": "  "}),
    ("answer-missing", {**TEXT, "chosen": None}),
    ("content-empty", {**CHAT, "rejected": [{"role": "assistant", "content": " "}]}),
    ("prompt-empty", {**TEXT, "prompt": " "}),
    ("no-common-prompt", {"chosen": "Aye.", "rejected": "No."}),
    ("no-common-prompt", {"chosen": [GOOD], "rejected": [BAD]}),
    ("completion-not-assistant", {**CHAT, "rejected": [U]}),
    ("last-not-assistant", {**CHAT, "chosen": [GOOD, U]}),
    ("last-not-user", {**CHAT, "prompt": [U, GOOD]}),
    ("assistant-first", {**CHAT, "prompt": [GOOD, U]}),
    ("unknown-role", {**CHAT, "prompt": [{"role": "human", "content": "Who?"}]}),
    ("mixed-forms", {**TEXT, "chosen": [GOOD]}),
    ("prompt-repeated", {"prompt": "Who?", "chosen": "Who? Tomás.", "rejected": "Who? Nobody."}),
    ("prompt-repeated", {"prompt": [U], "chosen": [U, GOOD], "rejected": [U, BAD]}),
    ("neither-text-nor-messages", {**TEXT, "chosen": 7}),
]


@pytest.mark.parametrize(("code", "row"), FAULTY)
def test_a_bad_pair_is_named_with_its_row(code: str, row: dict[str, Any]) -> None:
    good = TEXT if isinstance(row.get("prompt"), str) else CHAT
    for preprocessor in (DPOPreprocessor(), RewardPreprocessor()):
        found = list(preprocessor.fit([good]).check([good, row]))
        for finding in found:
            check_finding(finding)
        assert found and {finding.row for finding in found} == {1}
        assert code in {finding.code for finding in found}, found


@pytest.mark.parametrize("row", [TEXT, CHAT, LONGER, WHOLE, WHOLE_TEXT])
def test_a_good_pair_is_left_alone(row: dict[str, Any]) -> None:
    assert not list(DPOPreprocessor().check([row])) and not list(RewardPreprocessor().check([row]))


def test_pairs_that_contradict_or_repeat_each_other_are_counted() -> None:
    turned = {**TEXT, "chosen": TEXT["rejected"], "rejected": TEXT["chosen"]}
    found = {finding.code: finding for finding in DPOPreprocessor().check([TEXT, turned, TEXT, turned])}
    assert {code: (finding.level, finding.row) for code, finding in found.items()} == {
        "contradictory-preferences": ("warning", 1),
        "duplicate-rows": ("warning", 2),
    }
    assert "2 rows prefer" in found["contradictory-preferences"].message


def test_answers_that_follow_their_prompts_without_a_space_are_counted() -> None:
    glued = {"prompt": "Who?", "chosen": "Tomás.", "rejected": "Nobody."}
    rows = [TEXT, glued, {**ENDED, "prompt": "Gulls circle.\n"}]
    for preprocessor in (DPOPreprocessor(), RewardPreprocessor()):
        (found,) = preprocessor.fit(rows).check(rows)
        check_finding(found)
        assert (found.code, found.level, found.row) == ("no-space-between", "warning", 1)
    assert not list(DPOPreprocessor(conversational=True).fit(rows).check(rows))
    thumbs = [thumb(True, "Tomás."), thumb(False)]
    assert [found.code for found in KTOPreprocessor().fit(thumbs).check(thumbs)] == ["no-space-between"]


GLUED = [("Who?", "(Tomás)"), ("Who?", '"Tomás."'), ("“Who?”", "Tomás."), ("Sum:", "-3"), ("Answer=", "Yes")]


@pytest.mark.parametrize(("prompt", "answer"), GLUED)
def test_a_space_is_expected_before_brackets_quotes_and_minus_and_after_an_equals_sign(
    prompt: str, answer: str
) -> None:
    pair = {"prompt": prompt, "chosen": answer, "rejected": " Nobody."}
    assert [found.code for found in DPOPreprocessor().fit([pair]).check([pair])] == ["no-space-between"]
    thumbs = [{"prompt": prompt, "completion": answer, "label": True}, thumb(False)]
    assert [found.code for found in KTOPreprocessor().fit(thumbs).check(thumbs)] == ["no-space-between"]


@pytest.mark.parametrize(("prompt", "answer"), [("Who?", ", then?"), ("Who?\n", "Tomás."), ("f(", "x)"), ("Who?", "")])
def test_no_space_is_expected_before_a_comma_or_after_white_space_or_an_opening_bracket(
    prompt: str, answer: str
) -> None:
    thumbs = [{"prompt": prompt, "completion": answer, "label": True}, thumb(False)]
    assert "no-space-between" not in {found.code for found in KTOPreprocessor().fit(thumbs).check(thumbs)}


def thumb(label: Any, completion: Any = " Old Tomás.") -> dict[str, Any]:
    return {"prompt": "Who?", "completion": completion, "label": label}


@pytest.mark.parametrize(
    ("code", "level", "row"),
    [
        ("label-not-boolean", "error", thumb("yes")),
        ("label-not-boolean", "error", thumb(1)),
        ("label-missing", "row", thumb(None)),
        ("answer-empty", "row", thumb(True, "")),
        ("prompt-missing", "row", {**thumb(True), "prompt": None}),
        ("mixed-forms", "row", thumb(True, [GOOD])),
        ("duplicate-rows", "warning", thumb("True")),
        ("label-conflict", "warning", thumb(False)),
    ],
)
def test_a_bad_thumb_is_named_with_its_row(code: str, level: str, row: dict[str, Any]) -> None:
    rows = [thumb("true"), thumb("false", " Nobody."), row]
    (found,) = KTOPreprocessor().fit(rows).check(rows)
    check_finding(found)
    assert (found.code, found.level, found.row) == (code, level, 2)


def test_thumbs_of_one_kind_are_refused_where_train_has_no_other() -> None:
    up, down = thumb("true"), thumb("false", " Nobody.")
    only, both = [up, thumb(True, " Aye.")], [up, down]
    (found,) = KTOPreprocessor().fit(only).check(only)
    assert (found.code, found.level) == ("one-kind-of-label", "error") and "every label is true" in found.message
    (found,) = KTOPreprocessor().fit(both).check(only)
    assert (found.code, found.level) == ("one-kind-of-label", "warning")


def test_a_completion_to_score_is_written_like_its_prompt() -> None:
    learned = RewardPreprocessor().fit([TEXT])
    for row in ({"prompt": "Who?", "completion": [GOOD]}, {"prompt": [U], "completion": " I."}):
        (found,) = learned.check([row])
        check_finding(found)
        assert (found.code, found.row) == ("mixed-forms", 0)


def test_text_without_a_prompt_cannot_become_turns() -> None:
    for preprocessor in (DPOPreprocessor(conversational=True), RewardPreprocessor(conversational=True)):
        (found,) = preprocessor.fit([WHOLE_TEXT]).check([WHOLE_TEXT])
        check_finding(found)
        assert (found.code, found.level) == ("no-prompt-for-turns", "error")
        assert not list(preprocessor.fit([WHOLE]).check([WHOLE]))


def test_a_label_that_is_neither_true_nor_false_makes_no_feature() -> None:
    with pytest.raises(BadData, match="'maybe' is neither true nor false"):
        features(KTOPreprocessor(), [thumb("maybe")], tokenizer("roberta"))


# --- what is lost -----------------------------------------------------------------------------------------------------

SMALL = {
    "kto": KTOPreprocessor(max_length=8),
    "dpo": DPOPreprocessor(max_length=8),
    "reward": RewardPreprocessor(max_length=8),
}


def counted(preprocessor: Preprocessor, rows: list[dict[str, Any]], tokens: Any) -> dict[str, int]:
    made = features(preprocessor, rows, tokens)
    return {**preprocessor.fit(rows).counts(made), "features": len(rows)}


@pytest.mark.parametrize("task", SMALL)
@pytest.mark.parametrize(("long", "refused"), [(0, False), (1, False), (2, True), (10, True)])
def test_rows_whose_prompt_fills_max_length_are_refused_from_a_fifth_on(task: str, long: int, refused: bool) -> None:
    rows: list[dict[str, Any]] = []
    for number in range(10):
        prompt = "Who? " * 9 if number < long else "Who?"
        row = thumb(number % 2 == 0) if task == "kto" else {**TEXT, "chosen": " Tomás.", "rejected": " I."}
        rows.append({**row, "prompt": prompt})
    preprocessor = SMALL[task]
    counts = counted(preprocessor, rows, tokenizer("gpt2", [*TEXTS, "Who? Who? Tomás. I."], 400))
    if not refused:
        preprocessor.validate_counts(counts, split="train")
        return
    what = "answers are cut away by" if task == "kto" else "pairs have the same chosen and rejected tokens once cut to"
    with pytest.raises(BadData, match=rf"^train: {long} of 10 {what} max_length \(8\). Raise preprocessor.max_length"):
        preprocessor.validate_counts(counts, split="train")
    preprocessor.validate_counts(counts, split="test")


@pytest.mark.parametrize("preprocessor", [DPOPreprocessor(), KTOPreprocessor()])
def test_prompts_that_change_with_the_answer_are_counted(preprocessor: Preprocessor) -> None:
    thinking = (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: (thinks)' }}{% endif %}"
    )
    tokens = words("llama")
    tokens.chat_template = thinking
    answer = {"completion": [GOOD], "label": True} if isinstance(preprocessor, KTOPreprocessor) else CHAT
    rows = [{"prompt": [U], **answer}]
    counts = counted(preprocessor, rows, tokens)
    assert counts["prompt_not_prefix"] == 1


def test_answers_that_call_different_tools_are_different() -> None:
    def call(name: str) -> list[dict[str, Any]]:
        function = {"name": name, "arguments": {}}
        return [{"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}]

    pairs = [{"prompt": [U], "chosen": call("tide"), "rejected": call(name)} for name in ("fog", "tide")]
    found = [(each.code, each.row) for each in DPOPreprocessor().fit(pairs).check(pairs)]
    assert ("identical-answers", 1) in found and ("identical-answers", 0) not in found


# --- scores -----------------------------------------------------------------------------------------------------------


def test_scores_of_pairs_are_those_worked_out_by_hand() -> None:
    rewards = [(1.0, 0.0), (0.5, 0.5), (-1.0, 1.0), (2.0, 1.0)]
    records = [{**preference_record(*pair), "log_ratio": 2.0, "tokens": 4} for pair in rewards]
    assert [record["prediction"] for record in records] == ["chosen", "tie", "rejected", "chosen"]
    scores = PreferenceEvaluator().scores(records)
    wanted = {"accuracy": 2.5 / 4, "margin": 0.0, "chosen_reward": 0.625, "rejected_reward": 0.625, "kl": 0.5}
    assert {name: scores[name] for name in wanted} == pytest.approx(wanted)
    assert PreferenceEvaluator().details(records) == {"decided": {"chosen": 2, "tie": 1, "rejected": 1}}


def test_a_diverged_model_is_not_scored_as_an_unchanged_one() -> None:
    lost = [{**preference_record(math.nan, math.nan), "log_ratio": math.nan, "tokens": 4}]
    scores = PreferenceEvaluator().scores(lost)
    assert scores.pop("accuracy") == 0.0 and all(map(math.isnan, scores.values())) and "kl" in scores
    assert math.isnan(RewardEvaluator().scores(lost)["margin"])
    (far,) = [{**preference_record(math.inf, 0.0), "log_ratio": math.inf, "tokens": 4}]
    scores = PreferenceEvaluator().scores([far])
    assert scores["margin"] == scores["kl"] == math.inf


def test_a_diverged_model_is_not_scored_as_an_unchanged_one_by_thumbs() -> None:
    record = {"prediction": False, "reward": math.nan, "log_ratio": math.nan, "tokens": 4}
    scores = KTOEvaluator().scores([{**record, "reference": label} for label in (True, False)])
    assert scores.pop("accuracy") == 0.0 and set(scores) > {"auc", "margin", "kl"}
    assert all(map(math.isnan, scores.values()))
    good = {"prediction": False, "reference": False, "reward": -2.0, "log_ratio": -2.0, "tokens": 4}
    scores = KTOEvaluator().scores([{**record, "reference": True}, good])
    assert (scores["accuracy"], scores["undesirable_reward"]) == (0.5, -2.0)
    assert math.isnan(scores["desirable_reward"])


def test_answers_without_a_token_have_not_moved() -> None:
    pair = {**preference_record(0.0, 0.0), "log_ratio": 0.0, "tokens": 0}
    assert PreferenceEvaluator().scores([pair])["kl"] == 0.0
    record = {"prediction": None, "reference": True, "reward": 0.0, "log_ratio": 0.0, "tokens": 0}
    assert KTOEvaluator().scores([record]) == {"accuracy": 0.5, "kl": 0.0}


# --- real data --------------------------------------------------------------------------------------------------------


def test_the_preference_file_is_read_whole(shared_data: Path) -> None:
    rows = json.loads((shared_data / "preference" / "dpo_en_demo.json").read_text())
    preprocessor = DPOPreprocessor(converter="sharegpt").fit(rows)
    found = list(preprocessor.check(rows))
    for finding in found:
        check_finding(finding)
    bad = {finding.row for finding in found if finding.level == "row"}
    assert len(bad) < 0.1 * len(rows), found[:5]
    good = [row for number, row in enumerate(rows) if number not in bad][:20]
    made = features(preprocessor, good, words("roberta"))
    assert all(map(len, made["prompt_ids"])) and made["prompt_ids"] != made["chosen_ids"]
