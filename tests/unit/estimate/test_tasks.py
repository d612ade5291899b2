"""Tasks in a log: templates told apart, closed sets of answers known, and what is none said in words."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_dsplus.estimate.tasks import LEAST, closed_set, count, find_tasks

WORDS = [f"w{a}{b}" for a in "abcdefghijk" for b in "lmnopqrstuv"]


def texts(n, seed=0, low=4, high=14):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(low, high))) for _ in range(n)]


def messages(system, text):
    return [{"type": "system", "content": system}, {"type": "human", "content": text}]


def calls(template, labels, n=300, seed=0):
    draw = random.Random(seed)
    return [{"input": template(text), "output": draw.choice(labels)} for text in texts(n, seed)]


SPAM = "You are a helpful assistant. Decide whether the mail is spam. Answer yes or no.\n\n"
URGENT = "You are a helpful assistant. Decide whether the mail is urgent. Answer yes or no.\n\n"
TEMPLATES = {
    "bare": (lambda t: t, "", ""),
    "before": (lambda t: SPAM + t, SPAM.strip(), ""),
    "after": (lambda t: f"{t}\n\nIs this spam? Answer yes or no.", "", "Is this spam? Answer yes or no."),
    "around": (lambda t: f"Text: <<< {t} >>> Label:", "Text: <<<", ">>> Label:"),
    "system": (lambda t: messages("Sort the mail of 2026-11-29.", t), "Sort the mail of 0-0-0.", ""),
    "dict": (lambda t: {"question": t}, "", ""),
    "chinese": (lambda t: f"请判断以下内容 是否 为 垃圾 邮件 : {t}", "请判断以下内容 是否 为 垃圾 邮件 :", ""),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_one_template_is_one_task(name):
    template, prefix, suffix = TEMPLATES[name]
    (task,) = find_tasks(calls(template, ["yes", "no"]))
    assert (" ".join(task.prefix), " ".join(task.suffix)) == (prefix, suffix)
    assert set(task.labels) == {"yes", "no"}
    assert task.calls == 300
    assert not task.why_not
    for text in texts(300)[:20]:
        from langchain_dsplus.estimate.tasks import prompt_of

        assert task.variable(prompt_of({"input": template(text)})[1]) == text


def test_tasks_that_begin_alike_are_told_apart_and_counted():
    log = calls(lambda t: SPAM + t, ["yes", "no"], 400, 1) + calls(lambda t: URGENT + t, ["yes", "no"], 300, 2)
    log += calls(lambda t: messages("Name the language.", t), ["de", "en", "fr"], 200, 3)
    random.Random(0).shuffle(log)
    found = find_tasks(log)
    assert [task.calls for task in found] == [400, 300, 200]
    assert [len(task.labels) for task in found] == [2, 2, 3]
    assert "spam." in found[0].prefix
    assert "urgent." in found[1].prefix
    owners = [owner[0].number for _, owner in count(found, log)]
    assert [owners.count(number) for number in (1, 2, 3)] == [400, 300, 200]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), common=st.integers(0, 8), own=st.integers(7, 15), after=st.integers(0, 7))
def test_two_drawn_templates_are_told_apart(seed, common, own, after):
    draw = random.Random(seed)
    shared = " ".join(f"c{n}" for n in range(common))
    parts = []
    for name, n in (("x", 200), ("y", 150)):
        head = " ".join([shared, *(f"{name}{n}" for n in range(own))]).strip()
        tail = " ".join(f"{name}t{n}" for n in range(after))
        parts += calls(lambda t, head=head, tail=tail: f"{head} {t} {tail}".strip(), [f"{name}1", f"{name}2"], n, seed)
    draw.shuffle(parts)
    found = find_tasks(parts)
    assert [task.calls for task in found] == [200, 150]
    assert {label for task in found for label in task.labels} == {"x1", "x2", "y1", "y2"}
    for _, owners in count(found, parts):
        assert len(owners) == 1


def test_a_habit_of_many_users_is_no_template():
    log = calls(lambda t: t, ["a", "b"], 300)
    for place in range(0, 300, 6):
        log[place]["input"] = "Dear Sir or Madam, I am writing to you about " + log[place]["input"]
    (task,) = find_tasks(log)
    assert task.prefix == ()
    assert task.calls == 300


def test_short_questions_with_other_answers_are_told_apart():
    log = calls(lambda t: f"Is it spam? {t}", ["yes", "no"], 200, 1)
    log += calls(lambda t: f"Is it urgent? {t}", ["now", "later", "never"], 150, 2)
    random.Random(0).shuffle(log)
    assert [(task.calls, len(task.labels)) for task in find_tasks(log)] == [(200, 2), (150, 3)]


def test_a_field_with_few_values_is_input():
    log = calls(lambda t: f"Customer: {'gold' if hash(t) % 2 else 'silver'} Text: {t}", ["yes", "no"], 300)
    (task,) = find_tasks(log)
    assert task.prefix == ("Customer:",)


@pytest.mark.parametrize(
    "template", ["{0} {1} {2}", "Age {0}, income {1}, debts {2}.", "ERROR {0} disk {1} full", "{3} {0}"]
)
def test_numbers_are_inputs_and_no_templates(template):
    draw = random.Random(0)
    log = []
    for _ in range(400):
        numbers = [draw.randrange(1000) for _ in range(3)]
        words = f"{draw.choice(['disk full', 'login failed', 'timeout'])} at"
        log.append({"input": template.format(*numbers, words), "output": draw.choice("ab")})
    (task,) = find_tasks(log)
    assert all(task.variable(call["input"]).split() == call["input"].split() for call in log)


def test_numbers_in_a_template_stay_with_the_input():
    draw = random.Random(0)
    log = []
    for text in texts(300):
        amount = draw.randrange(1000)
        log.append(
            {"input": f"Amount: {amount} EUR on day 7. Text: {text} (row 1 of {amount})", "output": draw.choice("ab")}
        )
    (task,) = find_tasks(log)
    amount = log[0]["input"].split()[1]
    assert task.variable(log[0]["input"]) == f"{amount} {amount}) {texts(300)[0]}"


def test_few_inputs_that_come_again_are_no_templates():
    log = [{"input": text, "output": "a" if place % 2 else "b"} for place, text in enumerate(texts(12) * 30)]
    (task,) = find_tasks(log)
    assert task.calls == 360


@pytest.mark.parametrize("shape", ["text", "dict", "message", "fenced"])
def test_answers_in_json(shape):
    draw = random.Random(0)
    import json

    def out(label, why):
        body = {"label": label, "why": why, "urgent": draw.random() < 0.3}
        return {
            "text": json.dumps(body),
            "dict": body,
            "message": {"type": "ai", "content": json.dumps(body)},
            "fenced": f"```json\n{json.dumps(body)}\n```",
        }[shape]

    log = [{"input": text, "output": out(draw.choice("abc"), text[::-1])} for text in texts(300)]
    found = find_tasks(log)
    assert {(task.key, task.labels and len(task.labels)) for task in found} == {("label", 3), ("urgent", 2)}
    one = next(task for task in found if task.key == "label")
    assert {one.label(call["output"]) for call in log} == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ([f"A long answer about number {n} in words" for n in range(300)], "free text"),
        ([f"{n * 7919 % 100_003}" for n in range(300)], "no closed set"),
        (["yes"] * 300, "same one"),
        (["yes", "no"] * 20, "too few"),
        ([], "too few"),
        ([None] * 300, "no closed set"),
    ],
)
def test_what_is_no_closed_set_is_said_in_words(said, words):
    keys, why = closed_set(said)
    assert keys == {}
    assert words in why
    assert not any(str(answer) in why for answer in said[:1] if answer and len(answer) > 4)


def test_spellings_of_a_label_are_one_and_refusals_are_none():
    said = ["Billing"] * 50 + ["billing."] * 10 + ["refund"] * 60 + ["I cannot help with that", "Sorry, no."]
    keys, why = closed_set(said)
    assert not why
    assert set(keys.values()) == {"Billing", "refund"}


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b", "A.", " b", "", "c c c"]) | st.text(max_size=6), min_size=LEAST, max_size=200)
)
def test_a_closed_set_covers_what_it_says(said):
    keys, why = closed_set(said)
    assert bool(keys) != bool(why)
    if keys:
        assert len(keys) >= 2
