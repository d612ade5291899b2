"""`estimate`: honest shares, honest refusals, and no row that judges a model that saw it."""

from __future__ import annotations

import json
import random
import re

import numpy as np
import pytest

pytest.importorskip("sklearn")

from langchain_dsplus.costs.prices import Price
from langchain_dsplus.estimate import estimate
from langchain_dsplus.estimate.figures import kept_share
from langchain_dsplus.small_models.fake import FakeSmallModel

WORDS = [f"w{a}{b}" for a in "abcdefghijk" for b in "lmnopqrstuv"]
PROMPT = "Name the team that this mail is for. Answer with one word.\n\n"


def stream(n, *, labels=3, noise=0.0, unclear=0.0, seed=0, prompt=PROMPT):
    """Texts whose class is a word in them, and the answers of a large model that errs at random.

    Args:
        n: Rows.
        labels: Classes.
        noise: Share of answers that are drawn at random.
        unclear: Share of texts that say nothing about their class.
        seed: Of it all.
        prompt: The template.
    """
    draw = random.Random(seed)
    rows = []
    for place in range(n):
        label = f"team{draw.randrange(labels)}"
        words = draw.choices(WORDS, k=draw.randint(4, 10))
        if draw.random() >= unclear:
            words.insert(draw.randrange(len(words)), f"about-{label}")
        said = f"team{draw.randrange(labels)}" if draw.random() < noise else label
        rows.append({"id": f"id{place}", "input": prompt + " ".join(words), "output": said, "gold": label})
    return rows


def write(path, rows):
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def without_gold(rows):
    return [{key: value for key, value in row.items() if key != "gold"} for row in rows]


@pytest.fixture
def log(tmp_path):
    return lambda rows: write(tmp_path / "log.jsonl", rows)


def test_a_small_model_that_agrees_stands_alone(log):
    found = estimate(log(without_gold(stream(1500))), small="tfidf")
    assert found.decision == "SMALL ALONE"
    assert found.main.certified == 1.0
    assert [share.max_loss for share in found.shares] == [0.005, 0.01, 0.02]
    assert found.main.share == 1.0 == found.main.high
    assert found.held_out + found.fitted == found.n == 1500
    assert found.labels_worth is None
    assert "SMALL ALONE" in str(found)


def test_a_part_that_is_clear_stays_local(log):
    rows = without_gold(stream(3000, unclear=0.4))
    found = estimate(log(rows), small="tfidf", max_loss="2 points")
    assert found.decision == "CASCADE"
    assert 0.5 < found.main.certified <= found.main.share + 0.05
    assert found.main.low <= found.main.share <= found.main.high
    losses = [share.share for share in found.shares]
    assert losses == sorted(losses)
    fresh = stream(3000, unclear=0.4, seed=1)
    threshold = found.main.certificate.threshold
    answers = found.model.batch([row["input"].removeprefix(PROMPT) for row in fresh])
    kept = [(a["choice"], row["output"]) for a, row in zip(answers, fresh, strict=True) if a["confidence"] > threshold]
    assert abs(len(kept) / 3000 - found.main.certified) < 0.05
    assert sum(small != large for small, large in kept) / 3000 < 0.02


def test_answers_at_random_leave_the_large_model_alone(log):
    found = estimate(log(without_gold(stream(1500, noise=1.0))), small="tfidf")
    assert found.decision == "LARGE ALONE"
    assert found.main.certified == 0.0
    assert found.main.high < 0.1
    assert "DataShunt" not in str(found)


def test_few_rows_say_how_many_would_do(log):
    found = estimate(log(without_gold(stream(200))), small="tfidf")
    assert found.decision == "NOT ENOUGH DATA"
    assert re.search(r"fewer than 383 never do.*about [\d,]+ calls would", found.verdict)
    assert found.main.low == 0.0  # no disagreement in 200 rows shows nothing at 1 point


def test_gold_in_the_log_counts(log):
    rows = stream(3000, noise=0.06)
    blind = estimate(log(without_gold(rows)), small="tfidf", max_loss="2 points")
    seeing = estimate(log(rows), small="tfidf", max_loss="2 points")
    assert seeing.decision == "SMALL ALONE"
    assert blind.main.certified < seeing.main.certified
    worth = blind.labels_worth
    assert worth is not None
    assert 0 < worth.needed <= worth.labels / 2
    assert worth.coverage > blind.main.certified
    assert f"label the {worth.labels:,} held-out rows" in str(blind)


