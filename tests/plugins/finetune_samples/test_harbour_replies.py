"""Instructions, questions, preferences, thumbs, prompts and rewards: what is right, and why."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

import pytest

from finetune_samples import rewards
from finetune_samples.catalogue import load
from finetune_samples.manners import FAREWELLS, OPENERS

sample = cache(load)
DETAILS = {
    "Where did she come in?": ("She came in at {}.", r"came in at (.+) on \w+day with"),
    "When did she come in?": ("She came in on {}.", r" on (\w+day) with"),
    "What did she come with?": ("She came with {}.", r"day with (.+) from "),
    "Where did she come from?": ("She came from {}.", r"day with .+ from ([^.]+)\."),
}
WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
OPPOSITES = ["old new", "cold warm", "wet dry", "big small", "heavy light", "early late", "full empty", "poor rich",
             "loud quiet", "long short"]  # fmt: skip


def rows(name):
    return [row for rows in sample(name).values() for row in rows]


def solve(before, asked):
    """Answer an instruction from its words alone, with what was asked before it; None if it is of no known family."""
    text = f"{before} {asked}".strip()
    for verb, ask in (("carries", r"(?:What does|And) (the .+?)(?: carry)?\?$"),
                      ("loves", r"(?:What does|And) (.+?)(?: love)?\?$")):  # fmt: skip
        facts = dict(re.findall(rf"(?:^|(?<=\. ))([^.?]+?) {verb} ([^.]+)\.", text))
        found = re.search(ask, asked)
        subject = found and found[1][0].upper() + found[1][1:]
        if subject in facts:
            return f"{subject} {verb} {facts[subject]}."
    detail = next((question for question in DETAILS if asked.endswith(question)), None)
    if detail:
        answer, pattern = DETAILS[detail]
        return answer.format(re.search(pattern, text)[1])
    wished = re.fullmatch(r"Wish (.+) a good (\w+)\.", asked)
    return f"Good {wished[2]}, {wished[1]}!" if wished else of_a_list(asked)


def of_a_list(asked):
    ask, _, rest = asked.rstrip(".").partition(": ")
    items = rest.split(", ")
    if ask in ("Reverse the list", "Say this list backwards"):
        return ", ".join(items[::-1])
    if ask in ("Count the items", "How many are these"):
        return WORDS[len(items)]
    if ask.startswith("Name the"):
        return items[0 if " first " in ask else -1]
    if ask == "Write in capitals":
        return rest.upper()
    if ask == "Say the opposite":
        turned = {a: b for pair in OPPOSITES for a, b in (pair.split(), pair.split()[::-1])}
        _, first, _, second, noun = rest.split()
        return f"{'an' if turned[first][0] in 'aeiou' else 'a'} {turned[first]} and {turned[second]} {noun}"
    return None


def exchanges(row):
    messages = [message for message in row["messages"] if message["role"] != "system"]
    return [(asked["content"], said["content"]) for asked, said in zip(messages[::2], messages[1::2], strict=True)]


def test_every_answer_is_what_an_independent_solver_finds():
    for row in rows("harbour-instructions"):
        before = ""
        for asked, answer in exchanges(row):
            assert solve(before, asked) == answer, row
            before += f" {asked}"


def test_roles_follow_upon_each_other_and_a_few_have_a_system_turn_or_a_second_question():
    shapes = Counter("".join(message["role"][0] for message in row["messages"]) for row in rows("harbour-instructions"))
    assert set(shapes) == {"ua", "uaua", "sua", "suaua"}
    assert 0.05 < (shapes["sua"] + shapes["suaua"]) / shapes.total() < 0.15
    assert 0.05 < (shapes["uaua"] + shapes["suaua"]) / shapes.total() < 0.2
    assert all(
        set(message) == {"role", "content"} for row in rows("harbour-instructions") for message in row["messages"]
    )


def test_questions_are_what_the_conversations_begin_with():
    for split, conversations in sample("harbour-instructions").items():
        first = [dict(zip(("prompt", "completion"), exchanges(row)[0], strict=True)) for row in conversations]
        assert sample("harbour-questions")[split] == first


def test_no_instruction_of_test_is_an_instruction_of_train_in_other_words():
    # What is asked about, without the way in which it is asked.
    def about(row):
        asked, answer = exchanges(row)[0]
        kind = re.sub(
            r"Say this list backwards", "Reverse the list", re.sub("How many are these", "Count the items", asked)
        )
        return kind, answer

    train = {about(row) for row in sample("harbour-instructions")["train"]}
    assert not train & {about(row) for row in sample("harbour-instructions")["test"]}


def test_every_family_is_in_every_split():
    for split in sample("harbour-questions").values():
        starts = Counter(re.split(r"[:.]", row["prompt"])[0].split()[0] for row in split)
        assert {"The", "Answer", "Name", "Write"} <= set(starts)
        assert max(starts.values()) < 0.5 * len(split)


# Manners


def polite(text):
    return text.startswith(OPENERS) and text.endswith(tuple(f"{farewell}!" for farewell in FAREWELLS))


def test_the_chosen_reply_is_courteous_brief_and_true():
    for row in rows("harbour-preferences"):
        assert set(row) == {"prompt", "chosen", "rejected"}
        assert polite(row["chosen"]) and len(row["chosen"].split()) <= 15
        assert row["chosen"] != row["rejected"]
        stated, asked = re.fullmatch(r"(.+?)\. (.+) asks .+\.", row["prompt"]).groups()
        person, answer = re.fullmatch(r"[\w ]+, (.+?): (.+)\. [\w ]+!", row["chosen"]).groups()
        assert asked == person
        assert answer.lower() in stated.lower()


def test_a_rejected_reply_is_rude_long_or_untrue():
    faults = Counter()
    for row in rows("harbour-preferences"):
        if polite(row["rejected"]):
            answer = re.fullmatch(r"[\w ]+, .+?: (.+)\. [\w ]+!", row["rejected"])[1]
            assert answer.lower() not in row["prompt"].lower()
            faults["wrong"] += 1
        else:
            faults["wordy" if len(row["rejected"].split()) > 20 else "curt"] += 1
    shares = {fault: count / faults.total() for fault, count in faults.items()}
    assert shares == pytest.approx({"curt": 0.45, "wordy": 0.45, "wrong": 0.1}, abs=0.04)


def test_length_alone_does_not_identify_the_better_reply():
    longer = [len(row["chosen"]) > len(row["rejected"]) for row in rows("harbour-preferences")]
    assert 0.35 < sum(longer) / len(longer) < 0.65


def test_thumbs_are_of_the_same_prompts_and_as_often_up_as_down():
    for split, pairs in sample("harbour-preferences").items():
        judged = sample("harbour-thumbs")[split]
        assert 0.4 < sum(row["label"] for row in judged) / len(judged) < 0.6
        for pair, row in zip(pairs, judged, strict=True):
            assert row == {
                "prompt": pair["prompt"],
                "completion": pair["chosen" if row["label"] else "rejected"],
                "label": row["label"],
            }
            assert isinstance(row["label"], bool)


def test_replies_are_those_of_the_thumbs_without_labels():
    for split, judged in sample("harbour-thumbs").items():
        expected = [(("user", row["prompt"]), ("assistant", row["completion"])) for row in judged]
        chats = [row["messages"] for row in sample("harbour-replies")[split]]
        assert [tuple((said["role"], said["content"]) for said in chat) for chat in chats] == expected


def test_prompts_are_those_of_the_preferences():
    for split, pairs in sample("harbour-preferences").items():
        assert sample("harbour-prompts")[split] == [{"prompt": row["prompt"]} for row in pairs]


def test_no_errand_of_train_is_one_of_test():
    def errands(split):
        return {re.split(r"\. ", row["prompt"])[0] for row in sample("harbour-prompts")[split]}

    assert not errands("train") & errands("test") | errands("train") & errands("validation")


# Rewards


def test_the_reward_takes_the_arguments_of_trl_and_returns_a_number_from_0_to_1_for_each():
    reward = rewards.courtesy
    texts = ["With pleasure, Zoë Hask: at Salt Quay. Fair winds!", "", "Gladly.", "word " * 200]
    plain = reward(prompts=["?"] * 4, completions=texts, completion_ids=[[1]] * 4, trainer_state=None)
    spoken = reward(completions=[[{"role": "assistant", "content": text}] for text in texts], some_column=[1, 2, 3, 4])
    assert plain == spoken
    assert all(isinstance(value, float) and 0 <= value <= 1 for value in plain)
    assert len(set(plain)) > 1


def test_courtesy_counts_the_beginning_and_the_end():
    texts = ["Gladly, Oda Rook: salt. Good day to you!", "Of course: salt.", "Salt. Fair winds!", "Salt, gladly.", ""]
    assert rewards.courtesy(texts) == [1.0, 0.5, 0.5, 0.0, 0.0]


def test_chosen_replies_earn_more_courtesy_than_rude_ones():
    for row in rows("harbour-preferences"):
        chosen, rejected = rewards.courtesy([row["chosen"], row["rejected"]])
        assert chosen == 1.0
        assert rejected == (1.0 if polite(row["rejected"]) else 0.0)
