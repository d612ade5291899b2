"""From a text or token log-probabilities to an offered label."""

# ruff: noqa: RUF001

from __future__ import annotations

import json
import math
import re
import string
import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from langchain_dsplus.labels import (
    NoLabelMassError,
    ending,
    is_cut,
    label_mass,
    label_probabilities,
    match_label,
    match_reply,
    mean_token_probability,
    show_label,
    token_logprobs,
)
from tests.growth import assert_grows_at_most

SENTIMENT = ["positive", "negative", "neutral"]
CARDS = ["card", "card_arrival", "card_linking", "lost_card"]


# --- match_label --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "positive",
        "  Positive \n",
        "POSITIVE.",
        "**positive**",
        "`positive`",
        '"positive"',
        "“Positive”",
        "ｐｏｓｉｔｉｖｅ",
        "- positive",
        "# positive",
        "Label: positive",
        "**Answer:** positive",
        "The category is Positive.",
        "The most likely label is: 'positive'",
        "Answer: The label is positive!",
        '{"label": "Positive"}',
        '```json\n{"label": "positive", "score": 0.9}\n```',
        '{"label": "positive", "why": "it does not sound negative"}',
        '["positive"]',
        "positive\n\nThe text says nothing negative.",
        "Label: positive\nNeutral words are rare in it.",
        "I would call this text positive, on the whole.",
        "It is positive, not negative.",
        "This is positive rather than negative.",
        "It is positive and not negative.",
        "<think>negative or neutral?</think>\npositive",
        '{"label": "positive"',
    ],
)
def test_a_text_that_names_one_label(text):
    assert match_label(text, SENTIMENT) == "positive"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "I cannot tell.",
        "not positive",
        "It is not very positive.",
        "This isn't positive",
        "This isn’t positive",
        "It can't be called positive.",
        "neither positive nor negative",
        "positive or negative",
        "positive? negative? neutral?",
        "positively",
        "non-positive",
        "Positive is wrong.",
        "positive does not fit",
        # A label inside a sentence of other words is not read, whatever the sentence says.
        "The review isn't negative but positive.",
        "This is rather positive than negative.",
        "Let us settle for positive here.",
        '{"first": "positive", "second": "negative"}',
        "<think>it may be positive",
    ],
)
def test_a_text_that_names_none_or_several(text):
    assert match_label(text, SENTIMENT) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("card", "card"),
        ("card arrival", "card_arrival"),
        ("Card-Arrival.", "card_arrival"),
        ("It is about card arrival.", "card_arrival"),
        ("the card", "card"),
        ("card_payment", None),
        ("a lost card", "lost_card"),
        ("card and card_arrival", None),
    ],
)
def test_the_longest_label_is_meant(text, expected):
    assert match_label(text, CARDS) == expected


@pytest.mark.parametrize(
    "text",
    [
        "The text is far from positive.",
        "It is anything but positive.",
        "It fails to be positive.",
        "It lacks positive aspects.",
        "I am unable to say positive",
        "positive? No.",
        "**positive**: no",
        "positive? Definitely not.",
        "Positive? I can't say.",
        "It isn't positive or negative.",
        "not positive, neutral",
        "Positive and neutral are wrong.",
        "I don't know whether it is positive",
        "Sorry, I cannot tell whether positive applies",
        "I am not sure: positive, perhaps",
    ],
)
def test_negations_and_refusals_name_nothing(text):
    assert match_label(text, SENTIMENT) is None


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("I can't classify this as billing or shipping.", ["billing", "shipping"], None),
        ("Sorry, I cannot tell from this text whether billing applies", ["billing", "shipping"], None),
        ("I can't see a parcel number. It is about shipping.", ["billing", "shipping"], "shipping"),
        ("not billing or returns, but shipping", ["billing", "returns", "shipping"], None),
        ("不能说是正面", ["正面", "负面"], None),
        ("称不上正面", ["正面", "负面"], None),
        ("谈不上正面", ["正面", "负面"], None),
        ("无法判断是否正面", ["正面", "负面"], None),
        # A label's own words refuse and negate nothing.
        (
            "I would say unable to verify identity.",
            ["unable_to_verify_identity", "card"],
            "unable_to_verify_identity",
        ),
        ("It is card not working or lost card", ["card_not_working", "lost_card"], None),
        ("Answer: A or B", ["A", "B"], None),
        ("Answer: A, B", ["A", "B"], None),
        ("A / B", ["A", "B"], None),
        ("It may be a or billing", ["a", "billing"], None),
        ("The answer is A because it fits.", ["A", "B"], "A"),
        ("A reason for B", ["A", "B"], None),
        ("It is a billing question", ["a", "billing"], None),
        ('{"answer": true}', ["true", "false"], "true"),
        ('{"result": {"label": "shipping"}}', ["billing", "shipping"], "shipping"),
        ('{"result": {"label": "shipping", "over": "billing"}}', ["billing", "shipping"], "shipping"),
        ('{"one": {"x": "shipping"}, "two": {"x": "billing"}}', ["billing", "shipping"], None),
        ('{"one": {"two": {"label": "shipping"}}}', ["billing", "shipping"], None),
        ('{"label": "billing", "confidence": 1}', ["1", "billing"], "billing"),
        ('{"Label": "billing", "runner_up": "shipping"}', ["billing", "shipping"], "billing"),
        ('{"label": null, "rejected": "billing"}', ["billing", "shipping"], None),
        ('{"label": "none of them", "rejected": "billing"}', ["billing", "shipping"], None),
        ('{"class": 3, "name": "billing"}', ["billing", "shipping"], None),
    ],
)
def test_refusals_letters_and_objects(text, labels, expected):
    assert match_label(text, labels) == expected
    assert match_label(text, labels[::-1]) == expected


