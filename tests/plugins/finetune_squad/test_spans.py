"""Labels: the tokens that an answer touches, in the windows that hold all of it."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from finetune.testing.tokenizers import FAMILIES, TEXTS
from finetune_squad.preprocessor import EXACT, LOST, NARROWED, NO_ANSWER, UNSEEN, WIDENED, SquadPreprocessor
from finetune_squad.spans import tokens_of, touching

PIECES = (
    *("the pier ", "harbour", " quay,", "a", "Z", ".", " ", "  ", "\n", "\r\n", "1987", "wörd ", "café", "e\u0301"),
    *(
        "👩‍👩‍👧",
        "🇫🇮",
        "🙂",
        "\u200b",
        "\u200d",
        "\ufeff",
        "\u00a0",
        "\u3000",
        "İ",
        "ﬁsh",
        "שָׁלוֹם",
        "مرحبا ",
        "東京",
        "½",
        "\x01",
    ),
)
contexts = st.lists(st.sampled_from(PIECES), min_size=1, max_size=40).map("".join)
families = st.sampled_from(FAMILIES)


def features(tokenizer, context, answer, *, max_length=64, stride=12):
    batch = {
        "question": ["Who?"],
        "context": [context],
        "answers": [{"text": [answer[0]], "answer_start": [answer[1]]}],
    }
    made = SquadPreprocessor(max_length=max_length, stride=stride).features(batch, tokenizer)
    return [dict(zip(made, row, strict=True)) for row in zip(*made.values(), strict=True)]


def labelled(window, context):
    """Return the characters that a window's labels stand for; None where they say "no answer"."""
    if window["start_positions"] == window["end_positions"] == window["null_token"]:
        return None
    first, last = (window[name] - window["context_first_token"] for name in ("start_positions", "end_positions"))
    assert 0 <= first <= last < len(window["start_chars"])
    return context[window["start_chars"][first] : window["end_chars"][last]]


def spans(data, context):
    start = data.draw(st.integers(0, len(context) - 1))
    end = data.draw(st.integers(start + 1, min(len(context), start + 30)))
    return context[start:end], start


def inner(text):
    """Leave out what no reader sees at either end: space, and controls that a tokenizer may drop."""
    gone = lambda c: c.isspace() or unicodedata.category(c)[0] == "C"  # noqa: E731
    while text and gone(text[0]):
        text = text[1:]
    while text and gone(text[-1]):
        text = text[:-1]
    return text


@given(name=families, context=contexts, data=st.data())
@settings(max_examples=400, deadline=None)
def test_an_answer_that_fits_a_window_comes_back_from_its_labels(family, name, context, data):
    answer = spans(data, context)
    windows = features(family(name), context, answer)
    back = [labelled(window, context) for window in windows]
    status = windows[0]["answer_status"]
    for text in back:
        if text is not None:
            assert inner(answer[0]) in text
            assert text == text.strip()
    assert (status in (EXACT, WIDENED)) == any(text is not None for text in back) or status == NARROWED
    if status == EXACT:
        assert all(inner(text) == inner(answer[0]) for text in back if text is not None)


@given(name=families, context=contexts, data=st.data())
@settings(max_examples=300, deadline=None)
def test_an_answer_made_of_whole_tokens_comes_back_exactly(family, name, context, data):
    tokenizer = family(name)
    whole = SquadPreprocessor(max_length=5000).features({"question": ["Who?"], "context": [context]}, tokenizer)
    starts, ends = whole["start_chars"][0].tolist(), whole["end_chars"][0].tolist()
    visible = [i for i in range(len(starts)) if starts[i] < ends[i]]
    assume(visible)
    first = data.draw(st.sampled_from(visible))
    last = data.draw(st.sampled_from([i for i in visible if i >= first and ends[i] > starts[first]]))
    start, end = starts[first], ends[last]
    touch = [i for i in visible if max(starts[i], start) < min(ends[i], end)]
    assume(all(start <= starts[i] and ends[i] <= end for i in touch))  # no other token crosses an edge
    answer = context[start:end], start
    for window in features(tokenizer, context, answer):
        text = labelled(window, context)
        assert text is None or text == answer[0]


