"""The site is built strictly: a dead link, a missing picture or a wrong docstring is an error."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from finetune import hookspecs
from finetune.recipe import Model, Recipe, Source

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_is_built_strictly(site):
    assert (site / "index.html").exists()


def test_the_successor_of_mkdocs_builds_the_same_pages(site, tmp_path: Path) -> None:
    """MkDocs 1 is at the end of its support; ProperDocs continues it, with the same configuration and plugins."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "properdocs",
            "build",
            "--strict",
            "-f",
            "mkdocs.yml",
            "--site-dir",
            str(tmp_path / "site"),
        ],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    built, others = ({page.relative_to(each) for page in each.rglob("*.html")} for each in (site, tmp_path / "site"))
    assert built == others and len(built) > 90


def test_nothing_on_the_site_is_fetched_from_elsewhere(site):
    """Fonts, scripts and pictures come with it: it works offline, and tells nobody who reads it."""
    fetched = [
        (page.relative_to(site), tag)
        for page in site.rglob("*.html")
        for tag in page.read_text(encoding="utf-8").split("<")
        if tag.startswith(("script", "img", 'link rel="stylesheet', "link href")) and '="http' in tag
    ]
    assert fetched == []


def test_the_tools_are_not_published(site):
    assert not list(site.rglob("_build"))


def test_the_reference_shows_every_command_hook_and_key(site):
    from finetune.cli import COMMANDS

    commands = (site / "reference/command-line/index.html").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f'id="finetune-{name}"' not in commands] == []
    hooks = (site / "reference/hooks/index.html").read_text(encoding="utf-8")
    assert [name for name in hookspecs.COLLECTING if f'id="finetune.hookspecs.{name}"' not in hooks] == []
    recipe = (site / "reference/recipe/index.html").read_text(encoding="utf-8")
    keys = [f"{cls.__name__}.{key.name}" for cls in (Recipe, Model, Source) for key in fields(cls)]
    assert [key for key in keys if f'id="finetune.recipe.{key}"' not in recipe] == []


def test_the_page_of_hooks_says_which_collect_and_which_notify(site):
    hooks = (site / "reference/hooks/index.html").read_text(encoding="utf-8")
    assert hooks.count("A collecting hook.") == len(hookspecs.COLLECTING) + 1  # and requirements
    assert hooks.count("A notification.") == 3