def test_labels_that_exist_but_were_not_offered_hide_the_labels_inside_them():
    assert match_label("card - it did not arrive", ["card"]) is None
    assert match_label("card arrival", ["card"]) is None
    assert match_label("the card category", ["card"]) == "card"
    assert match_label("card arrival", ["card"], known=CARDS) is None
    assert match_label("It is card arrival, not card.", ["card", "lost_card"], known=CARDS) is None
    assert (
        match_label("Either card linking or, if that is closed, lost_card", ["card", "lost_card"], known=CARDS) is None
    )
    assert match_label("lost_card: card linking is closed.", ["card", "lost_card"], known=CARDS) is None
    assert match_label("Label: lost_card", ["card", "lost_card"], known=CARDS) == "lost_card"


def test_labels_that_differ_in_case_are_compared_as_they_are_first():
    labels = ["US", "us"]
    assert match_label("US", labels) == "US"
    assert match_label(" us\n", labels) == "us"
    assert match_label("It is the US.", labels) == "US"
    assert match_label("Us", labels) is None
    assert match_label("us", ["US"], known=labels) is None


def test_separators_that_make_labels_equal_count():
    labels = ["top-up", "top_up"]
    assert match_label("top-up", labels) == "top-up"
    assert match_label("TOP_UP", labels) == "top_up"
    assert match_label("top up", labels) is None
    assert match_label("I choose top_up.", labels) == "top_up"


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("正面", ["正面", "负面"], "正面"),
        ("这条评论是正面的。", ["正面", "负面"], "正面"),
        ("标签：负面", ["正面", "负面"], "负面"),
        ("不是正面", ["正面", "负面"], None),
        ("非常正面,不是负面", ["正面", "负面", "非常正面"], "非常正面"),
        ("ポジティブです", ["ポジティブ", "ネガティブ"], "ポジティブ"),
        ("ポジティブではない", ["ポジティブ", "ネガティブ"], None),
        ("긍정입니다", ["긍정", "부정"], "긍정"),
        ("긍정이 아닙니다", ["긍정", "부정"], None),
        ("ПОЗИТИВНЫЙ", ["позитивный", "негативный"], "позитивный"),
        ("не позитивный", ["позитивный", "негативный"], None),
        ("STRASSE", ["Straße", "Weg"], "Straße"),
        ("nicht positiv", ["positiv", "negativ"], None),
        ("إيجابي", ["إيجابي", "سلبي"], "إيجابي"),
        ("👍", ["👍", "👎"], "👍"),
    ],
)
def test_any_script(text, labels, expected):
    assert match_label(text, labels) == expected


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("C#", ["C", "C#", "C++"], "C#"),
        ("I would choose C++.", ["C", "C#", "C++"], "C++"),
        ("The answer is B.", ["A", "B"], "B"),
        ("A good reason speaks for it", ["A", "B"], None),
        ("a", ["A", "B"], "A"),
        ("4 out of 5", ["1", "4", "5"], None),
        ("1.5", ["1", "5"], None),
        ("5 stars", ["1", "5"], None),
        ('{"label": 5}', ["1", "5"], "5"),
        ("No, it is not.", ["yes", "no"], "no"),
        ("not spam", ["spam", "not spam"], "not spam"),
        ("This is not spam.", ["spam", "not spam"], "not spam"),
        ("-", ["+", "-"], "-"),
        ("a{b}", ["a{b}", "c"], "a{b}"),
        ("don't", ["don", "t"], None),
    ],
)
def test_unusual_labels(text, labels, expected):
    assert match_label(text, labels) == expected


