"""What a report shows of any data: chats, pairs, marked words, intervals on an axis; readable and safe for everyone."""

from __future__ import annotations

import math
import re
from dataclasses import fields, replace
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune import report
from finetune.cli import main
from finetune.evaluation.comparison import Compared, Comparison
from finetune.progress import Phase
from finetune.report import axes, charts, examples, facts
from finetune.result import Result

PROMPT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "When does the ferry leave?"}]
ANSWER = [{"role": "assistant", "content": "At nine."}]


def result_of(*errors: dict[str, Any], **changed: Any) -> Result:
    """Return the result of a run that never happened, with these worst errors of test."""
    bounds = {"low": 0.6, "high": 0.9}
    content: dict[str, Any] = {each.name: {} for each in fields(Result)}
    content |= {
        "recipe": {
            "task": "classify", "strategy": {"name": "lora", "r": 8}, "model": {"path": "base"}, "seed": 1,
            "training": {}, "dataset": {"path": "reviews.csv"}, "output": "runs/one",
        },
        "scores": {"test": {"f1": 0.8, "accuracy": 0.7, "total": 40.0, "f1/good": 0.9, "f1/bad": 0.7}},
        "base_model_scores": {"test": {"f1": 0.2}},
        "baselines": {"test": {"majority": {"f1": 0.3}}},
        "intervals": {"test": {"f1": bounds}},
        "units": {"test": {"size": 40, "column": None}},
        "differences": {"test": {"base_model": {"f1": {"value": 0.6, "low": 0.4, "high": 0.7}}}},
        "slices": {"test": {"length": [{"value": "short", "size": 9, "score": 0.7, **bounds}]}},
        "worst": {"test": [{"index": n, "loss": 1.0, "highlights": {}, **each} for n, each in enumerate(errors)]},
        "forgetting": {"not_measured": "there is no text"},
        "preprocessor": {"class": "a:A", "options": {}}, "evaluator": {"class": "a:A", "options": {}},
        "environment": {"python": "3.11", "versions": {}}, "fingerprints": {"train": "a", "test": "b"},
        "details": {"test": {"labels": ["good", "bad"], "confusion_matrix": [[3, 1], [0, 4]], "support": {"good": 4}}},
        "primary": "f1", "greater_is_better": True, "selection_split": None,
        "scales": {"f1": "0 to 1", "total": "rows"},
        "data_report": {"train": {"kept": 60}, "test": {"kept": 40}},
        "trainable_parameters": 10, "total_parameters": 100, "newly_initialized": [], "steps": 8,
        "log": [{"step": n, "loss": 1 / n, "learning_rate": 1e-4, "grad_norm": 1.0} for n in range(1, 9)],
        "phases": [Phase(name="train", seconds=75.0, peak_memory_mb=900.0)],
        "saved_bytes": 0, "notes": [], "resumed_from": None, "adopted_from": None,
        "started": "2026-01-02T03:04:05+00:00", "directory": "",
        "format": 3,
    }  # fmt: skip
    return Result(**{**content, **changed})


def shown(error: dict[str, Any]) -> dict[str, Any]:
    return examples.view({"index": 0, "loss": 1.0, "highlights": {}, **error}, split="test")


def text_of(passage: dict[str, Any]) -> str:
    return "".join(piece["text"] for piece in passage["pieces"])