@given(name=families, context=contexts, data=st.data())
@settings(max_examples=400, deadline=None)
def test_an_answer_cut_by_a_window_is_never_half_labelled(family, name, context, data):
    """Against plain loops over the tokenizer's raw offsets: a window is labelled when it holds all that touch."""
    tokenizer, answer = family(name), spans(data, context)
    raw = tokenizer(context, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    wanted = {place for place in range(answer[1], answer[1] + len(answer[0])) if not context[place].isspace()}
    touch = {t for t, (start, end) in enumerate(raw) if wanted & set(range(start, end))}
    place = 0
    for window in features(tokenizer, context, answer):
        held = set(range(place, place + len(window["start_chars"])))
        text = labelled(window, context)
        if text is None:
            assert not touch or not touch <= held
        else:
            first = window["start_positions"] - window["context_first_token"] + place
            last = window["end_positions"] - window["context_first_token"] + place
            assert touch <= set(range(first, last + 1)) <= held
            marks = not touch or unicodedata.category(context[min(wanted)])[0] == "M"
            assert marks or (first == min(touch) and last == max(touch))
        place += len(window["start_chars"]) - 12


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("context", "answer"),
    [
        ("by 👩‍👩‍👧 and 🇫🇮!", "👩‍👩‍👧"),
        ("by 👩‍👩‍👧 and 🇫🇮!", "🇫🇮"),
        ("un cafe\u0301 noir", "cafe\u0301"),
        ("un cafe\u0301", "cafe\u0301"),
        ("אמר שָׁלוֹם לכולם", "שָׁלוֹם"),
        ("first\r\nsecond\r\nthird", "second\r\nthird"),
        ("tar\u200bpier and", "pier"),
        ("in İzmir today", "İzmir"),
        ("some ﬁsh, please", "ﬁsh"),
        ("old\u00a0pier", "pier"),
        ("\u3000東京 tower", "東京"),
        ("\ufeffPort Elm", "Port Elm"),
    ],
)
def test_unusual_characters_survive(family, name, context, answer):
    (window,) = features(family(name), context, (answer, context.index(answer)))
    text = labelled(window, context)
    assert text is not None
    assert answer in text
    assert window["answer_status"] in (EXACT, WIDENED)


def test_an_emoji_of_several_tokens_is_labelled_with_all_of_them(family):
    tokenizer, context = family("gpt2"), "by 🚢 at"
    (window,) = features(tokenizer, context, ("🚢", 3))
    tokens = window["end_positions"] - window["start_positions"] + 1
    assert tokens == len(tokenizer(" 🚢").input_ids) > 1