def test_nothing_offered_and_hostile_texts():
    assert match_label("positive", []) is None
    assert match_label("[" * 100_000, SENTIMENT) is None
    assert match_label("{" + "positive " * 200_000, SENTIMENT) is None
    assert match_label("\ud800\nLabel: positive", SENTIMENT) == "positive"


@pytest.mark.parametrize(
    "unit",
    [
        "positive ",
        "[",
        '{"a":',
        "It is. ",
        "The label is. ",
        "positive\n",
        "*a ",
        '"',
        '"a',
        "<label>",
        "<think>",
        "不",
        "是。",
        "positive - ",
        "positive, ",
        "positive: no, ",
        "card_",
        "positive? ",
        "_a",
        "the ",
        "x, so the label is x",
        "It is positive because of it. ",
        "Label: positive\n",
        '{"label": "positive"} ',
        "é",
        "\n",
        "not positive. ",
    ],
)
@pytest.mark.no_cover
def test_the_time_grows_with_the_text_and_no_faster(unit):
    def seconds(length):
        text = unit * (length // len(unit))
        start = time.process_time()
        match_label(text, SENTIMENT)
        return time.process_time() - start

    seconds(1000)
    assert_grows_at_most(seconds, (10_000, 40_000), 10, least=0.02)


any_label = st.text(min_size=1, max_size=12).filter(lambda s: bool(s.strip()))
plain_labels = st.lists(
    st.text(string.ascii_lowercase + " _", min_size=2, max_size=10).filter(
        lambda s: s[0].isalpha() and s[-1].isalpha()
    ),
    min_size=2,
    max_size=6,
    unique_by=lambda s: " ".join(s.replace("_", " ").split()),
)


@given(labels=st.lists(any_label, min_size=1, max_size=6, unique=True), data=st.data())
def test_every_label_names_itself(labels, data):
    label = data.draw(st.sampled_from(labels))
    assert match_label(label, labels) == label


@given(labels=plain_labels, data=st.data())
def test_case_quotes_and_final_stops_do_not_matter(labels, data):
    label = data.draw(st.sampled_from(labels))
    dressed = data.draw(st.sampled_from(["{}", ' "{}" ', "**{}**.", "`{}`!", "\n{}\n", "{}。"])).format(label.upper())
    assert match_label(dressed, labels) == label


@given(text=st.text(max_size=60), labels=st.lists(any_label, max_size=5, unique=True), data=st.data())
def test_only_offered_labels_come_back_and_their_order_does_not_matter(text, labels, data):
    found = match_label(text, labels)
    assert found is None or found in labels
    assert match_label(text, data.draw(st.permutations(labels))) == found


@given(labels=st.lists(st.text(max_size=8), min_size=2, max_size=8, unique=True))
def test_shown_labels_take_one_line_and_stay_distinct(labels):
    shown = [show_label(label) for label in labels]
    assert len(set(shown)) == len(labels)
    for label, text in zip(labels, shown, strict=True):
        assert len(text.splitlines()) == 1
        assert (json.loads(text) if text.startswith('"') else text) == label


@given(labels=st.lists(any_label, min_size=1, max_size=5, unique=True), data=st.data())
def test_a_shown_label_is_read_back(labels, data):
    label = data.draw(st.sampled_from(labels))
    assume(show_label(label) not in labels)
    assert match_label(show_label(label), labels) in (label, None)
    assert match_label(show_label("two\nlines"), ["two\nlines", "other"]) == "two\nlines"


# --- label_probabilities ------------------------------------------------------------------------------------------


def token(text, p, *alternatives, top=True):
    entry = {"token": text, "logprob": math.log(p) if p > 0 else -math.inf}
    if top:
        listed = ((text, p), *alternatives)
        entry["top_logprobs"] = [{"token": t, "logprob": math.log(q) if q > 0 else -math.inf} for t, q in listed]
    return entry


def read(tokens, labels, floor=0.0):
    probabilities, unassigned = label_probabilities(tokens, labels, floor=floor)
    assert list(probabilities) == list(labels)
    assert sum(probabilities.values()) == pytest.approx(1.0)
    return {k: round(v, 4) for k, v in probabilities.items()}, round(unassigned, 4)


def test_case_and_space_variants_are_merged():
    tokens = [token("positive", 0.4, ("Positive", 0.2), (" positive", 0.1), ("negative", 0.2), (" NEG", 0.05))]
    assert read(tokens, ["positive", "negative"]) == ({"positive": 0.7368, "negative": 0.2632}, 0.05)


def test_a_label_of_several_tokens_is_followed():
    tokens = [
        token("card", 0.8, (" Card", 0.1), ("lost", 0.1)),
        token("_", 0.7, ("", 0.2), (".", 0.1)),
        token("arr", 0.6, ("link", 0.4)),
        token("ival", 1.0),
    ]
    expected = {"card": 0.27, "card_arrival": 0.378, "card_linking": 0.252, "lost_card": 0.1}
    assert read(tokens, CARDS) == (expected, 0.0)


@pytest.mark.parametrize("stop", ["", "<|im_end|>", "</s>", "<end_of_turn>"])
def test_the_end_decides_between_a_label_and_a_longer_one(stop):
    tokens = [token("card", 1.0), token(stop, 0.75, (" arrival", 0.25))]
    assert read(tokens, ["card", "card_arrival"]) == ({"card": 0.75, "card_arrival": 0.25}, 0.0)


def test_a_reply_that_ends_without_a_stop_token():
    assert read([token("card", 0.9, ("lost", 0.1))], CARDS)[0] == pytest.approx(
        {"card": 0.9, "card_arrival": 0.0, "card_linking": 0.0, "lost_card": 0.1}
    )
    # Cut off in the middle: both may still come.
    assert read([token("ca", 1.0)], ["card", "cat"]) == ({"card": 0.5, "cat": 0.5}, 0.0)


def test_an_alternative_that_begins_several_labels_is_shared():
    tokens = [token("lost", 0.7, ("car", 0.3))]
    expected = {"card": 0.1, "card_arrival": 0.1, "card_linking": 0.1, "lost_card": 0.7}
    assert read(tokens, CARDS) == (expected, 0.0)


def test_what_fits_no_label_is_unassigned():
    tokens = [token("yes", 0.5, ("maybe", 0.3), ("\n", 0.1))]
    assert read(tokens, ["yes", "no"]) == ({"yes": 1.0, "no": 0.0}, 0.5)


def test_a_beginning_that_turns_out_to_be_another_word():
    tokens = [token("I", 0.6, ("fraud", 0.4)), token(" think", 1.0), token(" so", 1.0)]
    assert read(tokens, ["insurance", "fraud"]) == ({"insurance": 0.0, "fraud": 1.0}, 0.6)


def test_a_lead_in_is_skipped_where_the_reply_names_a_label():
    tokens = [token(t, 1.0) for t in ("The", " label", " is")]
    tokens += [token(' "', 0.8), token("neg", 0.75, ("pos", 0.25)), token("ative", 1.0), token('"', 1.0)]
    assert read(tokens, ["positive", "negative"]) == ({"positive": 0.25, "negative": 0.75}, 0.2)


def test_json_around_the_label():
    tokens = [token(t, 1.0) for t in ('{"', "label", '":')]
    tokens += [token(' "', 1.0), token("negative", 0.9, ("positive", 0.1)), token('"}', 1.0)]
    assert read(tokens, ["positive", "negative"]) == ({"positive": 0.1, "negative": 0.9}, 0.0)


def test_a_negated_label_gets_nothing():
    tokens = [token(t, 1.0) for t in ("It", " is", " not", " positive")]
    with pytest.raises(NoLabelMassError):
        label_probabilities(tokens, ["positive", "negative"])


def test_a_word_that_is_no_label_gives_nothing_to_the_label_inside_it():
    with pytest.raises(NoLabelMassError):
        label_probabilities([token("card", 1.0), token("_", 1.0), token("payment", 1.0)], ["card", "lost"])


def test_text_after_the_label_does_not_matter():
    tokens = [token("positive", 0.8, ("negative", 0.2)), token(",", 1.0), token(" because", 0.3)]
    assert read(tokens, ["positive", "negative"]) == ({"positive": 0.8, "negative": 0.2}, 0.0)


def test_without_alternatives_a_lone_token_is_not_certain():
    """What was not listed is nobody's: not the other label's either."""
    empty = {"token": "no", "logprob": math.log(0.3), "top_logprobs": []}
    for entry in (token("no", 0.3, top=False), empty):
        assert read([entry], ["yes", "no", "maybe"]) == ({"yes": 0.0, "no": 1.0, "maybe": 0.0}, 0.7)
        mass = label_mass([entry], ["yes", "no"])
        assert mass.labels["no"] == pytest.approx(0.3)
        assert (mass.other, mass.unseen) == (0.0, pytest.approx(0.7))


def test_bytes_of_a_character_in_two_tokens():
    raw = "负".encode()
    tokens = [
        {"token": "\ufffd", "bytes": list(raw[:1]), "logprob": 0.0, "top_logprobs": []},
        {"token": "\ufffd", "bytes": list(raw[1:]), "logprob": math.log(0.9), "top_logprobs": [
            {"token": "\ufffd", "bytes": list(raw[1:]), "logprob": math.log(0.9)},
            {"token": "\ufffd", "bytes": list("正".encode()[1:]), "logprob": math.log(0.1)},
        ]},
        {"token": "面", "bytes": list("面".encode()), "logprob": 0.0, "top_logprobs": []},
    ]  # fmt: skip
    probabilities, _ = label_probabilities(tokens, ["正面", "负面"])
    assert probabilities["负面"] > 0.99


def test_labels_that_differ_in_case_only():
    tokens = [token("US", 0.7, ("us", 0.3))]
    assert read(tokens, ["US", "us"])[0]["US"] >= 0.7


@pytest.mark.parametrize(
    "tokens",
    [
        [],
        [{"token": "yes"}],
        [{"token": "yes", "logprob": None, "top_logprobs": None}],
        [{"token": "yes", "logprob": math.nan}],
        ["yes"],
        [token("perhaps", 1.0)],
        [token("", 1.0)],
        [token("yes", 0.0)],
    ],
)
def test_nothing_assigned_is_an_error(tokens):
    with pytest.raises(NoLabelMassError, match=r"logprobs|log-probabilities"):
        label_probabilities(tokens, ["yes", "no"])


@pytest.mark.parametrize("top", [5, "yes", {"token": "no"}, [5, None], None, True])
def test_malformed_alternatives_are_none(top):
    assert read([token("yes", 0.6) | {"top_logprobs": top}], ["yes", "no"]) == ({"yes": 1.0, "no": 0.0}, 0.4)


def test_two_labels_sampled_as_one_word_leave_it_unassigned():
    tokens = [token("a", 0.99, ("b", 0.01)), token("b", 1.0)]
    assert read(tokens, ["a", "b"]) == ({"a": 0.0, "b": 1.0}, 0.99)


def test_minus_infinity_and_openai_s_minus_9999_are_zero():
    tokens = [token("yes", 0.0, ("no", 0.5))]
    assert read(tokens, ["yes", "no"]) == ({"yes": 0.0, "no": 1.0}, 0.5)
    tokens[0]["logprob"] = tokens[0]["top_logprobs"][0]["logprob"] = -9999.0
    assert read(tokens, ["yes", "no"]) == ({"yes": 0.0, "no": 1.0}, 0.5)


def test_a_missing_number_is_found_among_the_alternatives():
    entry = token("yes", 0.6, ("no", 0.4)) | {"logprob": None}
    assert read([entry], ["yes", "no"]) == ({"yes": 0.6, "no": 0.4}, 0.0)


def test_the_floor_keeps_logarithms_finite():
    probabilities, _ = label_probabilities([token("yes", 1.0)], ["yes", "no"])
    assert probabilities["no"] == pytest.approx(1e-6)
    assert sum(probabilities.values()) == pytest.approx(1.0)
    for floor in (-0.1, 0.5):
        with pytest.raises(ValueError, match="floor"):
            label_probabilities([token("yes", 1.0)], ["yes", "no"], floor=floor)
    with pytest.raises(ValueError, match="labels"):
        label_probabilities([token("yes", 1.0)], [])


pieces = st.sampled_from(
    ["c", "card", "Card", " card", "_", " ", "arr", "ival", "arrival", "lost", "x", ".", "", "\n", '"']
)


@st.composite
def replies(draw):
    entries = []
    for _ in range(draw(st.integers(1, 5))):
        weights = draw(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=5))
        total = max(1.0, sum(weights))
        listed = [(draw(pieces), w / total) for w in weights]
        entries.append(token(*listed[0], *listed[1:]))
    return entries