def test_those_labels_certify_what_was_said(log):
    rows = stream(3000, noise=0.06)
    found = estimate(log(without_gold(rows)), small="tfidf", max_loss="2 points")
    from langchain_dsplus.threshold.certify import certify

    worth, table = found.labels_worth, found.table
    small, large = table.values("small"), table.values("large")
    open_ = [p for p, c in enumerate(table["confidence"]) if c > worth.above and small[p] != large[p]]
    assert len(open_) == worth.labels
    ids = table.values("id")
    gold = {ids[p]: small[p] if place < worth.needed else large[p] for place, p in enumerate(open_)}
    again = certify(table.with_gold(gold), found.max_loss, 1 - (1 - found.level) / 2, start=worth.above)
    assert again.coverage >= worth.coverage - 1e-9


def test_equal_inputs_and_groups_stay_in_one_fold(log):
    from langchain_dsplus.estimate.figures import _folds

    draw = random.Random(0)
    texts = [draw.choice(WORDS) + draw.choice(["", " ", "\n"]) for _ in range(900)]
    calls = [{"group": draw.choice([None, None, "g1", "g2"])} for _ in texts]
    folds = _folds(texts, calls, 0).tolist()
    home = {}
    for text, call, fold in zip(texts, calls, folds, strict=True):
        assert home.setdefault(text.strip(), fold) == fold
        if call["group"]:
            assert home.setdefault(("group", call["group"]), fold) == fold


def test_memory_is_no_skill(log):
    """Inputs that come again with random answers: who leaked them would look good."""
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=6)) for _ in range(200)]
    said = {text: f"team{draw.randrange(3)}" for text in texts}
    rows = [{"input": text, "output": said[text]} for text in draw.choices(texts, k=3000)]
    found = estimate(log(rows), small="tfidf")
    assert found.main.certified == 0.0
    assert found.main.share < 0.1
    assert found.distinct == 200


def test_lines_that_cannot_be_read_are_counted_and_nothing_of_them_is_said(log):
    rows = [*without_gold(stream(600)), "my secret, torn\n", {"input": "my secret"}]
    found = estimate(log(rows), small="tfidf")
    assert (found.rows, found.calls, found.unreadable) == (602, 600, 2)
    assert "2 could not be read" in str(found)
    assert "secret" not in str(found)


def test_tasks_are_listed_and_one_is_chosen(log):
    other = "Say in which language the following text is written, in one word.\n\n"
    rows = without_gold(stream(900)) + without_gold(stream(600, labels=4, seed=1, prompt=other))
    random.Random(0).shuffle(rows)
    first, second = estimate(log(rows), small="tfidf"), estimate(log(rows), small="tfidf", task=2)
    assert [task.calls for task in first.tasks] == [900, 600]
    assert (first.task.number, len(first.task.labels)) == (1, 3)
    assert (second.task.number, len(second.task.labels)) == (2, 4)
    assert "Say in which language" in str(first)
    with pytest.raises(ValueError, match="1 to 2"):
        estimate(log(rows), task=3)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (lambda n: f"Dear customer {n}, thank you for your mail about {n}.", "free text"),
        (lambda n: f"{n * 7919 % 100_003}", "no closed set"),
        (lambda n: "yes", "same one"),
    ],
)
def test_a_log_without_a_task_is_refused_in_words(output, words, log):
    rows = [{"input": f"mail {' '.join(WORDS[n % 90 : n % 90 + 5])} {n}", "output": output(n)} for n in range(300)]
    found = estimate(log(rows))
    assert found.decision == "NO TASK"
    assert words in str(found)
    assert "Dear" not in str(found)
    assert found.shares == ()
    with pytest.raises(ValueError, match="verdict"):
        found.to_html("never.html")


def test_too_few_rows_are_refused_in_words(log):
    found = estimate(log(without_gold(stream(40))))
    assert found.decision == "NO TASK"
    assert "too few rows: 40 calls" in str(found)


def test_nothing_to_read_is_an_error_that_says_what_to_do(log):
    with pytest.raises(ValueError, match=r"--input, --output.*question") as caught:
        estimate(log([{"question": "my secret", "reply": "a"}] * 3))
    assert "secret" not in str(caught.value)


