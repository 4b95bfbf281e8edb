"""What tests share: fixtures, and the two profiles of Hypothesis.

* ``suite``, the default, draws the same examples in every run, so that a test never fails by chance.
* ``campaign`` draws new examples in every run, and more of them: ``pytest --hypothesis-profile=campaign tests/core``.
  The header of the run shows the seed; ``--hypothesis-seed=SEED`` repeats it. Run one after a change to code that a
  property test covers, and turn each failure into an ``@example`` of its test.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

settings.register_profile("suite", derandomize=True, database=None, deadline=None)
settings.register_profile("campaign", max_examples=1000, deadline=None, print_blob=True)
settings.load_profile("suite")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give a campaign a seed, before Hypothesis reads the option."""
    if config.getoption("--hypothesis-profile") == "campaign" and config.getoption("--hypothesis-seed") is None:
        config.option.hypothesis_seed = str(random.SystemRandom().randrange(2**32))


def pytest_report_header(config: pytest.Config) -> str | None:
    """Show the seed of a campaign."""
    if config.getoption("--hypothesis-profile") != "campaign":
        return None
    return f"campaign: repeat it with --hypothesis-seed={config.getoption('--hypothesis-seed')}"


@pytest.fixture(autouse=True)
def _modules_of_a_test(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Forget the modules that a test wrote: another test can have a module of the same name."""
    before, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    folder = str(tmp_path_factory.getbasetemp())
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(folder):
            del sys.modules[name]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data, which is not part of the repository."""
    folder = Path(os.environ.get("FINETUNE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"there is no real data in {folder}; FINETUNE_TEST_DATA can name another folder")
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny BERT with random weights and 400 tokens. Tests must not change it."""
    from finetune.testing.models import tiny_model
    from finetune.testing.tokenizers import tokenizer

    return tiny_model("bert", tokenizer("bert", vocab_size=400), tmp_path_factory.mktemp("tiny") / "bert")


@pytest.fixture(scope="session")
def toy_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the base model of the toy task. Tests must not change it."""
    import toy

    return toy.base(tmp_path_factory.mktemp("toy") / "bert", hidden_dropout_prob=0.1)


@pytest.fixture(scope="session")
def toy_run(toy_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run of the toy task. Tests must not change it."""
    import toy

    import finetune

    output = tmp_path_factory.mktemp("toy") / "run"
    finetune.train(**toy.recipe(toy_base, output))
    return output