def said(view: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the turns of a view, then its answers: who or what, and the text."""
    found = [(turn["side"], text_of(turn["text"])) for turn in view["turns"]]
    for answer in view["answers"]:
        texts = [text_of(turn["text"]) for turn in answer["turns"]] or [text_of(answer["text"])]
        found.append((answer["title"], "\n".join(texts)))
    return found


ASKED = [("system", "Be brief."), ("user", "When does the ferry leave?")]
PAIR = [*ASKED, ("chosen", "At nine."), ("rejected", "Late.")]
LATE = [{"role": "assistant", "content": "Late."}]
PREFERS = {"prediction": "rejected", "reference": "chosen", "chosen_reward": 0.1, "rejected_reward": 0.4}
CONVERSATIONS: list[tuple[dict[str, Any], dict[str, Any], list[tuple[str, str]]]] = [
    ({"prompt": PROMPT, "chosen": ANSWER, "rejected": LATE}, PREFERS, PAIR),
    ({"chosen": PROMPT + ANSWER, "rejected": PROMPT + LATE}, PREFERS, PAIR),
    ({"prompt": "Hi?", "chosen": "Yes.", "rejected": "No."}, PREFERS,
     [("user", "Hi?"), ("chosen", "Yes."), ("rejected", "No.")]),
    ({"prompt": "Hi?", "completion": "Yes.", "label": False}, {"prediction": True, "reference": False, "reward": 0.2},
     [("user", "Hi?"), ("labelled undesirable", "Yes.")]),
    ({"messages": PROMPT + ANSWER}, {"prediction": "At ten.", "reference": "At nine.", "nll": 2.0},
     [*ASKED, ("prediction", "At ten."), ("reference", "At nine.")]),
    ({"messages": PROMPT + ANSWER}, {"prediction": None, "reference": "At nine."}, [*ASKED, ("reference", "At nine.")]),
    ({"conversations": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Yes."}]},
     {"prediction": "No.", "reference": "Yes."}, [("user", "Hi?"), ("prediction", "No."), ("reference", "Yes.")]),
    ({"prompt": "Hi?", "completion": "Yes."}, {"prediction": "No.", "reference": "Yes."},
     [("user", "Hi?"), ("prediction", "No."), ("reference", "Yes.")]),
    ({"prompt": "Hi?"}, {"prediction": "No.", "reference": None, "reward": 0.5},
     [("user", "Hi?"), ("prediction", "No.")]),
    ({"text": "Cold soup.", "label": "bad"}, {"prediction": "good", "reference": "bad", "probability": 0.8},
     [("prediction", "good"), ("reference", "bad")]),
    ({"text": "Cold soup."}, {"prediction": "", "reference": []},
     [("prediction", "(nothing)"), ("reference", "(nothing)")]),
]  # fmt: skip


@pytest.mark.parametrize(("example", "record", "expected"), CONVERSATIONS)
def test_an_example_is_shown_as_what_it_is(example: Any, record: Any, expected: Any) -> None:
    view = shown({"example": example, "record": record})
    assert said(view) == expected
    html = report.page(result_of({"example": example, "record": record}))
    assert "&#34;role&#34;" not in html, "messages are turns, not JSON"


def test_a_pair_says_which_answer_the_model_prefers_and_its_rewards() -> None:
    chosen, rejected = shown({"example": {"prompt": "Hi?", "chosen": "Yes.", "rejected": "No."}, "record": PREFERS})[
        "answers"
    ]
    assert (chosen["note"], rejected["note"]) == ("reward 0.100", "the model prefers this, reward 0.400")


def test_calls_of_tools_and_parts_of_contents_are_shown() -> None:
    parts = [{"type": "text", "text": "Two "}, {"type": "text", "text": "parts."}]
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "tide", "arguments": {"at": "Kalvø"}}}]}
    view = shown({"example": {"messages": [{"role": "user", "content": parts}, call]}, "record": {"prediction": None}})
    assert said(view)[0][1] == "Two parts."
    assert "tide" in said(view)[1][1] and "Kalvø" in said(view)[1][1]


def test_the_probabilities_of_labels_and_of_choices_are_shown_as_shares() -> None:
    labels = {"prediction": "bad", "reference": "good", "probabilities": {"good": 0.3, "bad": 0.7}}
    view = shown({"example": {"text": "Fine."}, "record": labels})
    assert [(each["name"], each["note"], each["percent"]) for each in view["shares"]] == [
        ("bad", "", 70.0), ("good", "the right answer", 30.0),
    ]  # fmt: skip
    choice = {"prediction": "Fog", "reference": "Rain", "probabilities": [0.6, 0.4]}
    view = shown({"example": {"question": "What?", "choices": ["Fog", "Rain"]}, "record": choice})
    assert [each["name"] for each in view["shares"]] == ["Fog", "Rain"]
    assert [name for name, _ in view["columns"]] == ["question"]


def test_entities_are_marked_in_the_text_once_for_the_prediction_and_once_for_the_reference() -> None:
    spans = [[0, 2, "prediction:PER"], [1, 2, "reference:PER"], [3, 4, "reference:LOC"]]
    record = {"prediction": [{"entity": "PER"}], "reference": [{"entity": "PER"}, {"entity": "LOC"}]}
    error = {
        "example": {"tokens": ["Zoë", "Moreau", "left", "Kalvø"]},
        "record": record,
        "highlights": {"tokens": spans},
    }
    (predicted, first), (right, second) = shown(error)["columns"]
    assert (predicted, right) == ("tokens, prediction", "tokens, reference")
    marked = [
        [(piece["text"], piece["label"]) for piece in side["pieces"] if piece["kinds"]] for side in (first, second)
    ]
    assert marked == [[("Zoë Moreau", "PER")], [("Moreau", "PER"), ("Kalvø", "LOC")]]
    assert text_of(first) == text_of(second) == "Zoë Moreau left Kalvø"
    assert shown(error)["answers"] == []


@given(
    st.text(max_size=40),
    st.lists(
        st.tuples(st.integers(-3, 45), st.integers(-3, 45), st.sampled_from(["prediction", "reference:A"])), max_size=4
    ),
)
def test_the_pieces_of_a_text_are_the_text_and_each_mark_covers_its_span(text: str, spans: list[Any]) -> None:
    pieces = examples.segments(text, spans)
    assert "".join(piece["text"] for piece in pieces) == text
    marked = "".join(("x" if piece["kinds"] else ".") * len(piece["text"]) for piece in pieces)
    covered = {place for start, end, _ in spans for place in range(max(start, 0), min(end, len(text)))}
    assert marked == "".join("x" if place in covered else "." for place in range(len(text)))


def test_a_long_text_is_folded_around_its_marks_and_can_be_read_whole() -> None:
    text = "a" * 5000 + "HERE" + "b" * 5000
    folded = examples.passage(text, [[5000, 5004, "reference"]])
    assert "HERE" in text_of(folded) and len(text_of(folded)) < examples.LONG
    assert "".join(piece["text"] for piece in folded["whole"]) == text
    assert examples.passage("short")["whole"] == []
    html = report.page(result_of({"example": {"text": text}, "record": {"prediction": "x", "reference": "y"}}))
    assert "All 10,004 characters" in html


PLACES: list[tuple[Any, str]] = [
    (None, "row 4 of test"),
    ({"file": "a.csv", "line": 12}, "a.csv, line 12"),
    ({"file": "a.parquet", "row": 0}, "a.parquet, row 0"),
    ({"file": "a.json", "line": 1, "path": "data[3]", "id": 0}, "a.json, line 1, data[3], id 0"),
    ({"id": "b7"}, "row 4 of test, id b7"),
    ({"row": 9, "split": "test"}, "row 4 of test"),
    ("a later form", "row 4 of test"),
]


@pytest.mark.parametrize(("place", "expected"), PLACES)
def test_an_error_names_the_file_the_line_and_the_id_of_its_row_if_they_are_known(place: Any, expected: str) -> None:
    assert examples.place_of({"index": 4, "place": place}, split="test") == expected


# --- axes and charts --------------------------------------------------------------------------------------------------

NUMBERS = st.floats(-1e9, 1e9) | st.sampled_from([math.nan, math.inf, -math.inf, 0.0])


@st.composite
def points(draw: Any) -> list[axes.Point]:
    found = []
    for number in range(draw(st.integers(1, 5))):
        value, width = draw(NUMBERS), draw(st.floats(0, 1e6))
        bounds = {"low": value - width, "high": value + width} if draw(st.booleans()) else None
        found.append(axes.Point(name=str(number), value=value, bounds=bounds))
    return found


@given(points(), st.none() | NUMBERS)
def test_points_lie_on_the_axis_in_their_order_with_their_intervals_around_them(given: Any, mark: float | None) -> None:
    panel = axes.panel(given, mark=mark)
    finite = [point for point in given if math.isfinite(point.value)]
    if not finite:
        assert panel is None
        return
    assert panel is not None
    places = [row["at"] for row in panel["rows"]]
    assert len(places) == len(finite) and all(0 <= place <= 100 for place in places)
    by_value = sorted(zip(finite, places, strict=True), key=lambda each: each[0].value)
    assert all(one <= other for (_, one), (_, other) in pairwise(by_value))
    for row in panel["rows"]:
        if row["low_at"] is not None:
            assert -0.01 <= row["low_at"] <= row["at"] + 0.01 and row["at"] <= row["low_at"] + row["width"] + 0.02
    assert len(panel["ticks"]) <= 5 and all(0 <= tick["at"] <= 100 for tick in panel["ticks"])
    assert len({tick["text"] for tick in panel["ticks"]}) == len(panel["ticks"])


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_an_axis_has_two_to_five_round_ticks_inside_it(low: float, width: float) -> None:
    found = axes.ticks(low, low + width)
    if width > 1e-6 * abs(low):
        assert 2 <= len(found) <= 5
        assert all(low <= number <= low + width for number, _ in found)
        assert all(float(text.replace(",", "")) == pytest.approx(number, rel=1e-6, abs=1e-9) for number, text in found)


def test_the_curves_are_the_loss_the_score_the_rate_and_the_norm_and_no_clock_or_class() -> None:
    log: list[dict[str, Any]] = [{"step": n, "epoch": n / 9, "loss": 1 / n, "learning_rate": 1e-4, "grad_norm": 1.0,
                                  "rewards/chosen": n} for n in range(1, 10)]  # fmt: skip
    log += [{"step": n, "eval_loss": 1.0, "eval_f1": 0.5, "eval_f1/cat": 0.5, "eval_runtime": 3.0, "eval_mae": math.nan}
            for n in (3, 6, 9)]  # fmt: skip
    log += [{"step": 9, "train_loss": 0.4, "train_runtime": 9.0, "total_flos": 1e9}]
    found = charts.curves(log, primary="f1")
    assert [title for title, _ in found] == ["Loss", "f1", "Learning rate", "Gradient norm", "rewards/chosen"]
    loss = str(found[0][1])
    assert 'aria-label="Loss by step: train from 1.000 at step 1 to 0.111 at step 9; validation' in loss
    labels = re.findall(r">([\d.]+)</text>", loss[: loss.index(">step<")])
    assert labels and all(float(label).is_integer() for label in labels), "steps are whole"
    assert charts.curves(log[:1], primary="f1") == []


def test_a_link_leads_to_the_run_folder_from_wherever_the_page_is(tmp_path: Path) -> None:
    assert report.path_to(tmp_path / "run", tmp_path / "run" / "report.html") == ""
    assert report.path_to(tmp_path / "run", tmp_path / "pages" / "one.html") == "../run"
    assert facts.files("")[0]["href"] == "./predictions.jsonl"
    assert facts.files("../my run")[0]["href"] == "./../my%20run/predictions.jsonl"
    assert facts.files("javascript:alert(1)")[0]["href"].startswith("./javascript%3A")
    run = tmp_path / "run"
    run.mkdir()
    result_of().save(run)
    done = CliRunner().invoke(main, ["report", str(run), "--output", str(tmp_path / "one.html")])
    assert done.exit_code == 0, done.output
    assert 'href="./run/recipe.yaml"' in (tmp_path / "one.html").read_text(encoding="utf-8")


def test_counts_are_listed_apart_from_scores_and_classes_have_their_table() -> None:
    html = report.page(result_of())
    assert "total: 40 rows" in html
    assert re.search(r'<th scope="row">total', html) is None
    assert re.search(r'<th scope="row">f1 <small>0 to 1</small>', html)
    assert re.search(r'<th scope="row">good</th><td class="n" data-label="rows">4</td>', html)
    assert "f1/good" not in html.split("Everything else</h2>")[0]


# --- for everyone -----------------------------------------------------------------------------------------------------


class Outline(HTMLParser):
    """Keeps what a screen reader and a keyboard need of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.levels: list[int] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.unnamed: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.attributes |= set(given)
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "a":
            self.links.append(given["href"])
        if (tag == "svg" and not given.get("aria-label")) or (tag == "th" and not given.get("scope")):
            self.unnamed.append(self.get_starttag_text() or tag)


@cache
def every_page() -> dict[str, str]:
    errors = [{"example": example, "record": record} for example, record, _ in CONVERSATIONS]
    bounds = {"low": 0.1, "high": 0.3}
    runs = [
        Compared(run=f"runs/{name}", score=0.5, interval=bounds, difference=difference, verdict=verdict, steps=1,
                 trainable_parameters=1, total_parameters=2, training_seconds=1.0, peak_memory_mb=1.0, saved_bytes=1)
        for name, difference, verdict in (("a", None, "first"), ("b", {"value": 0.2, **bounds}, "better"),
                                          ("c", {"value": 0.01, "low": -0.1, "high": 0.1}, "inconclusive"))
    ]  # fmt: skip
    compared = Comparison(
        split="test", primary="f1", greater_is_better=True, size=9, runs=runs, recipes={"seed": [1, 2, 3]}
    )
    calibrated = {"bins": [{"confidence": 0.8, "accuracy": 0.7, "size": 3}], "ece": 0.1}
    details = {"test": {**result_of().details["test"], "calibration": calibrated}}
    measure = {"value": 0.1, "low": 0.05, "high": 0.2}
    quality = {"nll": {"value": 0.4}, "ece": measure, "brier": measure, "bins": calibrated["bins"]}
    answered = [
        {"coverage": 1.0, "probability": 0.5, "right": 0.7},
        {"coverage": 0.7, "probability": 0.9, "right": 0.9},
    ]
    temperature = {
        "temperature": 1.5, "fitted": 1.5, "reason": "It helps.", "rows": 40, "improvement": measure, "sets": {},
        "splits": {"test": {"decisions": 40, "before": quality, "after": quality, "answered": answered}},
    }  # fmt: skip
    leaked = {"rows": 40, "exact": 0, "normalized": 0, "near": 1, "columns": ["text"],
              "pairs": [{"similarity": 0.9, "text": "a", "train": "b"}]}  # fmt: skip
    return {
        "report": report.page(
            result_of(
                *errors, details=details, calibration=temperature, leakage={"test": leaked}, findings={"ragged-row": 2}
            )
        ),
        "bare": report.page(result_of(scores={}, worst={}, slices={}, differences={}, details={}, log=[])),
        "comparison": report.comparison_page(compared),
    }


@pytest.mark.parametrize("name", ["report", "bare", "comparison"])
def test_a_page_can_be_read_with_a_screen_reader_and_a_keyboard(name: str) -> None:
    html = every_page()[name]
    outline = Outline(html)
    assert '<html lang="en">' in html and "<title>" in html
    assert outline.levels[:1] == [2] and outline.levels.count(1) == 1, "the contents, then one title"
    assert all(later - earlier <= 1 for earlier, later in pairwise(outline.levels[1:]))
    assert len(outline.ids) == len(set(outline.ids)), "an id is unique"
    assert {link[1:] for link in outline.links if link.startswith("#")} <= set(outline.ids)
    assert outline.unnamed == []
    assert "caption" in outline.tags and outline.tags.count("table") == outline.tags.count("caption")
    assert "script" not in outline.tags


def test_the_comparison_says_in_words_which_run_is_better() -> None:
    html = every_page()["comparison"]
    assert "b is better than a: its f1 is 0.200 higher (95% interval of the difference +0.100 to +0.300)." in html
    assert "It is not clear whether c is better or worse than a" in html


def test_every_text_has_enough_contrast_in_light_and_in_dark() -> None:
    style = (Path(str(report.__file__)).parent / "base.html").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    for block in (light, dark):
        colour = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
        pairs = [
            (text, ground) for text in ("ink", "soft", "first", "second", "good", "bad") for ground in ("paper", "card")
        ]
        pairs += [("ink", "said"), ("ink", "right"), ("ink", "user"), ("soft", "user"), ("on-band", "band")]
        for text, ground in pairs:
            assert contrast(rgb(colour[text]), rgb(colour[ground])) >= 4.5, (text, ground)
        for name in ("first", "second"):  # the darkest cell of a confusion matrix
            mixed = [0.45 * a + 0.55 * b for a, b in zip(rgb(colour[name]), rgb(colour["paper"]), strict=True)]
            assert contrast(rgb(colour["ink"]), mixed) >= 4.5, name


def rgb(colour: str) -> list[float]:
    return [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]


def contrast(one: list[float], other: list[float]) -> float:
    """Return the contrast of two colours. Source: WCAG 2.2, relative luminance."""

    def luminance(colour: list[float]) -> float:
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


# --- hostile data -----------------------------------------------------------------------------------------------------

HOSTILE = st.sampled_from(
    ['"><script>x</script>', "' onload='x", '" onmouseover="x', "</style><img src=x>", "</mark></div></main>",
     "{{ 7*7 }}", "{% endfor %}", "javascript:x", "<!--", "]]>", "&lt;", "\u202e", "<svg/onload=x>",
     "url(x)"]
) | st.text(max_size=12)  # fmt: skip


@st.composite
def hostile_errors(draw: Any) -> dict[str, Any]:
    def word() -> str:
        return str(draw(HOSTILE))

    forms = [
        {"messages": [{"role": word(), "content": word()}, {"role": "assistant", "content": word()}]},
        {"prompt": word(), "chosen": word(), "rejected": word()},
        {"prompt": word(), "completion": word(), "label": draw(st.booleans())},
        {"conversations": [{"from": word(), "value": word()}]},
        {"tokens": [word(), "a"]},
        {word(): word(), "choices": [word(), word()]},
        {word(): {word(): [word()]}},
    ]
    example = draw(st.sampled_from(forms))
    record = {
        "prediction": draw(st.sampled_from([word(), [word()], None])),
        "reference": draw(st.sampled_from([word(), [word()], None])),
        "probabilities": draw(st.sampled_from([{word(): 0.5}, [0.1, 0.9], None])),
    }  # fmt: skip
    kind = f"{draw(st.sampled_from(['prediction', 'reference', word()]))}:{word()}"
    highlights = {name: [[0, 1, kind]] for name, value in example.items() if isinstance(value, str) or name == "tokens"}
    place = {"file": word(), "line": 1, "id": word()}
    return {"example": example, "record": record, "highlights": highlights, "place": place}


@settings(max_examples=20, deadline=None)
@given(hostile_errors(), HOSTILE)
def test_no_text_of_the_data_becomes_markup(error: dict[str, Any], word: str) -> None:
    harmless = Outline(every_page()["report"])
    result = result_of(error)
    recipe = {
        **result.recipe,
        "output": f"runs/{word}",
        "task": word,
        "strategy": {"name": word},
        "dataset": {"path": word},
    }
    scores = {"test": {"f1": 0.5, f"f1/{word}": 0.5, word: 0.5}}
    slices = {"test": {word: [{"value": word, "size": 2, "score": 0.5}]}}
    details = {"test": {"labels": [word, "b"], "confusion_matrix": [[1, 1], [1, 1]], "support": {word: 2}}}
    log = [{"step": step, word: step} for step in (1, 2)]
    html = report.page(
        replace(result, recipe=recipe, scores=scores, slices=slices, details=details, log=log, notes=[word],
                baselines={"test": {word: {"f1": 0.1}}}, findings={word: 1}, scales={"f1": word})
    )  # fmt: skip
    found = Outline(html)
    assert set(found.tags) <= {*harmless.tags, "small", "mark", "details", "summary"}
    assert found.attributes <= {*harmless.attributes, "id", "clip-path", "transform", "class"}
    assert not any(name.startswith("on") for name in found.attributes)
    assert all(link.startswith(("#", "./")) for link in found.links)
    assert html.rstrip().endswith("</html>") and html.count("</main>") == 1