def test_counts_are_exact_beyond_the_sample(log, monkeypatch):
    from langchain_dsplus.estimate import figures

    monkeypatch.setattr(figures, "SAMPLE", 500)
    rows = without_gold(stream(1700))
    rows[3]["output"] = "I cannot tell"
    found = estimate(log(rows), small="tfidf", rows=400)
    assert (found.calls, found.task.calls, found.n) == (1700, 1700, 400)
    assert sum(found.task.answers.values()) == 1700
    assert found.task.answers[""] == 1
    again = estimate(log(rows), small="tfidf", rows=400)
    assert again.to_dict()["shares"] == found.to_dict()["shares"]


def test_long_prompts_are_looked_at_in_part(log, monkeypatch):
    from langchain_dsplus.estimate import figures

    monkeypatch.setattr(figures, "CHARACTERS", 30_000)
    found = estimate(log(without_gold(stream(900))), small="tfidf")
    assert (found.task.calls, found.n) == (900, 900)
    assert sum(found.task.answers.values()) == 900


def test_many_tasks_are_listed_in_part(log):
    rows = [{"input": {f"key{n}": "a", "b": n}, "output": "c"} for n in range(30)]
    shown = str(estimate(log(without_gold(stream(300)) + rows), small="tfidf"))
    assert "11 more" in shown


def test_money_and_time(log):
    rows = without_gold(stream(900))
    usage = {"prompt_tokens": 1000, "completion_tokens": 10}
    for row in rows:
        row.update(model="gpt-4o-mini-2024-07-18", usage=usage, seconds=0.5)
    found = estimate(log(rows), small="tfidf").money
    assert found.large == pytest.approx(0.156)
    assert found.large_seconds == pytest.approx(500)
    assert found.tokens_guessed == 0.0
    assert found.cost(0.5) == "0.078 USD"
    own = estimate(log(rows), small="tfidf", price=Price(10, 10, currency="EUR")).money
    assert own.large == pytest.approx(10.1)
    assert own.cost(0.0) == "10.10 EUR"
    for row in rows:
        del row["usage"], row["seconds"]
        row["model"] = "nobody-knows-7b"
    found = estimate(log(rows), small="tfidf")
    assert found.money.large is None
    assert "No price is known of nobody-knows-7b" in str(found)


def test_an_own_small_model_needs_fit_and_clone(log):
    with pytest.raises(TypeError, match="fit"):
        estimate(log(without_gold(stream(300))), small=FakeSmallModel({}, labels=["a", "b"]))
    with pytest.raises(ValueError, match="`small`"):
        estimate(log(without_gold(stream(300))), small="big")


def test_the_page_holds_the_figures_and_no_text(log, tmp_path):
    rows = without_gold(stream(1500, unclear=0.3))
    found = estimate(log(rows), small="tfidf", max_loss="2 points")
    page = found.to_html(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "What a shunt would save" in page
    assert f"{100 * found.main.certified:.1f} %" in page
    assert not any(row["input"].removeprefix(PROMPT) in page for row in rows)
    json.dumps(found.to_dict(), allow_nan=False)


# --- the interval -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("max_loss", "n"), [(0.005, 600), (0.01, 2000), (0.02, 300), (0.02, 5000)])
@pytest.mark.no_cover
def test_the_interval_of_a_share_covers(max_loss, n):
    """P(loss) rises along the ranks, so that the true share is known: c with c^2 / 4 = max_loss."""
    truth = min(2.0 * max_loss**0.5, 1.0)
    draw = np.random.default_rng(0)
    hits = []
    for _ in range(400):
        rank = np.sort(draw.random(n))
        low, high = kept_share((draw.random(n) < rank / 2).astype(int), max_loss)[1:]
        hits.append(low <= truth <= high)
    assert np.mean(hits) > 0.93


@pytest.mark.no_cover
def test_the_interval_of_a_share_with_gains_covers():
    truth = 2.0 * 0.02**0.5
    draw = np.random.default_rng(0)
    hits = []
    for _ in range(400):
        rank = np.sort(draw.random(3000))
        loss = (draw.random(3000) < rank / 2 + 0.05).astype(int) - (draw.random(3000) < 0.05)
        low, high = kept_share(loss, 0.02)[1:]
        hits.append(low <= truth <= high)
    assert np.mean(hits) > 0.93


def test_a_column_that_no_call_has_is_an_error(log):
    with pytest.raises(ValueError, match="anything under the column that was named for gold"):
        estimate(log(without_gold(stream(100))), small="tfidf", columns={"gold": "truth"})