@settings(max_examples=200)
@given(tokens=replies(), data=st.data())
def test_mass_is_conserved_and_the_order_of_labels_does_not_matter(tokens, data):
    try:
        probabilities, unassigned = label_probabilities(tokens, CARDS, floor=0.0)
    except NoLabelMassError:
        return
    assert sum(probabilities.values()) == pytest.approx(1.0)
    assert all(0.0 <= p <= 1.0 for p in probabilities.values())
    assert 0.0 <= unassigned <= 1.0
    shuffled = data.draw(st.permutations(CARDS))
    again, left = label_probabilities(tokens, shuffled, floor=0.0)
    assert left == pytest.approx(unassigned)
    assert again == pytest.approx(probabilities)


@given(p=st.floats(0.01, 0.99), q=st.floats(0.0, 1.0))
def test_assigned_and_unassigned_sum_to_one(p, q):
    tokens = [token("yes", p, ("no", (1 - p) * q), ("what", (1 - p) * (1 - q) * 0.5))]
    probabilities, unassigned = label_probabilities(tokens, ["yes", "no"], floor=0.0)
    assert unassigned == pytest.approx((1 - p) * (1 - q), abs=1e-9)
    assert probabilities["yes"] * (1 - unassigned) == pytest.approx(p)


@pytest.mark.parametrize(
    ("text", "labels", "meant"),
    [
        ("Shipping?\nNo, an invoice.\n</think>\n\nbilling", ["billing", "shipping"], "billing"),
        ("<think>shipping</think>billing", ["billing", "shipping"], "billing"),
        ("[THINK]shipping[/THINK]billing", ["billing", "shipping"], "billing"),
        (
            "<|channel|>analysis<|message|>shipping<|end|><|start|>assistant<|channel|>final<|message|>billing<|return|>",
            ["billing", "shipping"],
            "billing",
        ),
        ("Label: shipping\nLabel: billing", ["billing", "shipping"], "billing"),
        ("Sentiment: -1", ["-1", "0", "1"], "-1"),
        ("The answer is <=50K.", ["50K", "<=50K", ">50K"], "<=50K"),
        ('{"not": "shipping", "label": "billing"}', ["billing", "shipping"], "billing"),
        ("shipping: no\nbilling: yes", ["billing", "shipping"], "billing"),
    ],
)
def test_probabilities_are_those_of_the_label_that_the_reply_names(text, labels, meant):
    pieces = re.findall(r"<\|\w+\|>|\s?\w+|\W", text)
    tokens = [token(piece, 0.99, ("zzz", 0.005)) for piece in pieces]
    probabilities, _ = label_probabilities(tokens, labels, floor=0.0)
    assert probabilities == {label: float(label == meant) for label in labels}


