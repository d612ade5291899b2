"""Whose voice a sentence has; that what the benchmark learns is what the package reads."""

import pytest

from benchmarks import voices as learning
from langchain_dsplus.fidelity import voices
from langchain_dsplus.fidelity.verdicts import count_verdicts

ROWS = [
    learning.Row(text, voice, "here")
    for voice, text in (
        ("tells", "The tenant paid the rent on 3 May."),
        ("tells", "The tenant says that the fee is too high."),
        ("tells", "房客五月三日付了房租。"),
        ("orders", "Rule that the tenant paid the rent."),
        ("orders", "Rule that the fee is fine."),
        ("judges", "The fee is plainly too high."),
        ("judges", "The rent is plainly too high."),
    )
]
TEXTS = [*(row.text for row in ROWS), "The rent is high.", "", "!?", "Unheard of", "a" * 5000]


def test_what_is_learned_is_what_is_read(tmp_path, monkeypatch):
    read = learning.Reader(ROWS)
    path = tmp_path / "voices.json.gz"
    learning.write(path, read, [0.5, 1.0])
    model = voices._load(path.read_bytes())
    monkeypatch.setattr(voices, "_model", lambda: model)
    voices.read_voice.cache_clear()
    found = [voices.read_voice(text) for text in TEXTS]
    voices.read_voice.cache_clear()
    for voice, scores in zip(found, read(TEXTS), strict=True):
        assert voice == pytest.approx(tuple(scores), abs=0.05)
    assert found[3].orders > found[0].orders
    assert found[5].judges > found[1].judges


@pytest.mark.parametrize(
    ("judged", "told"),
    [
        ("The clinic had no business charging for that.", "According to her, the clinic charged for that."),
        ("His excuse convinces nobody.", "The teacher calls it an excuse."),
        ("这个说法站不住脚。", "房东表示他有他的理由。"),
    ],
)
def test_who_judges(judged, told):
    source = "I was charged 40 dollars. He gave a reason. 他说了他的理由。"
    assert count_verdicts(judged, source)
    assert not count_verdicts(told, source)


def test_a_verdict_needs_more_where_its_words_are_the_sources():
    text = "The offer falls well short of what the cleaner owes."
    assert voices.new_share(text, set()) > 0.5
    assert voices.new_share(text, voices.known_words(text)) == 0
    assert count_verdicts(text, "I brought a coat.") == 1
