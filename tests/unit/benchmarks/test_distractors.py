"""The distractor texts are what issue and table say: short tasks with gold in much noise."""

import json
from collections import Counter
from pathlib import Path

ITEMS = json.loads((Path(__file__).parents[3] / "benchmarks" / "distractors.json").read_text(encoding="utf-8"))


def test_each_task_has_its_gold_and_its_decisive_sentences_in_the_text():
    assert len(ITEMS) >= 40
    assert len({item["id"] for item in ITEMS}) == len(ITEMS)
    for item in ITEMS:
        assert item["gold"] in item["labels"]
        assert item["decisive"]
        assert all(sentence in item["text"] for sentence in item["decisive"])


def test_the_noise_is_eighty_to_two_hundred_words():
    for item in ITEMS:
        decisive = sum(len(sentence.split()) for sentence in item["decisive"])
        assert 80 <= len(item["text"].split()) - decisive <= 200, item["id"]


def test_no_label_wins_by_being_frequent():
    for task in {item["task"] for item in ITEMS}:
        golds = Counter(item["gold"] for item in ITEMS if item["task"] == task)
        assert max(golds.values()) - min(golds.values()) <= 1, task