def test_an_accent_that_the_tokenizer_drops_belongs_to_the_token_before_it(family):
    raw = family("bert")("un cafe\u0301 noir", add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    assert (3, 7) in raw, "the accent at 7 is no token's"
    (window,) = features(family("bert"), "un cafe\u0301 noir", ("cafe\u0301", 3))
    assert labelled(window, "un cafe\u0301 noir") == "cafe\u0301"
    assert window["answer_status"] == EXACT


def test_white_space_round_an_answer_adds_no_neighbour(family):
    context = "old pier of tar"
    for answer in (("pier ", 4), (" pier", 3), (" pier ", 3)):
        for name in FAMILIES:
            if name == "llama":  # its merges run across words: "r of" can be one token
                continue
            (window,) = features(family(name), context, answer)
            assert labelled(window, context) == "pier", name


def test_every_answer_has_a_status(family):
    bert = family("bert")
    statuses = {
        EXACT: features(bert, "tar pier", ("tar", 0)),
        WIDENED: features(bert, "tar pier", ("ta", 0)),
        UNSEEN: features(bert, "tar \u200b pier", ("\u200b", 4)),
        LOST: features(bert, "tar pier " * 60, ("tar pier " * 40, 0)),
    }
    for status, windows in statuses.items():
        assert [window["answer_status"] for window in windows] == [status] + [NO_ANSWER] * (len(windows) - 1)


def test_offsets_with_a_hole_have_the_status_narrowed():
    """Pretokenisers that put the start of a word one character in (EuroEval issue 2173)."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"ar": 0, "ier": 1, "<unk>": 2}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Split(pattern="p", behavior="removed")]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    (window,) = features(tokenizer, "tar pier", ("pier", 4))
    assert labelled(window, "tar pier") == "ier"
    assert window["answer_status"] == NARROWED


def test_the_published_loop_lets_the_start_run_past_the_context_and_ours_does_not(family, oracle):
    """speed.md, subtle case 1: the answer's first token is the window's last."""
    tokenizer, context = family("bert"), "Old Tomás keeps the lighthouse"
    (raw,) = oracle.windows(tokenizer, "Who?", context, max_length=384, stride=128)
    answer = ("lighthouse", context.index("lighthouse"))
    wrong = oracle.label(tokenizer, raw, answer, fixed=False)
    right = oracle.label(tokenizer, raw, answer, fixed=True)
    assert wrong[0] > wrong[1], "the published start lies after its end"
    (window,) = features(tokenizer, context, answer)
    assert (window["start_positions"], window["end_positions"]) == right
    assert right[0] == right[1] == len(raw["input_ids"]) - 2


@given(text=st.lists(st.sampled_from(["tar", "pier", "a"]), min_size=1, max_size=30).map(" ".join), data=st.data())
@settings(max_examples=200, deadline=None)
def test_labels_equal_the_published_loop_on_plain_words(family, oracle, text, data):
    tokenizer = family(data.draw(st.sampled_from(["bert", "bert-cased", "roberta", "deberta", "xlm-roberta"])))
    words = [(place, word) for place, word in _words(text)]
    first, last = sorted(data.draw(st.integers(0, len(words) - 1)) for _ in range(2))
    start, end = words[first][0], words[last][0] + len(words[last][1])
    answer = text[start:end], start
    ours = features(tokenizer, text, answer, max_length=24, stride=4)
    raw = oracle.windows(tokenizer, "Who?", text, max_length=24, stride=4)
    for window, theirs in zip(ours, raw, strict=True):
        assert (window["start_positions"], window["end_positions"]) == oracle.label(
            tokenizer, theirs, answer, fixed=True
        )


def _words(text):
    place = 0
    for word in text.split(" "):
        yield place, word
        place += len(word) + 1


@given(
    lengths=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    gaps=st.lists(st.integers(0, 2), min_size=12, max_size=12),
    order=st.randoms(),
    data=st.data(),
)
@settings(max_examples=300, deadline=None)
@example(lengths=[0], gaps=[0] * 12, order=__import__("random").Random(0), data=None)
def test_touching_finds_every_token_that_covers_a_character(lengths, gaps, order, data):
    """Against a loop, on offsets of every kind: empty, equal, with holes, and out of order."""
    offsets, place = [], 0
    for length, gap in zip(lengths, gaps, strict=False):
        offsets.append((place + gap, place + gap + length))
        place += gap + length * order.randint(0, 1)
    order.shuffle(offsets) if order.random() < 0.3 else None
    text = "x" * (max(end for _, end in offsets) + 1)
    start = 0 if data is None else data.draw(st.integers(0, len(text) - 1))
    end = 1 if data is None else data.draw(st.integers(start + 1, len(text)))
    tokens = tokens_of([text, text], [[1] * len(offsets)] * 2, [offsets] * 2)
    touch = [t for t, (a, b) in enumerate(offsets) if max(a, start) < min(b, end)]
    both = touching(tokens, np.array([0, 1]), np.array([start] * 2), np.array([end] * 2))
    firsts, lasts = both[0].tolist(), both[1].tolist()
    assert firsts[0] == firsts[1]
    assert lasts[0] == lasts[1]
    if touch:
        assert firsts[0] <= touch[0]
        assert lasts[0] >= touch[-1]
        ends = [b for a, b in offsets if a < b]
        if offsets == sorted(offsets) and ends == sorted(ends):  # no token inside an earlier one
            assert (firsts[0], lasts[0]) == (touch[0], touch[-1])
    elif [b for _, b in offsets] == sorted(b for _, b in offsets) and offsets == sorted(offsets):
        assert firsts[0] > lasts[0]


def test_trailing_space_in_the_context_is_no_tokens(family):
    for name in FAMILIES:
        made = SquadPreprocessor().features({"question": ["Who?"], "context": [f"  {TEXTS[0]}  \n"]}, family(name))
        context = f"  {TEXTS[0]}  \n"
        for start, end in zip(made["start_chars"][0].tolist(), made["end_chars"][0].tolist(), strict=True):
            assert context[start:end] == context[start:end].strip()