@pytest.mark.parametrize("text", ["Spam: False", "spam - no", "spam? No.", "<think>spam", "not spam", "spam or ham"])
def test_a_reply_that_names_no_label_gives_nothing_for_what_was_sampled(text):
    first, *rest = re.findall(r"\s?\w+|\W", text)
    tokens = [token(first, 0.9, ("ham", 0.1)), *(token(piece, 1.0) for piece in rest)]
    assert read(tokens, ["spam", "ham"]) == ({"spam": 0.0, "ham": 1.0}, 0.9)


def test_a_label_that_was_cut_is_shared_with_what_it_begins():
    probabilities, _ = label_probabilities([token("card", 1.0)], CARDS, floor=0.0, finish_reason="length")
    assert probabilities == pytest.approx(dict.fromkeys(CARDS, 1 / 3) | {"lost_card": 0.0})
    assert label_probabilities([token("lost_card", 1.0)], CARDS, floor=0.0, finish_reason="length")[0]["lost_card"] == 1


# --- the end of a reply -------------------------------------------------------------------------------------------

CUTS = [
    {"finish_reason": "length"},
    {"finish_reason": "content_filter"},
    {"finish_reason": "MAX_TOKENS"},
    {"finish_reason": "FinishReason.SAFETY"},
    {"finish_reason": "lengthlength"},
    {"stop_reason": "max_tokens"},
    {"stopReason": "guardrail_intervened"},
    {"done_reason": "length"},
    {"status": "incomplete"},
    {"finish_reason": "stop", "stop_reason": "max_tokens"},
]


