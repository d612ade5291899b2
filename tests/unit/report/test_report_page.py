"""The page: nothing typed or said gets out of its place, nothing leaves the file, and the words fit the promise."""

from __future__ import annotations

import json
import math
import re
import time
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.report import render_report, write_report
from langchain_dsplus.report.charts import nice_ticks
from langchain_dsplus.report.page import embed
from langchain_dsplus.report.words import MINUS, SPACE, fact, help_lines, money, percent, points, text
from langchain_dsplus.threshold.certify import certify

EVIL = "</script><img src=x onerror=alert(1)>\u2028\"'&<b>"


def table(n=800, seed=0, **more):
    draw = np.random.default_rng(seed)
    sure = draw.random(n)
    gold = draw.integers(0, 3, n)
    small = np.where(draw.random(n) < 0.3 + 0.7 * np.sqrt(sure), gold, (gold + 1) % 3)
    large = np.where(draw.random(n) < 0.9, gold, (gold + 2) % 3)
    columns = {
        "id": [f"i{row}" for row in range(n)],
        "small": [f"c{x}" for x in small],
        "confidence": sure.tolist(),
        "large": [f"c{x}" for x in large],
        "gold": [f"c{x}" for x in gold],
    }
    return Outcomes({**columns, **more}, about={"score": "max_probability", "labels": ["c0", "c1", "c2"]})


class Page(HTMLParser):
    """What a browser would see: elements, their attributes, and the words outside script and style."""

    def __init__(self, source):
        super().__init__()
        self.elements, self.attributes, self.words, self.inside = [], [], [], []
        self.data = ""
        self.ids = {}
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.inside.append(tag)
        self.kind = dict(attrs).get("type")
        if "id" in dict(attrs):
            self.ids[dict(attrs)["id"]] = self.last = dict(attrs)["id"]

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        if self.inside[-1:] == ["script"]:
            if self.kind == "application/json":
                self.data += data
        elif self.inside[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words).replace(SPACE, " "))


def test_nothing_of_the_page_comes_from_elsewhere():
    source = render_report(table())
    page = Page(source)
    for tag, name, value in page.attributes:
        assert name not in ("src", "srcset", "style"), (tag, name)
        assert not name.startswith("on"), (tag, name)
        if name in ("href", "xlink:href", "action"):
            assert value == "data:,"
    assert "://" not in source
    assert "@import" not in source
    assert "url(" not in source
    policy = next(v for t, n, v in page.attributes if t == "meta" and n == "content" and "default-src" in v)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy


