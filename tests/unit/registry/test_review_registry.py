"""What may not bring a void certificate back, and a state that was put in place by hand."""

from __future__ import annotations

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("skops")
pytest.importorskip("filelock")

from langchain_core.runnables import RunnableLambda
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.registry.registry import ModelRegistry
from langchain_dsplus.registry.state import STATE, RegistryError
from langchain_dsplus.small_models.sklearn import SklearnClassifier

WORDS = {"parcel": ["parcel", "courier", "postage"], "refund": ["refund", "money", "voucher"]}


def parcel(text: str) -> str:
    return "parcel"


@pytest.fixture
def registry(tmp_path):
    rows = [(word, label) for label, words in WORDS.items() for word in words]
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression(C=30))
    found = ModelRegistry(tmp_path / "my models")
    found.start(SklearnClassifier(pipeline.fit(*zip(*rows, strict=True))))
    return found


def table(registry, *, first=0):
    """Rows on which small and large model agree; always the same for the same `first`."""
    rows = [
        {"id": f"r{place}", "small": "parcel", "confidence": 0.9 + place / 1e6, "large": "parcel", "gold": "parcel"}
        for place in range(first, first + 700)
    ]
    router = registry.router(RunnableLambda(parcel), version="v1")
    return Outcomes.from_records(rows, about=router.about)


def test_rows_of_a_void_certificate_do_not_certify_again(registry):
    assert registry.certify(table(registry), 0.05).certified
    registry.void("an alarm")
    for again in (lambda rows: registry.certify(rows, 0.05), lambda rows: registry.certify(rows, 0.05, level=0.9)):
        with pytest.raises(RegistryError, match=r"are the rows of certificate \w+, which is void: an alarm"):
            again(table(registry))
    assert registry.certificate is None
    assert registry.certify(table(registry, first=1000), 0.05).certified
    assert registry.certificate is not None


def test_the_same_rows_may_certify_another_promise(registry):
    for max_loss in (0.05, 0.06, 0.05):
        found = registry.certify(table(registry), max_loss)
        assert registry.certificate == found
    assert [entry.get("cause") for entry in registry.live.certificates] == ["replaced", "replaced", None]


def test_a_state_from_a_backup_is_followed_though_its_serial_is_the_same(registry):
    before = (registry.path / STATE).read_bytes()
    registry.certify(table(registry), 0.05)
    router = registry.router(RunnableLambda(parcel), version="v1", include_route=True)
    serial = registry.serial
    assert router.invoke("parcel")["route"]["accepted"]
    (registry.path / STATE).write_bytes(before)
    registry.add(registry.load())
    assert registry.serial == serial
    assert router.refresh()
    assert not router.invoke("parcel")["route"]["accepted"]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "[" * 900 + "]" * 900], ids=["nan", "infinity", "deep"])
def test_a_state_that_is_no_json_of_ours_is_refused(registry, value):
    file = registry.path / STATE
    file.write_text(
        f'{{"kind": "langchain-dsplus model registry", "format": 1, "sha256": "0", "state": {{"a": {value}}}}}'
    )
    with pytest.raises(RegistryError, match="is damaged"):
        _ = registry.live


def test_rows_of_a_version_that_was_rolled_back_do_not_certify_it_again(registry):
    rows = [(f"{word} {n}", label) for label, words in WORDS.items() for word in words for n in range(150)]
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10))
    other = SklearnClassifier(pipeline.fit(*zip(*rows, strict=True)))
    options = {"max_calibration_error": 1.0, "max_loss": 0.05}
    number = registry.add(other).number
    assert registry.gate(number, rows, **options).report.promoted
    registry.promote(number)
    assert registry.certify(table(registry), 0.05, since_promotion=True).certified
    registry.rollback("complaints")
    assert registry.gate(number, rows, **options).report.promoted
    registry.promote(number)
    with pytest.raises(RegistryError, match="rolled back to version 1"):
        registry.certify(table(registry), 0.05, since_promotion=True)
    assert registry.certificate is None


def test_a_candidate_reads_what_the_version_before_it_reads(registry):
    with pytest.raises(RegistryError, match="`model` reads the key 'question', the version before it None"):
        registry.add(registry.load().model_copy(update={"input_key": "question"}))
