"""Rows of a held-out split that are also in train are found, and no others."""

from __future__ import annotations

import random
import re
import unicodedata
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.data import leakage
from finetune.data import leaks as module
from finetune.data.leaks import BANDS, ROWS, SIMILAR, Index, normalized, runs, signatures, similarity
from finetune.evaluation.verdicts import leaks
from finetune.interfaces import Columns, Preprocessor


class ByText(Preprocessor):
    def needs(self) -> Columns:
        return Columns(required=("text",))

    def features(self, examples: Any, tokenizer: Any) -> Any:
        raise AssertionError


class ByContext(ByText):
    def needs(self) -> Columns:
        return Columns(required=("question", "context"), group="context")


class Nothing(ByText):
    def needs(self) -> Columns:
        return Columns()


def words(rng: random.Random, size: int) -> str:
    return " ".join("".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 8))) for _ in range(size))


def edited(text: str, rng: random.Random) -> str:
    """Return a text with a word in twenty replaced."""
    parts = text.split()
    for place in rng.sample(range(len(parts)), max(1, len(parts) // 20)):
        parts[place] = words(rng, 1)
    return " ".join(parts)


def splits(train: list[str], test: list[str]) -> dict[str, Dataset]:
    return {"train": Dataset.from_dict({"text": train}), "test": Dataset.from_dict({"text": test})}


@pytest.fixture(scope="module")
def planted() -> dict[str, Any]:
    """Return what was found of duplicates that were planted among other texts."""
    rng = random.Random(7)
    train = [words(rng, rng.randint(15, 80)) for _ in range(2_000)]
    chosen = rng.sample(train, 300)
    exact = chosen[:100]
    same = [text.upper().replace(" ", "  ", 1) + "!" for text in chosen[100:200]]
    near = [edited(text, rng) for text in chosen[200:]]
    fresh = [words(rng, rng.randint(15, 80)) for _ in range(500)]
    return leakage(splits(train, [*exact, *same, *near, *fresh]), ByText())["test"]


def test_planted_duplicates_are_found(planted: dict[str, Any]) -> None:
    assert (planted["rows"], planted["exact"], planted["normalized"]) == (800, 100, 100)
    assert planted["near"] >= 95


def test_no_text_is_reported_that_is_not_similar(planted: dict[str, Any]) -> None:
    assert planted["near"] <= 100
    assert all(pair["similarity"] >= SIMILAR for pair in planted["pairs"])
    assert planted["pairs"]


def test_the_context_is_compared_not_the_question() -> None:
    rows = [{"question": f"What of {n}?", "context": f"the quay number {n % 5} of the old harbour"} for n in range(20)]
    parts = {"train": Dataset.from_list(rows[:10]), "test": Dataset.from_list(rows[10:])}
    assert leakage(parts, ByContext())["test"]["exact"] == 10
    assert leakage(parts, ByContext())["test"]["columns"] == ["context"]


def test_nothing_is_reported_if_nothing_can_be_compared() -> None:
    parts = splits(["a"], ["a"])
    assert leakage(parts, Nothing()) == {}
    assert leakage({"test": parts["test"]}, ByText()) == {}


@pytest.mark.parametrize(("bound", "most"), [("MOST_ROWS", 3), ("MOST_CHARACTERS", 19)])
def test_a_split_with_too_much_text_is_reported_as_not_searched(
    bound: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"finetune.data.leaks.{bound}", most)
    found = leakage(splits(["a b c", "d e f"], ["a b c", "d e g"]), ByText())
    assert (found["test"]["exact"], found["test"]["near"]) == (1, None)
    assert "were not searched" in list(leaks(found))[-1]
    monkeypatch.setattr(f"finetune.data.leaks.{bound}", most + 1)
    assert leakage(splits(["a b c", "d e f"], ["a b c", "d e g"]), ByText())["test"]["near"] is not None


@given(st.text(), st.text())
@settings(deadline=None)
def test_similarity_is_symmetric_and_one_for_equal_texts(one: str, other: str) -> None:
    assert similarity(one, other) == similarity(other, one)
    assert 0 <= similarity(one, other) <= 1
    assert similarity(one, one) == 1


@given(st.lists(st.text(alphabet="abcdef ", min_size=12, max_size=60), min_size=1, max_size=8))
@settings(deadline=None)
def test_a_text_of_the_index_is_found_again(texts: list[str]) -> None:
    index = Index(texts)
    for text in texts:
        match = index.nearest(text)
        assert match
        assert normalized(match[0]) == normalized(text)


def test_a_near_duplicate_is_found_in_a_crowd_that_shares_boilerplate(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    boilerplate = words(rng, 60)
    train = [f"{boilerplate} {words(rng, 20)}" for _ in range(1_000)]
    sources = train[-60:]
    test = [" ".join([*source.split()[:-4], words(rng, 4)]) for source in sources]
    index = Index(train)
    assert [index.nearest(text)[0] for text in test] == sources  # type: ignore[index]
    monkeypatch.setattr("finetune.data.leaks.CROWD", 200)
    assert [(index.nearest(text) or ("",))[0] for text in test] != sources, "the crowd must be too large for 200"


def test_runs_are_counted_once() -> None:
    assert len(runs("aaaaaaaaa")) == 1
    assert len(runs("abcdef")) == 2
    assert len(runs("")) == 1


def test_scripts_without_spaces_are_compared_too() -> None:
    one, other = "船は今日の午後に港を出ます。天気は晴れです。", "船は今日の午後に港を出ました。天気は晴れです。"
    assert similarity(one, other) > 0.5
    assert similarity(one, "猫が埠頭で寝ている。誰も起こさない。") < 0.1


def signature_of_one(text: str) -> Any:
    """Return the MinHash of each band of one text, as its definition says."""
    factors, terms = module._permutations()
    hashes = runs(text)
    least = (hashes[None, :] * factors[:, None] + terms[:, None] >> np.uint64(32)).min(axis=1)
    weights = np.array([1, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93], dtype=np.uint64)
    return (least.reshape(BANDS, ROWS) * weights).sum(axis=1, dtype=np.uint64)


@given(st.lists(st.text(max_size=40), min_size=1, max_size=30), st.sampled_from([1, 50, 65_536]))
@settings(deadline=None)
def test_texts_in_blocks_have_the_signatures_that_they_have_alone(texts: list[str], cached: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CACHED", cached)
        made = signatures(texts)
    for place, text in enumerate(texts):
        assert made[:, place].tolist() == signature_of_one(text).tolist()


@given(st.text() | st.text(alphabet=st.characters(max_codepoint=127)))
def test_ascii_is_normalized_as_all_text_is(text: str) -> None:
    plain = unicodedata.normalize("NFKC", text).casefold()
    assert normalized(text) == (" ".join(re.findall(r"\w+", plain)) or plain)


def nearest_by_definition(text: str, texts: list[str]) -> tuple[str, float] | None:
    """Return the most similar of the texts that share most bands, each compared in full."""
    own = signature_of_one(normalized(text))
    shared = [int((own == signature_of_one(normalized(other))).sum()) for other in texts]
    order = sorted((place for place in range(len(texts)) if shared[place]), key=lambda place: -shared[place])
    best, most_similar = 0.0, ""
    for place in order[: module.CANDIDATES]:
        alike = similarity(text, texts[place])
        if alike > best:
            best, most_similar = alike, texts[place]
    return (most_similar, best) if best >= SIMILAR else None


def test_the_search_in_blocks_finds_what_a_search_one_by_one_finds() -> None:
    rng = random.Random(11)
    vocabulary = [words(rng, 1) for _ in range(60)]
    train = list(dict.fromkeys(" ".join(rng.choices(vocabulary, k=rng.randint(1, 25))) for _ in range(150)))
    sought = [edited(text, rng) for text in train[:80]] + train[80:90] + ["", "a", "ÅÄÖ 船"]
    found = Index(train).nearest_each(sought)
    assert found == [nearest_by_definition(text, train) for text in sought]
    assert sum(match is not None for match in found) > 20
