"""Recipes are read strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from finetune import recipe, trust
from finetune.errors import BadOptions, BadRecipe
from finetune.recipe import options, schema

SMALL: dict[str, Any] = {"task": "t", "model": "m", "dataset": "d.csv", "strategy": "full", "output": "o"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-5", 2e-5), ("2.0e-5", 2e-5), ("1e5", 1e5), (".5", 0.5), ("1.", 1.0), ("-3", -3), ("+4", 4),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None), (".inf", float("inf")),
        ("010", "010"), ("12:30:00", "12:30:00"), ("0x10", "0x10"), ("1_000", "1_000"), ("2026-11-20", "2026-11-20"),
        ("'no'", "no"), ("Norway", "Norway"), ("1e", "1e"), ("e5", "e5"),
    ],
)  # fmt: skip
def test_a_scalar_is_what_it_looks_like(text: str, value: Any) -> None:
    read = recipe.load(f"key: {text}")["key"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: no", "line 1, column 4: 'no' can mean a word or a boolean"),
        ("a: On", "'On' can mean a word"),
        ("a: 1\nb: 2\na: 3", "line 3, column 1: the key 'a' is repeated"),
        ("a:\n\tb: 1", "line 2, column 1: .*tab"),
        ("a: &x 1\nb: *x", "line 2, column 4: an alias"),
        ("a: !!python/object/apply:os.system ['true']", "line 1, column 4: a tag"),
        ("a: !!int x", "line 1, column 4: a tag"),
        ("- !!timestamp x", "line 1, column 3: a tag"),
        ("!!map x", "line 1, column 1: a tag"),
        ("? [1, 2]\n: 3", "a key must be a plain value"),
        ("a: [1", "line 1"),
        ("x" * (recipe.LARGEST + 1), "at most 1,000,000"),
        (
            "a: [" + "b, " * recipe.MOST_VALUES + "c]",
            "column 149996: .* at most 50,000 keys and values",
        ),
        ("a: " + "[" * 3000, "nested too deeply|line 1"),
    ],
)
def test_what_could_be_misread_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(BadRecipe, match=message):
        recipe.load(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"labels": ["x"] * recipe.MOST_VALUES}, "has 50,003 keys and values"),
        ({"labels": ["x" * 1_000] * 1_000}, "characters"),
    ],
)
def test_a_recipe_that_could_not_be_read_again_is_not_written(content: Any, message: str) -> None:
    with pytest.raises(BadRecipe, match=message):
        recipe.dump(content)


def test_the_largest_recipe_is_written_and_read() -> None:
    content = {"labels": ["x"] * (recipe.MOST_VALUES - 3)}
    assert recipe.load(recipe.dump(content)) == content


def test_an_alias_bomb_is_refused_before_it_is_built() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
    )
    with pytest.raises(BadRecipe, match="an alias"):
        recipe.load(bomb)


SPECIAL = (
    "\n\r\t \x00\x0b\x0c\x1b\x1c\x7f\x80\x85\x9f\xa0\xad"
    "\u200b\u2028\u2029\ud800\udfff\ue000\ufeff\ufffd\ufffe\uffff\U0001f600"
)
"""Characters that YAML or PyYAML treats in a special way: line breaks, controls, surrogates, byte order marks."""
characters = st.sampled_from(SPECIAL + ":#-?'\"\\&*!|>%@`[]{},~") | st.characters(exclude_categories=())
texts = st.text(characters)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
trees = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20)


@given(st.dictionaries(texts, trees))
@example({"\n\x85": None})
def test_what_is_dumped_is_read_back_the_same(content: dict[str, Any]) -> None:
    assert recipe.load(recipe.dump(content)) == content


@pytest.mark.parametrize("form", ["{0}", "\n{0}", "{0}\n", "a{0}\nb", "a {0} b", "\n\n{0}\n {0}", "{0}\n\nx"])
def test_every_special_character_is_read_back_beside_a_line_break(form: str) -> None:
    for character in {*SPECIAL, *map(chr, range(0x100)), *map(chr, range(0x2000, 0x2070))}:
        content = {form.format(character): form.format(character)}
        assert recipe.load(recipe.dump(content)) == content, ascii(content)


@given(st.text(characters, max_size=200))
def test_the_reader_fails_only_with_the_error_that_it_documents(text: str) -> None:
    try:
        recipe.load(text)
    except BadRecipe:
        return


def test_short_forms_mean_the_long_ones() -> None:
    short = recipe.parse(SMALL)
    assert short == recipe.parse(
        {**SMALL, "model": {"path": "m"}, "dataset": {"path": "d.csv"}, "strategy": {"name": "full"}}
    )
    assert short.dataset.path == "d.csv"
    files = recipe.parse({**SMALL, "dataset": {"train": "a.csv", "test": ["b.csv", "c.csv"]}})
    assert files.dataset.path == {"train": "a.csv", "test": ["b.csv", "c.csv"]}


def test_a_recipe_survives_its_own_spelling_out() -> None:
    read = recipe.parse(
        {**SMALL, "strategy": {"name": "lora", "r": 4}, "preprocessor": {"max_length": 9}, "metrics": ["a:b"]}
    )
    assert recipe.parse(recipe.load(recipe.dump(recipe.to_mapping(read)))) == read


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"taks": "t"}, "'taks' is not an option of Recipe. Did you mean 'task'"),
        ({"dataset": {"path": "x", "colums": {}}}, "recipe: dataset: 'colums' .* Did you mean 'columns'"),
        ({"model": {"pth": "x"}}, "recipe: model: 'pth' is not an option of Model. Did you mean 'path'"),
        ({"seed": "many"}, "seed: .*integer"),
        ({"strategy": {"r": 8}}, "strategy: .* is neither a name nor a mapping"),
        ({"dataset": {"path": "x", "on_bad": "ignore"}}, "on_bad: .*'error' or 'drop'"),
        ({"task": None}, "task: .*string"),
    ],
)
def test_a_wrong_key_is_an_error_that_names_section_and_nearest(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRecipe, match=message):
        recipe.parse({**SMALL, **change})


def test_overrides_replace_single_keys() -> None:
    read = recipe.parse(SMALL, ["training.learning_rate=3e-5", "model.revision=main", "seed=7", "strategy.r=4"])
    assert read.training == {"learning_rate": 3e-5}
    assert (read.model.path, read.model.revision, read.seed) == ("m", "main", 7)
    assert read.strategy.options == {"r": 4}
    assert SMALL["model"] == "m"


@pytest.mark.parametrize("override", ["training.learning_rate", "=3", "trainig.seed=3", "seed=no"])
def test_a_wrong_override_is_an_error(override: str) -> None:
    with pytest.raises(BadRecipe):
        recipe.parse(SMALL, [override])


def test_a_file_that_cannot_be_read_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="cannot read the recipe"):
        recipe.read(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"task: caf\xe9\n")
    with pytest.raises(BadRecipe, match="cannot read the recipe"):
        recipe.read(tmp_path / "latin.yaml")


class NoOptions:
    """A class of a plugin that is no dataclass."""


def test_a_class_that_is_no_dataclass_has_no_options() -> None:
    assert isinstance(options.build(NoOptions, {}, where="evaluator"), NoOptions)
    with pytest.raises(BadOptions, match=r"evaluator: 'beta' is not an option of NoOptions.*no options"):
        options.build(NoOptions, {"beta": 2}, where="evaluator")
    assert options.document(NoOptions) == []
    assert schema.of_class(NoOptions, name="mine")["properties"] == {"name": {"const": "mine"}}
    with trust.everything(), pytest.raises(BadOptions, match="is not a subclass of Evaluator"):
        options.rebuild({"class": "test_recipe:NoOptions", "options": {"beta": 2}}, where="evaluator")