def test_the_policy_allows_this_script_and_this_style_only():
    import base64
    import hashlib

    source = render_report(table())
    for tag in ("script", "style"):
        body = re.findall(rf"<{tag}>(.*?)</{tag}>", source, flags=re.DOTALL)
        assert len(body) == 1
        digest = base64.b64encode(hashlib.sha256(body[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in source


def hostile(words):
    draw = np.random.default_rng(0)
    labels = [f"{words}{k}" for k in range(3)]
    rows = [
        {
            "id": f"{words}{row}",
            "small": labels[draw.integers(3)],
            "confidence": float(draw.random()),
            "large": labels[0],
            "gold": labels[0],
            "slices": {f"{words}key": words},
            "cost_large": 0.1,
        }
        for row in range(40)
    ]
    return Outcomes.from_records(rows, about={words: [words, {words: words}], "currency": words})


def test_what_others_typed_stays_text():
    outcomes = hostile(EVIL)
    texts = dict.fromkeys(outcomes.values("id"), f"{EVIL} the text")
    benign = Page(
        render_report(hostile("word"), inputs=dict.fromkeys(hostile("word").values("id"), "the text"), title="word")
    )
    for certified in (False, True):
        promise = certify(outcomes, "20 points") if certified else None
        source = render_report(outcomes, promise, inputs=texts, title=EVIL)
        page = Page(source)
        if not certified:
            assert page.elements == benign.elements
        assert "img" not in page.elements
        assert "b" not in page.elements
        assert source.count("<script") == 2
        assert "\u2028" not in page.data
        assert "the text" in page.text
        assert "<img src=x onerror=alert(1)>" in page.text


@settings(max_examples=6, deadline=None)
@given(st.text(min_size=1, max_size=30).filter(str.strip))
def test_any_text_gives_the_same_page_of_elements(words):
    try:
        outcomes = hostile(words)
    except ValueError:  # not everything is a label
        return
    page = Page(render_report(outcomes, title=words, inputs=dict.fromkeys(outcomes.values("id"), words)))
    plain = hostile("word")
    assert page.elements == Page(render_report(plain, inputs=dict.fromkeys(plain.values("id"), "word"))).elements


def test_lone_surrogates_and_control_characters_do_not_stop_the_file(tmp_path):
    path = write_report(tmp_path / "r.html", table(50), title="a\ud800b\x00c\u202ed")
    body = path.read_bytes().decode("utf-8")
    assert "\x00" not in body
    assert "\u202e" not in body
    assert b"\r" not in path.read_bytes()


def test_json_in_a_script_element_is_safe():
    value = {"a": "</script><!--", "b": "\u2028\u2029 &", "c": [1.5, None]}
    shown = embed(value)
    assert json.loads(shown) == value
    assert not set(shown) & set("<>&\u2028\u2029")
    with pytest.raises(ValueError, match="JSON"):
        embed(math.nan)


def test_inputs_are_in_the_page_only_where_asked_for():
    outcomes = table(200)
    texts = {name: f"secret letter {name}" for name in outcomes.values("id")}
    assert "secret letter" not in render_report(outcomes)
    assert "The inputs themselves are not in this file." in Page(render_report(outcomes)).text
    with_texts = render_report(outcomes, inputs=texts)
    shown = re.findall(r"secret letter (i\d+)", with_texts)
    lost = {row["id"] for row in outcomes.to_records() if row["small"] != row["gold"] and row["large"] == row["gold"]}
    assert set(shown) == lost


@pytest.mark.parametrize(
    ("name", "value", "hidden"),
    [
        ("api_key", "abc", True),
        ("large", {"model": "m", "openai_api_key": "abc"}, True),
        ("note", "used sk-abcdefghijklmnopqrstuvwx today", True),
        ("large", "https://user:abc@host/", True),
        ("tokens", 12, False),
        ("prompt", "9f86d081884c7d659a2feaa0c55ad015", False),
    ],
)
def test_keys_in_about_are_not_shown(name, value, hidden):
    outcomes = table(60)
    outcomes.about[name] = value
    source = render_report(outcomes)
    assert ("(hidden)" in source) == hidden
    assert ("abc" in Page(source).text) is False or not hidden
    assert "sk-abcdef" not in source


def test_at_most_so_many_lost_rows():
    outcomes = table(2000)
    assert render_report(outcomes, max_lost=7).count("data-from=") == 7
    assert render_report(outcomes, max_lost=0).count("data-from=") == 0


def test_a_certificate_in_words_and_where_its_promise_ends():
    outcomes = table(2000)
    certificate = certify(outcomes, 0.01)
    assert certificate.certified
    source = render_report(outcomes, certificate)
    page = Page(source)
    data = json.loads(page.data)
    for line in certificate.text.split("\n"):
        assert re.sub(r"^CERTIFIED\. ", "", line) in page.text
    assert "those of the rows that the certificate was made on" in page.text
    kinds = [data["states"][state]["text"] for state in data["state"]]
    at = data["threshold"].index(repr(certificate.threshold))
    assert kinds[at] == "Promise holds"
    assert set(kinds[at + 1 :]) == {"No promise here"}
    assert kinds[0] == "Nothing stays local"
    assert set(kinds[1:at]) == {"Promise holds", "Not tested here"}
    passed = {repr(step.thresholds["small"]) for step in certificate.steps if step.passed}
    assert {t for t, kind in zip(data["threshold"], kinds, strict=True) if kind == "Promise holds"} == passed
    start = int(re.search(r'id="slider"[^>]* value="(\d+)"', source)[1])
    assert start == at
    assert data["harms"][at] == certificate.harms
    assert data["gains"][at] == certificate.gains
    assert data["accepted"][at] == round(certificate.coverage * certificate.n)


def test_a_fresh_look_and_other_models_are_named():
    one, other = table(3000).split(0.5)
    certificate = certify(one, 0.02)
    assert "other rows than the certificate was made on" in Page(render_report(other, certificate)).text
    other.about["score"] = "margin"
    assert "about another score than the certificate" in Page(render_report(other, certificate)).text


def test_a_refusal_promises_nothing_and_says_what_would_help():
    outcomes = table(150)
    certificate = certify(outcomes, 0.001)
    assert not certificate.certified
    page = Page(render_report(outcomes, certificate))
    data = json.loads(page.data)
    assert {data["states"][state]["text"] for state in data["state"]} == {"Nothing stays local", "No promise here"}
    assert "What would help" in page.text
    assert "Below 2,995 rows nothing can be shown" in page.text
    assert "Not certified" in page.text


def test_a_stricter_choice_leaves_the_laxer_steps_without_its_promise():
    outcomes = table(2000)
    certificate = certify(outcomes, 0.05, error_cost=50.0)
    data = json.loads(Page(render_report(outcomes, certificate)).data)
    kinds = [data["states"][state]["text"] for state in data["state"]]
    at = data["threshold"].index(repr(certificate.threshold))
    assert "Passed, not chosen" in kinds[at + 1 :]
    assert "Promise holds" not in kinds[at + 1 :]


def test_without_gold_there_is_a_difference_and_no_accuracy():
    outcomes = table()
    gold = [
        g if s != a else None for g, s, a in zip(*(outcomes.values(c) for c in ("gold", "small", "large")), strict=True)
    ]
    page = Page(render_report(table(gold=gold)))
    data = json.loads(page.data)
    assert "accuracy" not in data
    full = json.loads(Page(render_report(outcomes)).data)
    assert (data["harms"], data["gains"]) == (full["harms"], full["gains"])
    assert "Gold is missing for" in page.text
    assert sum(data["guessed"]) == 0
    none = json.loads(Page(render_report(table(gold=[None] * 800))).data)
    assert none["guessed"] == none["harms"] != [0] * len(none["harms"])


def test_what_counts_as_lost_for_lack_of_gold_has_no_interval():
    """An interval around a number that is only a worst case would say something false."""
    outcomes = table(3000, gold=[None] * 3000)
    outcomes.about["score"] = "max_probability"
    certificate = certify(outcomes, "30 points")
    assert certificate.certified
    assert certificate.unlabeled
    source = render_report(outcomes, certificate)
    page, data = Page(source), json.loads(Page(source).data)
    assert re.search(r'<span id="gain-range">([^<]*)', source)[1] == data["worst"] == "at worst: gold is missing"
    unknown = len(outcomes.to_label(agreements=0))
    assert f"On up to {unknown:,} rows the models differ and gold is missing" in page.text
    ways = dict(re.findall(r'<th scope="row">(always small|cascade|always large)</th>.*?<td>([^<]*)</td></tr>', source))
    assert set(ways) == {"always small", "cascade", "always large"}
    for way in ("always small", "cascade"):
        assert re.fullmatch(f"at worst {MINUS}[0-9.]+", ways[way])
    assert "Nobody knows yet where the small model was right" in page.text
    known = render_report(table(), None)
    assert json.loads(Page(known).data)["level"] == f"95{SPACE}%"
    assert re.search(r'<span id="gain-range">95.% *: ', known)
    assert "at worst" not in Page(known).text


def test_help_in_words_names_groups_slices_and_units():
    certificate = certify(table(150), 0.001)
    found = {
        "least_n": 4784,
        "least_groups": 598,
        "slices": {"language=de": {"n": 45, "least_n": 598}, "language=en": {"n": 700, "least_n": 598}},
        "planned_n": {"25": 6000, "50": None},
        "smallest_loss": 0.02,
        "smallest_loss_at": {"25": 0.02, "50": 0.03},
        "labels_needed": 7,
    }
    lines = help_lines(replace(certificate, help=found))
    assert lines[0].startswith("Below 4,784 rows in groups like these (about 598 groups) nothing can be shown")
    assert lines[1] == "The slice language=de has 45 rows, and below 598 nothing can be shown there."
    assert lines[2:4] == [
        "25 % local: about 6,000 rows would show it, if losses come as they did here.",
        "50 % local: no number of rows would show it, if losses come as they did here.",
    ]
    assert "is 2 percentage points, at the strictest threshold (3 at 50 % local)" in lines[4]
    assert "dsplus label" in lines[5]
    assert help_lines(replace(certificate, help={**found, "least_groups": None}, unit="group"))[0].startswith(
        "Below 4,784 groups nothing"
    )


def test_the_status_is_spelled_as_it_is():
    assert "NOT_CERTIFIED" in Page(render_report(table(150), certify(table(150), 0.001))).text


def test_slices_say_where_the_promise_holds():
    draw = np.random.default_rng(3)
    outcomes = table(2000, slices=[{"language": "de" if x < 0.5 else "en"} for x in draw.random(2000)])
    certificate = certify(outcomes, 0.05, slices=["language"])
    text_ = Page(render_report(outcomes, certificate)).text
    assert "The promise holds within: language=de, language=en." in text_


def test_costs_are_shown_with_their_currency():
    outcomes = table(cost_large=[0.002] * 800, cost_small=[0.0001] * 800)
    page = Page(render_report(outcomes, currency="EUR"))
    data = json.loads(page.data)
    assert data["large_cost"] == pytest.approx(2.0)
    assert data["cost"][0] == pytest.approx(2.1)
    assert data["cost"][-1] == pytest.approx(0.1)
    assert "Cost per 1,000 inputs, EUR" in page.text
    assert "cost at parity" in page.text


@pytest.mark.parametrize(
    "rows",
    [
        [{"small": "a", "confidence": 0.5, "large": "a", "gold": "a"}],
        [{"small": None, "confidence": None, "large": "a", "gold": "a"}],
        [{"small": "a", "confidence": 0.5, "large": None, "gold": None}] * 3,
        [{"small": "a", "confidence": -7.5, "large": "b", "gold": None}] * 3,
        [{"small_ok": True, "confidence": 3.0, "large_ok": False}] * 3,
        [{"small.x": "a", "confidence.x": 0.5, "small.y": "b", "confidence.y": 0.1, "large": "b", "gold": "b"}] * 3,
    ],
)
def test_the_smallest_tables(rows):
    page = Page(render_report(Outcomes.from_records(rows)))
    assert json.loads(page.data)["n"] == len(rows)


def test_several_small_models_with_a_certificate():
    from langchain_dsplus.threshold.path import coverage_path

    draw = np.random.default_rng(0)
    n = 3000
    gold = [f"c{x}" for x in draw.integers(0, 3, n)]
    columns = {"id": [str(row) for row in range(n)], "large": gold, "gold": gold}
    for name, skill in (("x", 0.99), ("y", 0.995)):
        said = [g if draw.random() < skill else "c9" for g in gold]
        columns |= {f"small.{name}": said, f"confidence.{name}": draw.random(n).tolist()}
    fit, test = Outcomes(columns).split(0.3)
    certificate = certify(test, 0.02, path=coverage_path(fit))
    assert certificate.certified
    data = json.loads(Page(render_report(test, certificate)).data)
    at = [data["states"][state]["why"] for state in data["state"]].index("This is the certificate's threshold.")
    assert data["harms"][at] == certificate.harms
    assert data["accepted"][at] == round(certificate.coverage * certificate.n)
    with pytest.raises(ValueError, match="for the small models"):
        render_report(table(), certificate)


def test_with_the_pruned_prompt_only_what_was_tested_is_shaded():
    outcomes = table(2000, large_pruned=table(2000).values("gold"))
    certificate = certify(outcomes, 0.02, prompt="pruned", start=0.5)
    assert certificate.certified
    source = render_report(outcomes, certificate)
    page = Page(source)
    data = json.loads(page.data)
    kinds = [data["states"][state]["text"] for state in data["state"]]
    first = data["threshold"].index("0.5")
    assert kinds[0] == "Nothing stays local"
    assert set(kinds[1:first]) == {"Not tested here"}
    assert kinds[first] == "Promise holds"
    assert data["gains"][0] == sum(
        a != g for a, g in zip(outcomes.values("large"), outcomes.values("gold"), strict=True)
    )
    assert "always large, pruned prompt" in page.text
    shade = re.search(r'<rect class="certified" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', source)
    assert float(shade[1]) + float(shade[2]) < 700  # of 1,024: half of the inputs escalate there
    assert "always large, pruned prompt" in Page(render_report(outcomes, prompt="pruned")).text


def test_wrong_arguments():
    with pytest.raises(ValueError, match="`level`"):
        render_report(table(50), level=1.0)
    with pytest.raises(ValueError, match="`max_lost`"):
        render_report(table(50), max_lost=-1)


@pytest.mark.no_cover
def test_many_rows_are_quick_and_the_page_stays_small():
    n = 100_000
    draw = np.random.default_rng(0)
    outcomes = table(n, slices=[{"language": "de" if x < 0.5 else "en"} for x in draw.random(n)])
    begin = time.process_time()  # its own, whoever else is at the machine
    source = render_report(outcomes)
    assert time.process_time() - begin < 20
    assert len(source) < 1_000_000
    assert len(json.loads(Page(source).data)["threshold"]) <= 501


def test_numbers_in_words():
    assert percent(0.12345) == f"12.3{SPACE}%"
    assert points(-0.00001) == "0.0"
    assert points(-0.016) == f"{MINUS}1.6"
    assert points(0.016) == "+1.6"
    assert [money(x) for x in (0, 0.00012345, 1.5, 1234.5678, 123456.0)] == [
        "0",
        "0.0001234",
        "1.5",
        "1,235",
        "123,500",
    ]
    assert nice_ticks(0, 1) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert text("x" * 300).endswith("… (300 characters)</bdi>")
    assert fact("password", "x") == "<bdi>(hidden)</bdi>"


def test_the_headline_names_a_class_that_loses():
    draw = np.random.default_rng(0)
    n = 3000
    gold = draw.choice(3, n, p=[0.6, 0.37, 0.03])
    small = np.where(gold == 2, 0, np.where(draw.random(n) < 0.97, gold, 1 - gold))
    large = np.where(draw.random(n) < 0.92, gold, (gold + 1) % 2)
    names = np.array(["bill", "parcel", "a). fraud"])
    outcomes = Outcomes(
        {
            "small": names[small].tolist(),
            "confidence": np.round(draw.random(n), 4).tolist(),
            "large": names[large].tolist(),
            "gold": names[gold].tolist(),
            "cost_large": [0.001] * n,
        },
        about={"labels": names.tolist()},
    )
    certificate = certify(outcomes, "1 point")
    assert certificate.certified
    assert [item["class"] for item in certificate.losing_classes] == ["a). fraud"]
    page = render_report(outcomes, certificate)
    head, promise = re.search(r'<h2 id="verdict">(.*?)</h2><p class="promise">(.*?)</p>', page, re.DOTALL).groups()
    assert head.startswith("Certified, but not for every class: ")
    assert "a). fraud" in head
    assert "falls from" in head
    assert promise.startswith("With threshold")
    assert 'class="card verdict refused"' in page, "not in the colour of a success"
    assert '<span id="cost">0</span>' in page, "the rounding of a sum is no cost"