@pytest.mark.parametrize("metadata", CUTS)
def test_a_cut_reply_is_no_label_where_it_may_have_become_another(metadata):
    from langchain_core.messages import AIMessage

    def read_one(text):
        return match_reply(AIMessage(text, response_metadata=metadata), CARDS)

    assert is_cut(ending(AIMessage("", response_metadata=metadata)))
    for text in (
        "card",
        "Card",
        "Label: card",
        '{"label": "card',
        "The label is card",
        "card ",
        "Label: card\nLabel: ca",
    ):
        assert read_one(text) is None
    for text in ("card.", "card\nBecause", '{"label": "card"', "Label: card\nReason: the", '"card"'):
        assert read_one(text) == "card"
    assert read_one("lost_card") == "lost_card"
    assert read_one("lost card") == "lost_card"


def test_a_sign_at_the_end_may_have_been_a_separator():
    labels = ["abc-", "abc- de"]
    assert match_label("Label: abc-", labels) == "abc-"
    assert match_label("Label: abc-", labels, finish_reason="length") is None


@pytest.mark.parametrize(
    "metadata", [{}, {"finish_reason": "stop"}, {"stop_reason": "end_turn"}, {"status": "completed"}]
)
def test_a_whole_reply_is_read_as_it_is(metadata):
    from langchain_core.messages import AIMessage

    assert match_reply(AIMessage("card", response_metadata=metadata), CARDS) == "card"


