"""No code block slips past the tests.

Sybil takes a block only where the fence is followed by exactly the language: a word more, and it is skipped without a
word.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
import tutorials

from finetune import hookspecs
from finetune.data.findings import CODES
from finetune.plugins import discover

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
HAND_WRITTEN = [page for page in PAGES if not page.with_suffix(".py").exists()]

RUN = {"python", "console"}
"""What conftest.py executes."""
SHOWN = {"text", "yaml", "toml", "json", "jsonl", "csv", "bash"}
"""What is only shown, or written to the file that its title names."""
FENCE = re.compile(r"^[ \t]*(?P<ticks>`{3,}|~{3,})(?P<info>.*)$", re.MULTILINE)
TITLED = re.compile(r'(\w+) title="[\w./-]+"')


def fences(text: str) -> list[str]:
    """Return what follows every opening fence; a fence inside a longer one opens nothing."""
    found, open_with = [], ""
    for fence in FENCE.finditer(text):
        ticks, info = fence["ticks"], fence["info"].strip()
        if not open_with:
            found.append(info)
            open_with = ticks
        elif ticks.startswith(open_with) and not info:
            open_with = ""
    return found


def unknown(info: str) -> bool:
    titled = TITLED.fullmatch(info)
    return (titled[1] if titled else info) not in RUN | SHOWN


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_fence_of_a_hand_written_page_is_run_or_known_to_be_only_shown(page):
    assert [info for info in fences(page.read_text(encoding="utf-8")) if unknown(info)] == []


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_skipped_block_says_why(page):
    skips = re.findall(r"<!--+ *skip: *(.*?)-->", page.read_text(encoding="utf-8"))
    assert [skip for skip in skips if not re.search(r'"[^"]+"', skip)] == []


def test_a_fence_that_sybil_would_skip_is_found():
    text = "```python\n1\n```\n\n````text\n```pycon\n````\n\n``` python hl_lines=1\n1\n```\n\n```\n```\n"
    assert [info for info in fences(text) if unknown(info)] == ["python hl_lines=1", ""]
    assert not unknown('yaml title="recipe.yaml"')
    assert unknown('yaml title="recipe.yaml" linenums="1"')


def test_every_hook_stands_in_the_reference_with_its_exact_signature():
    page = (ROOT / "docs/reference/hooks.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `(\w+\(.*?)` \|", page, re.MULTILINE)
    assert sorted(documented) == sorted(name + signature for name, signature in hooks().items())


def test_the_collecting_hooks_are_those_that_discovery_calls():
    collecting = {name for name, signature in hooks().items() if not signature.endswith("-> None")}
    # requirements() brings no names: it says what the names of the others need
    assert collecting == {*hookspecs.COLLECTING, "requirements"}
    notifying = set(hooks()) - collecting
    assert all(name.startswith(("before_", "after_")) for name in notifying)


def hooks() -> dict[str, str]:
    specs = {name: value for name, value in vars(hookspecs).items() if hasattr(value, "finetune_spec")}
    # Annotations are strings here; a signature prints them in quotes.
    return {name: str(inspect.signature(spec)).replace("'", "") for name, spec in specs.items()}


OTHER_WORDS = {"prompt-completion"}
"""Words of plugins that look like a finding's code: TRL's name of a form."""


def test_every_code_of_a_finding_stands_in_the_reference_with_its_meaning():
    page = (ROOT / "docs/reference/findings.md").read_text(encoding="utf-8")
    documented = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (.*) \|$", page, re.MULTILINE))
    assert {code: documented.get(code) for code in CODES} == CODES
    words = words_of_plugins()
    kebab = {word for word in words if re.fullmatch(r"[a-z]+(-[a-z]+)+", word)}
    assert kebab - names_of_plugins() - set(documented) - OTHER_WORDS == set()
    ends = tuple(word for word in words if word.startswith("-"))  # f"{column}-empty"
    theirs = set(documented) - set(CODES)
    assert [code for code in theirs if code not in words and not code.endswith(ends)] == []


def words_of_plugins() -> set[str]:
    """Return every string in the code of those of our plugins that make findings."""
    packages = [sorted(folder.rglob("*.py")) for folder in (ROOT / "plugins").iterdir()]
    packages.append([ROOT / "finetune/data/text_checks.py"])  # the findings of `finetune.kit.check_text`
    sources = [[path.read_text(encoding="utf-8") for path in package] for package in packages]
    trees = [ast.parse(text) for package in sources if any("Finding(" in text for text in package) for text in package]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def names_of_plugins() -> set[str]:
    return {name for catalogue in discover().catalogues.values() for name in catalogue.targets}


@pytest.mark.parametrize("script", tutorials.scripts(), ids=lambda script: script.stem)
def test_every_tutorial_says_what_it_teaches_and_where_to_go_next(script):
    source = script.read_text(encoding="utf-8")
    intro = ast.get_docstring(ast.parse(source)) or ""
    assert "You will learn" in intro
    assert "You need" in intro
    assert "Next steps" in source.rpartition("# %%")[2]
