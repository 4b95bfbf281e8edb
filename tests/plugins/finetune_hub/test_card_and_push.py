"""A card whose every figure was measured, and a push that uploads the right files and no others."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from huggingface_hub import ModelCard

import finetune
from finetune.cli import main
from finetune.errors import BadOptions, BadRecipe
from finetune.evaluation import verdicts
from finetune.interfaces import Columns, Finding, Preprocessor
from finetune.recipe.options import rebuild
from finetune.result import Result
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune_hub import card as cards
from finetune_hub import portable, push, usage
from finetune_hub.facts import facts_of
from finetune_hub.hub_rules import card_problems, portable_adapter, repo_problem
from finetune_hub.markdown import fenced, plain, plain_paragraphs
from finetune_hub.testing import LocalHub

HERE = Path(__file__).parent
HOSTILE = "</a>|`x` # heading <script>alert(1)</script> ![i](http://x.y/z.png)"


@pytest.fixture
def hub() -> Iterator[Any]:
    made = LocalHub()
    yield made
    made.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    base = tiny_model("bert", tokenizer("bert", vocab_size=400), folder / "base")
    (base / "README.md").write_text(
        "---\nlicense: apache-2.0\nbase_model: skerrow/bert\n---\nA base.\n", encoding="utf-8"
    )
    rows = [
        {"text": f"{word} {n}", "label": label + HOSTILE}
        for n in range(20)
        for word, label in (("fog", "bad"), ("salt", "good"))
    ]
    finetune.train(
        task="text-classification",
        model=str(base),
        dataset={"train": rows, "validation": rows[:10], "test": rows},
        strategy="full",
        training={"max_steps": 3, "save_steps": 2, "learning_rate": 1e-3},
        card={"language": "en", "intended_use": "Sorting letters.\n\nNothing else."},
        output=str(folder / "run"),
    )
    return folder / "run"


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def test_the_library_of_the_hub_reads_the_metadata_as_they_were_meant(run: Path) -> None:
    data = ModelCard.load(run / "README.md").data
    result = Result.load(run)
    assert data.license == "apache-2.0"
    assert data.base_model == "skerrow/bert"
    assert data.base_model_relation == "finetune"
    assert data.pipeline_tag == "text-classification"
    assert data.library_name == "transformers"
    assert data.language == "en"
    assert data.metrics == ["accuracy"]
    found = {each.metric_type: each for each in data.eval_results}
    assert {name: each.metric_value for name, each in found.items()} == verdicts.shown(result.scores["test"])
    meant = {each.metric_type: each for each in cards.eval_results(result)}
    assert {name: (each.dataset_split, each.metric_args) for name, each in found.items()} == {
        name: (each.dataset_split, each.metric_args) for name, each in meant.items()
    }


def test_every_figure_of_the_scores_stands_in_the_result(run: Path) -> None:
    body = (run / "README.md").read_text(encoding="utf-8").split("## Scores")[1].split("## Data")[0]
    result = Result.load(run)
    known = {f"{value:.3f}" for value in _numbers(json.loads((run / "result.json").read_text(encoding="utf-8")))}
    figures = re.findall(r"(?<![\w.])\d+\.\d{3}(?!\d)", body)
    assert len(figures) > 20
    assert set(figures) <= known
    assert f"{result.scores['test']['accuracy']:.3f}" in figures


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _numbers(each)
    elif isinstance(value, list):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def test_how_to_use_it_runs_as_it_is_pasted(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cards.write(Result.load(run), run)
    code = re.findall(r"```python\n(.*?)\n```", (run / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(code) == 2
    exec(compile(code[0], "card", "exec"), {})
    assert "prediction" in capsys.readouterr().out
    exec(compile(code[1], "card", "exec"), {})
    assert "'label': " in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("strategy", ["lora", "ia3", "prompt"])
def test_an_adapter_for_three_classes_is_used_with_peft_alone(
    strategy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tiny_model("bert", tokenizer("bert", vocab_size=400), tmp_path / "base")
    rows = [{"text": f"{label} {n}", "label": label} for n in range(8) for label in ("fog", "rope", "salt")]
    finetune.train(
        task="text-classification",
        model=str(base),
        dataset={"train": rows, "test": rows},
        strategy=strategy,
        training={"max_steps": 2, "learning_rate": 1e-2},
        general_text="none",
        score_base_model=False,
        output=str(tmp_path / "run"),
    )
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    _, alone = re.findall(r"```python\n(.*?)\n```", card, re.DOTALL)
    assert "import finetune" not in alone
    capsys.readouterr()
    exec(compile(alone, "card", "exec"), {})
    (printed,) = ast.literal_eval(capsys.readouterr().out.strip().splitlines()[-1])
    ours = finetune.load(tmp_path / "run").predict(text="The ferry lands at noon.")
    assert printed["label"] == ours["prediction"]
    assert printed["score"] == pytest.approx(ours["probability"], abs=1e-5)
    assert f"The adapter needs its base model: {plain(str(base))}, a folder of the machine" in card
    cards.set_fields(tmp_path / "run", {"base_model": "skerrow/bert"})
    card = cards.card(Result.load(tmp_path / "run"), tmp_path / "run")
    assert "The adapter needs its base model" not in card
    assert str(base) not in card.split("## How to reproduce")[1]


def test_what_transformers_cannot_load_has_no_code_for_it(run: Path) -> None:
    assert usage.plain_code(Result.load(run), run, place="user/name") is not None
    (run / "model.safetensors").rename(run / "bottleneck_adapters.safetensors")
    assert usage.plain_code(Result.load(run), run, place="user/name") is None


@pytest.mark.parametrize(
    ("target", "example", "columns"),
    [
        ("finetune_trl.preference.dpo:DPOPreprocessor", {"prompt": "a", "chosen": "b", "rejected": "c"}, ["prompt"]),
        (
            "finetune_trl.preference.reward:RewardPreprocessor",
            {"prompt": "a", "chosen": "b", "rejected": "c"},
            ["prompt", "completion"],
        ),
        ("finetune_seq2seq.translation:TranslationPreprocessor", {"source": "a", "target": "b"}, ["source"]),
    ],
)
def test_how_to_use_it_gives_a_prediction_the_columns_that_the_task_reads(
    target: str, example: dict[str, str], columns: list[str]
) -> None:
    preprocessor = rebuild({"class": target, "options": {}}, where="preprocessor")
    assert cards.input_columns(preprocessor, example) == columns


class EitherColumnPreprocessor(Preprocessor):
    """Reads `question`, or `topic` with `audience`."""

    def needs(self) -> Columns:
        return Columns(optional=("topic", "question", "audience"), answers=("reply",))

    def check(self, examples: Any) -> Iterator[Finding]:
        for row, example in enumerate(examples):
            if not example.get("question") and not (example.get("topic") and example.get("audience")):
                yield Finding(code="no-form", message="neither form is complete", row=row)
            yield Finding(code="style", message="a warning is no reason to refuse", level="warning", row=row)

    def features(self, examples: Any, tokenizer: Any) -> Any:
        raise AssertionError("the card needs no features")


@pytest.mark.parametrize(
    ("example", "columns"),
    [
        ({"topic": "a", "audience": "b", "reply": "c"}, ["topic", "audience"]),
        ({"topic": "a", "question": "b", "reply": "c"}, ["question"]),
        ({"topic": "a", "reply": "c"}, ["topic", "question"]),
        ({}, ["question"]),
    ],
)
def test_of_several_forms_of_a_row_the_smallest_that_passes_the_check_is_shown(
    example: dict[str, str], columns: list[str]
) -> None:
    assert cards.input_columns(EitherColumnPreprocessor(), example) == columns


def test_a_section_of_a_plugin_replaces_none_of_the_card(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cards.card(Result.load(run), run)
    monkeypatch.setattr(cards, "_plugin_sections", lambda *_: iter([("Scores", "All perfect.")]))
    after = cards.card(Result.load(run), run)
    assert after == f"{before.rstrip()}\n\n## Scores\n\nAll perfect.\n"


def test_how_to_reproduce_it_is_the_recipe(run: Path) -> None:
    text = (run / "README.md").read_text(encoding="utf-8")
    written = re.findall(r"(`{3,})yaml\n(.*?)\n\1", text, re.DOTALL)[0][1]
    recipe = yaml.safe_load(written)
    assert recipe["training"]["max_steps"] == 3
    assert recipe["strategy"]["name"] == "full"


def test_hostile_data_stay_text(run: Path) -> None:
    text = (run / "README.md").read_text(encoding="utf-8")
    body = re.sub(r"(`{3,})\w+\n.*?\n\1", "", text.split("\n---\n", 1)[1], flags=re.DOTALL)
    assert "<script>" not in body
    assert "![i](" not in body
    assert "\n# heading" not in body
    assert "\\<script\\>" in body
    lines = [line for line in body.splitlines() if line.startswith("|")]
    cells = {
        len(re.split(r"(?<!\\)\|", line))
        for line in body.split("## Scores")[1].split("## Data")[0].splitlines()
        if line.startswith("|")
    }
    assert lines
    assert len(cells) == 1


@pytest.mark.parametrize("text", ["a\nb", "\u202eevil", "x" * 1000, "", "\\"])
def test_plain_text_stays_on_its_line(text: str) -> None:
    assert "\n" not in plain(text)
    assert "\u202e" not in plain(text)
    assert len(plain(text)) <= 700


def test_what_an_author_wrote_is_not_cut() -> None:
    said = "Sorting letters. " * 50
    assert plain_paragraphs(f"{said}\n\n{said}") == f"{said.strip()}\n\n{said.strip()}"


def test_a_fence_is_longer_than_any_in_it() -> None:
    assert fenced("a ```` b", "yaml").startswith("`````yaml\n")


def test_a_licence_that_is_not_stated_is_not_made_up(run: Path) -> None:
    content = json.loads((run / "result.json").read_text(encoding="utf-8"))
    base = Path(content["recipe"]["model"]["path"])
    (base / "README.md").rename(base / "moved.md")
    try:
        text = cards.card(Result.load(run), run)
        assert ModelCard(text).data.license is None
        assert "**Unknown.**" in text
        problems = list(push.find_problems(Result.load(run), run, push.files_to_upload(run, with_data=False)))
        assert problems == [f"its licence is unknown. State it: finetune card {run} license=apache-2.0"]
        done = CliRunner().invoke(main, ["card", str(run), "license=mit"])
        assert done.exit_code == 0, done.output
        assert ModelCard.load(run / "README.md").data.license == "mit"
        assert list(push.find_problems(Result.load(run), run, push.files_to_upload(run, with_data=False))) == []
    finally:
        (base / "moved.md").rename(base / "README.md")


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe-\0", b"---\n[1, 2]\n---\n", b"---\na: [\n---\n", b"---\na: 2026-99-99\n---\n",
     b"---\n" + b"[" * 9000 + b"\n---\n", b"---\n\0: a\n---\n", b"---\na: !!timestamp b\n---\n",
     b"---\na: !!bool b\n---\n", b"---\na: !!float ''\n---\n"],
)  # fmt: skip
def test_a_broken_card_of_the_base_model_states_nothing(content: bytes, run: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}", encoding="utf-8")
    (base / "README.md").write_bytes(content)
    result = Result.load(run)
    result = replace(result, recipe={**result.recipe, "model": {**result.recipe["model"], "path": str(base)}})
    assert facts_of(result, run).license is None


def test_a_credential_in_a_field_is_refused_and_not_written(run, monkeypatch):
    monkeypatch.setenv("MY_SERVICE_API_KEY", "of-the-environment")
    before = (run / "result.json").read_bytes()
    with pytest.raises(BadRecipe, match=r"card\.license looks like a credential"):
        cards.set_fields(run, {"license": "of-the-environment"})
    assert (run / "result.json").read_bytes() == before


def test_an_unknown_field_of_the_card_is_refused_with_the_nearest(run: Path) -> None:
    with pytest.raises(BadOptions, match=r"'licence' is unknown\. Did you mean 'license'"):
        cards.set_fields(run, {"licence": "mit"})


def test_an_unknown_card_field_of_a_recipe_is_refused_before_the_first_step(tmp_path: Path) -> None:
    base = tiny_model("bert", tokenizer("bert", vocab_size=400), tmp_path / "base")
    rows = [{"text": f"{n} boats", "label": "ab"[n % 2]} for n in range(8)]
    with pytest.raises(BadOptions, match=r"card: 'licence' is unknown\. Did you mean 'license'"):
        finetune.train(
            task="text-classification",
            model=str(base),
            dataset={"train": rows, "validation": rows},
            strategy="full",
            card={"licence": "mit"},
            output=str(tmp_path / "run"),
        )
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8") == ""


def environment(hub: Any) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    return {
        **kept,
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": "of-tests",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


def pushed(hub: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(HERE / "pusher.py"), *arguments], env=environment(hub), capture_output=True, text=True
    )


def test_a_push_is_one_commit_without_checkpoints_logs_or_rows(hub: Any, run: Path) -> None:
    done = pushed(hub, str(run), "skerrow/letters", "--private")
    assert done.returncode == 0, done.stderr
    assert len(hub.commits) == 1
    assert {"README.md", "config.json", "model.safetensors", "recipe.yaml", "tokenizer.json"} <= set(hub.files)
    assert not {"predictions.jsonl", "report.html", "log.jsonl", "training_args.bin"} & set(hub.files)
    assert not any("checkpoint" in name for name in hub.files)
    assert hub.files["model.safetensors"] == (run / "model.safetensors").read_bytes()
    assert "private" in json.dumps(hub.created[0])
    text = hub.files["README.md"].decode()
    assert "snapshot_download('skerrow/letters')" in text
    assert ModelCard(text).data.model_name == "letters"
    assert f"{hub.url}/skerrow/letters" in done.stdout


def test_what_was_pushed_predicts_and_holds_no_row_and_no_folder(hub: Any, run: Path, tmp_path: Path) -> None:
    assert Result.load(run).worst["test"]
    base = Result.load(run).recipe["model"]["path"]
    assert pushed(hub, str(run), "skerrow/letters").returncode == 0
    for name, content in hub.files.items():
        if not name.endswith(".safetensors"):
            assert Path(base).parent.name not in content.decode(), name
            assert str(run) not in content.decode(), name
    assert yaml.safe_load(hub.files["recipe.yaml"])["model"]["path"] == "./base"
    there = hub.download(tmp_path / "there")
    assert Result.load(there).worst["test"] == []
    one, other = (finetune.load(folder).predict(text="fog 3") for folder in (run, there))
    assert one == other


def test_a_failed_push_says_what_the_repository_holds_and_can_be_repeated(hub: Any, run: Path) -> None:
    hub.refuse = "/commit/"
    failed = pushed(hub, str(run), "skerrow/letters")
    assert failed.returncode == 1
    assert "the push to skerrow/letters failed" in failed.stderr
    assert "It is empty; a commit arrives completely or not at all" in failed.stderr
    hub.refuse = None
    before = sum(line.startswith("PUT") for line in hub.requests)
    done = pushed(hub, str(run), "skerrow/letters")
    assert done.returncode == 0, done.stderr
    assert sum(line.startswith("PUT") for line in hub.requests) == before  # the weights had arrived
    assert "model.safetensors" in hub.files


def test_what_must_not_be_uploaded_is_named_before_anything_is_sent(hub: Any, run: Path) -> None:
    (run / "extra.bin").write_bytes(b"\x80\x04")
    (run / "notes.txt").write_text("token = hf_" + "a1B2" * 9, encoding="utf-8")
    (run / "link.json").symlink_to(run / "config.json")
    done = pushed(hub, str(run), "skerrow/letters")
    assert done.returncode == 2
    assert "extra.bin is a pickle" in done.stderr
    assert "notes.txt holds what looks like a token" in done.stderr
    assert "link.json is a link" in done.stderr
    assert hub.requests == []


@pytest.mark.parametrize(
    ("name", "begin"), [("scaler.joblib", b""), ("weights", b"\x80\x04"), ("w.dat", b"PK\x03\x04")]
)
def test_a_pickle_is_known_by_its_name_or_by_how_it_begins(run: Path, name: str, begin: bytes) -> None:
    (run / name).write_bytes(begin + b"rest")
    problems = list(push.find_problems(Result.load(run), run, push.files_to_upload(run, with_data=False)))
    assert problems == [f"{name} is a pickle, which can run code when it is loaded. Remove it."]


CARD_FIELDS = [
    ({"license": "Apache License: 2.0"}, "its licence is 'Apache License: 2.0', which is not in the list"),
    ({"license": "Apache-2.0"}, "Did you mean 'apache-2.0'"),
    ({"license": "my-own"}, "license=other license_name=… license_link=…"),
    ({"license": "other"}, "its licence is 'other', without license_name and license_link"),
    ({"license": "other", "license_name": "sea-licence"}, "'other', without license_link"),
    ({"language": "English"}, "its language is 'English', which is not a code of ISO 639"),
    ({"language": ["en", "Deutsch"]}, "its language is 'Deutsch'"),
    ({"license": ["mit", "apache-2.0"]}, "its licence is ['mit', 'apache-2.0'], and the Hub takes one"),
    ({"base_model": "/models/bert"}, "its base_model is '/models/bert', which is not an id on the Hub"),
]
SOUND_FIELDS = [
    {"license": "mit"},
    {"license": "other", "license_name": "sea-licence", "license_link": "LICENSE"},
    {"language": "en"},
    {"language": "en,pt-BR"},
    {"language": "en,"},
    {"language": ["deu", "multilingual"]},
    {"base_model": "skerrow/bert"},
]


@pytest.mark.parametrize(("fields", "message"), CARD_FIELDS)
def test_what_the_hub_refuses_in_a_card_is_named(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    (problem,) = card_problems(fields, fields.get("license", "mit"), tmp_path)
    assert message in problem


@pytest.mark.parametrize("fields", SOUND_FIELDS)
def test_what_the_hub_takes_is_no_problem(fields: dict[str, Any], tmp_path: Path) -> None:
    assert not list(card_problems(fields, fields.get("license", "mit"), tmp_path))


@pytest.mark.parametrize("name", ["one", "a/b/c", "not a repo id", "a/-b", "a/b--c", "a/b..c", "a/b.git", "/b", "a/"])
def test_a_name_that_the_hub_refuses_is_no_repository(name: str) -> None:
    assert "is not the name of a repository" in str(repo_problem(name))
    assert repo_problem("skerrow/bert_2.0-a") is None


def test_an_adapter_on_a_folder_of_this_machine_needs_the_id_of_its_base(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "/models/bert", "r": 4}')
    (problem,) = card_problems({}, "mit", tmp_path)
    assert problem.startswith("adapter_config.json names a folder of this machine as the base model (/models/bert)")
    stated = {"base_model": "skerrow/bert"}
    assert not list(card_problems(stated, "mit", tmp_path))
    wanted = {"base_model_name_or_path": "skerrow/bert", "r": 4}
    assert json.loads(portable_adapter(tmp_path, stated)) == wanted


def test_prompt_tuning_names_the_stated_id_as_its_tokenizer_too(tmp_path: Path) -> None:
    content = {"base_model_name_or_path": "/usr/share/bert", "tokenizer_name_or_path": "/usr/share/bert"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(content))
    assert set(json.loads(portable_adapter(tmp_path, {"base_model": "skerrow/bert"})).values()) == {"skerrow/bert"}


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("/usr/share/bert", True),
        ("~/bert", True),
        ("/no_think", False),
        ("/people/person", False),
        ("skerrow/bert", False),
        ("./bert", False),
        ("package:tiny/model", False),
        ("/usr/share\nand a text", False),
    ],
)
def test_only_a_path_of_this_machine_is_one(text: str, is_one: bool) -> None:
    assert portable.is_path(text) is is_one
    assert portable.is_path(str(portable.relative({"a": [text]})["a"][0])) is False


def test_a_shared_result_names_the_stated_base_model_and_keeps_the_words_of_the_author(run: Path) -> None:
    result = Result.load(run)
    section = {"base_model": "skerrow/bert", "limits": "/usr/share is not read."}
    shared = portable.without_paths(replace(result, recipe={**result.recipe, "card": section}))
    assert shared.recipe["model"]["path"] == "skerrow/bert"
    assert shared.recipe["card"] == section
    assert portable.without_paths(result).recipe["model"]["path"] == "./base"


def test_an_adapter_is_not_one_of_the_base_model_of_its_base_model(run: Path) -> None:
    result = Result.load(run)
    assert facts_of(result, run).base_model == "skerrow/bert"  # stated by the card of the base model
    assert result.recipe["model"]["path"] in cards.card(result, run).split("## How to reproduce")[1]
    (run / "adapter_config.json").write_text('{"task_type": "SEQ_CLS"}')
    assert facts_of(result, run).base_model is None


def test_the_card_of_a_merged_run_says_how_it_was_made(run: Path) -> None:
    result = Result.load(run)
    strategy = {"name": "finetune_peft.merging:MergedStrategy", "trained_by": {"name": "lora"},
                "trained_on": {**result.recipe["model"], "revision": "a1"}}  # fmt: skip
    merged = replace(result, recipe={**result.recipe, "strategy": strategy})
    text = cards.card(merged, run).split("## How to reproduce")[1]
    assert "with this recipe, and then `finetune merge run`, on Python" in text
    recipe = yaml.safe_load(re.findall(r"(`{3,})yaml\n(.*?)\n\1", text, re.DOTALL)[0][1])
    assert recipe["strategy"] == {"name": "lora"}
    assert recipe["model"]["revision"] == "a1"


def test_a_licence_with_a_name_reaches_the_metadata_and_the_card_says_what_is_not_ready(run: Path) -> None:
    done = CliRunner().invoke(main, ["card", str(run), "license=other", "license_name=sea-licence"])
    assert done.exit_code == 0, done.output
    assert done.stderr.startswith("not ready to push: its licence is 'other', without license_link.")
    done = CliRunner().invoke(main, ["card", str(run), "license_link=LICENSE"])
    assert "not ready" not in done.output
    data = ModelCard.load(run / "README.md").data
    assert (data.license, data.license_name, data.license_link) == ("other", "sea-licence", "LICENSE")


def test_the_python_path_of_a_strategy_is_no_tag(run: Path) -> None:
    result = Result.load(run)
    named = replace(result, recipe={**result.recipe, "strategy": {"name": "my_module:Bitfit"}})
    facts = facts_of(named, run)
    assert cards.metadata(named, facts, name="x").tags == ["finetune-kit", "text-classification"]


def test_signatures_of_scores_stand_on_the_card(run: Path) -> None:
    result = Result.load(run)
    split = next(split for split in ("test", "validation") if split in result.scores)
    signed = replace(result, details={split: {"signature": {"bleu": "nrefs:1|tok:zh"}}})
    assert "bleu" in cards.card(signed, run) and "tok:zh" in cards.card(signed, run)


def test_check_lists_what_would_be_uploaded(run: Path) -> None:
    done = CliRunner().invoke(main, ["push", str(run), "skerrow/letters", "--check"])
    assert done.exit_code == 0, done.output
    assert "model.safetensors" in done.output.split()
    assert "predictions.jsonl" not in done.output.split()
    with_data = CliRunner().invoke(main, ["push", str(run), "skerrow/letters", "--check", "--with-data"])
    assert "predictions.jsonl" in with_data.output.split()


def test_a_token_is_found_across_the_pieces_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "_CHUNK", 16)
    path = tmp_path / "a.txt"
    path.write_text("x" * 10 + "hf_" + "Q" * 34 + "y", encoding="utf-8")
    assert push.holds_token(path)
    path.write_text("hf_short and nothing else", encoding="utf-8")
    assert not push.holds_token(path)


def test_a_name_that_is_no_repository_is_refused(run: Path) -> None:
    with pytest.raises(push.NotReady, match="Write user/name"):
        push.push(run, "letters")


@pytest.mark.parametrize(
    ("base", "is_id"), [("gpt2", True), ("skerrow/bert", True), ("/models/bert", False), ("./x", False)]
)
def test_an_adapter_of_an_old_id_without_a_user_can_be_pushed(base: str, is_id: bool, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    problems = [each for each in card_problems({}, "mit", tmp_path) if "base model" in each]
    assert bool(problems) == (not is_id)