def test_a_stream_without_an_end_may_go_on():
    from langchain_core.messages import AIMessage, AIMessageChunk

    assert match_reply(AIMessageChunk("card"), CARDS) is None
    assert match_reply(AIMessage("card", response_metadata={"model_provider": "openai"}), CARDS) is None
    assert match_reply(AIMessageChunk("card", response_metadata={"finish_reason": "stop"}), CARDS) == "card"
    assert match_reply(AIMessageChunk("lost_card"), CARDS) == "lost_card"


# --- the rest -----------------------------------------------------------------------------------------------------


def test_mean_token_probability_leaves_the_end_out():
    tokens = [token("a", 0.5), token("b", 1.0), token("", 0.1)]
    assert mean_token_probability(tokens) == pytest.approx(0.75)
    with pytest.raises(NoLabelMassError):
        mean_token_probability([])


def test_token_logprobs_of_anything():
    class Reply:
        response_metadata = {"logprobs": {"content": [1, 2]}}

    assert token_logprobs(Reply()) == [1, 2]
    for metadata in (None, {}, {"logprobs": None}, {"logprobs": {"content": None}}):
        Reply.response_metadata = metadata
        assert token_logprobs(Reply()) == []
    assert token_logprobs("text") == []


def test_labels_are_a_list_and_not_one_word():
    from langchain_core.language_models import FakeListChatModel

    from langchain_dsplus import ChatClassifier, FakeSmallModel, LabelParser, PromptPruner
    from langchain_dsplus.labels import list_labels

    assert list_labels(("a", "b")) == ["a", "b"]
    for make in (
        lambda: LabelParser("abc"),
        lambda: PromptPruner.from_messages([("human", "x")], labels="abc"),
        lambda: ChatClassifier(FakeListChatModel(responses=["a"]), "abc"),
        lambda: FakeSmallModel({}, "abc"),
    ):
        with pytest.raises(TypeError, match="list of labels"):
            make()


def test_the_geometric_mean_is_that_of_the_texts_probability():
    tokens = [{"token": "a", "logprob": math.log(0.9)}, {"token": "b", "logprob": math.log(0.1)}]
    assert mean_token_probability(tokens, kind="geometric") == pytest.approx(0.3)
    assert mean_token_probability(tokens) == pytest.approx(0.5)
    tokens[1]["logprob"] = float("-inf")
    assert mean_token_probability(tokens, kind="geometric") == 0.0
