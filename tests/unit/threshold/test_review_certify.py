"""What an adversarial reading of `certify`, its words and its binding found; by public names."""

from __future__ import annotations

import functools
import math
import sys
from typing import Any

import numpy as np
import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda

from langchain_dsplus import (
    Certificate,
    ConfidenceRouter,
    FakeSmallModel,
    LabelParser,
    Outcomes,
    certify,
    choose_threshold,
)
from langchain_dsplus.answer import CertificateError, MismatchError
from langchain_dsplus.identity import score_name
from langchain_dsplus.prompts import ConformalCandidates, proficient_classes
from langchain_dsplus.threshold import coverage_path

LABELS = ["a", "b"]


def rows_of(n: int, **more: Any) -> list[dict[str, Any]]:
    """Rows on which both models say the same, from unsure to sure."""
    return [{"id": str(i), "small": "a", "confidence": i / n, "large": "a", "gold": "a", **more} for i in range(n)]


def random_rows(n: int, seed: int, gold: float = 1.0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        sure = float(rng.random())
        small, large = ("a" if rng.random() < p else "b" for p in (0.5 + sure / 2, 0.9))
        true = "a" if rng.random() < gold else None
        rows.append({"id": str(i), "small": small, "confidence": sure, "large": large, "gold": true})
    return rows


def roundtrip(certificate: Certificate) -> Certificate:
    back = Certificate.from_json(certificate.to_json())
    assert back == certificate
    return back


# --- infinite thresholds --------------------------------------------------------------------------------------------


def test_thresholds_that_accept_nothing_certify_nothing() -> None:
    certificate = roundtrip(certify(Outcomes.from_records(rows_of(700)), thresholds=[math.inf]))
    assert (certificate.status, certificate.threshold) == ("NOT_CERTIFIED", math.inf)
    assert "accept nothing" in certificate.verdict


def test_a_path_that_accepts_nothing_at_first_goes_on() -> None:
    rows = [
        {"id": str(i), "small.s": "a", "confidence.s": i / 700, "small.t": "a", "confidence.t": i / 700, "large": "a"}
        for i in range(700)
    ]
    nothing = {"s": math.inf, "t": math.inf}
    certificate = roundtrip(certify(Outcomes.from_records(rows), path=[nothing, {"s": 0.5, "t": math.inf}]))
    assert certificate.thresholds == {"s": 0.5, "t": math.inf}
    assert roundtrip(certify(Outcomes.from_records(rows), path=[nothing])).status == "NOT_CERTIFIED"


def test_minus_infinity_accepts_all_and_is_json() -> None:
    certificate = roundtrip(certify(Outcomes.from_records(rows_of(700)), thresholds=[0.5, -math.inf]))
    assert (certificate.threshold, certificate.coverage) == (-sys.float_info.max, 1.0)


@pytest.mark.parametrize("argument", ["thresholds", "path"])
def test_an_empty_sequence_is_an_error_and_counts_nothing(argument: str) -> None:
    outcomes = Outcomes.from_records(rows_of(10))
    arguments: dict[str, Any] = {argument: []}
    with pytest.raises(ValueError, match=f"`{argument}` is empty"):
        certify(outcomes, **arguments)
    assert "certifications" not in outcomes.about


def test_a_harmless_pruned_prompt_alone_is_no_certificate() -> None:
    rows = [{**row, "large": "b", "gold": "b", "large_pruned": "b"} for row in rows_of(700)]
    certificate = roundtrip(certify(Outcomes.from_records(rows), prompt="pruned", start=math.inf))
    assert (certificate.status, certificate.threshold) == ("NOT_CERTIFIED", math.inf)
    assert certificate.p_value > 0.05
    assert certificate.verdict.startswith("LARGE ALONE")


def test_start_may_be_what_choose_threshold_returned() -> None:
    outcomes = Outcomes.from_records(random_rows(900, 1))
    choice = choose_threshold(outcomes, "max_accuracy", bootstrap=0)
    assert certify(outcomes, start=choice).steps[0].thresholds == {"small": choice.threshold}
    assert proficient_classes(outcomes, choice) == proficient_classes(outcomes, choice.threshold)


# --- labels and verdicts --------------------------------------------------------------------------------------------


def test_labels_may_be_whole_numbers_as_answers_may() -> None:
    rows = [{**row, "small": 1, "large": 1, "gold": 1} for row in rows_of(700)]
    assert certify(Outcomes.from_records(rows, about={"labels": [0, 1]})).certified


def test_labels_by_small_model() -> None:
    rows = [
        {"id": str(i), "small.s": "a", "confidence.s": i / 900, "small.t": "b", "confidence.t": 0.5, "large": "a"}
        for i in range(900)
    ]
    outcomes = Outcomes.from_records(rows, about={"labels": {"s": ["a"], "t": ["a"]}})
    certificate = certify(outcomes, path=[{"s": 0.5, "t": 0.6}, {"s": 0.5, "t": 0.4}])
    assert certificate.certified
    assert certificate.coverage < 0.6, "`t` names a label that it does not have: never accepted"


def test_a_table_that_keeps_only_verdicts_may_have_empty_answers() -> None:
    rows = [{**row, "small": None, "large": None, "small_ok": True, "large_ok": True} for row in rows_of(700)]
    assert certify(Outcomes.from_records(rows)).coverage == 1.0


def test_never_local_must_be_labels() -> None:
    with pytest.raises(ValueError, match="never_local"):
        certify(Outcomes.from_records(rows_of(10), about={"labels": LABELS}), never_local=["A"])


# --- words and numbers around it ------------------------------------------------------------------------------------


def test_bounds_without_gold_hold_for_every_truth() -> None:
    rows = random_rows(300, 2)
    rows = [{**row, "gold": row["gold"] if row["small"] != row["large"] else None} for row in rows]
    certificate = certify(Outcomes.from_records(rows))
    for truth in ("a", "b", "z"):
        full = [{**row, "gold": row["gold"] or truth} for row in rows]
        known = {b.name: b for b in certify(Outcomes.from_records(full, other_gold="z")).baselines}
        for bound in certificate.baselines:
            if bound.name in ("always large", "always small", "oracle"):
                assert bound.accuracy is None
                assert bound.needs_gold > 0
                assert bound.low <= (known[bound.name].accuracy or 0.0) + 1e-12, (bound.name, truth)
                assert bound.high >= (known[bound.name].accuracy or 0.0) - 1e-12, (bound.name, truth)


@pytest.mark.parametrize("seed", range(3))
def test_accuracies_count_by_how_rows_were_chosen(seed: int) -> None:
    rows = [{**row, "gold": None} for row in random_rows(1500, seed)]
    table = Outcomes.from_records(rows, about={"labels": ["a", "b"]})
    part = table.with_gold([{**row, "gold": "a"} for row in table.to_label(agreements=0.1)])
    whole = table.with_gold({row["id"]: "a" for row in rows})
    want = {b.name: b.accuracy for b in certify(whole, max_loss=0.05).baselines}
    naive = 1.0 - np.nanmean(1.0 - part.correct("large"))
    found = certify(part, max_loss=0.05)
    for baseline in found.baselines:
        assert baseline.accuracy is not None
        assert baseline.low <= (want[baseline.name] or 0.0) <= baseline.high, baseline.name
    assert abs(naive - (want["always large"] or 0.0)) > 0.05
    assert "needs" not in (found.verdict or "")


def test_baselines_count_who_is_right() -> None:
    rows = random_rows(1500, 3)
    certificate = certify(Outcomes.from_records(rows), max_loss=0.05)
    assert certificate.threshold is not None
    small, large = (np.array([row[who] == "a" for row in rows], dtype=float) for who in ("small", "large"))
    kept = np.array([row["confidence"] > certificate.threshold for row in rows])
    share = kept.mean()
    wanted = {
        "always large": large.mean(),
        "always small": small.mean(),
        "random at equal budget": share * small.mean() + (1 - share) * large.mean(),
        "oracle": np.maximum(small, large).mean(),
        "cascade": np.where(kept, small, large).mean(),
    }
    found = {baseline.name: baseline for baseline in certificate.baselines}
    for name, accuracy in wanted.items():
        assert found[name].accuracy == pytest.approx(accuracy), name
        assert found[name].loss == pytest.approx(large.mean() - accuracy), name
        assert found[name].low < accuracy < found[name].high


def test_outages_of_the_large_model_ask_for_no_labels() -> None:
    rows = rows_of(1000)
    for row in rows[::50]:
        row.update(large=None, gold="b")
    outcomes = Outcomes.from_records(rows, about={"labels": ["a", "b"]})
    certificate = certify(outcomes, max_loss=0.01)
    assert certificate.unlabeled == 0, "gold is known there"
    assert outcomes.to_label(agreements=0) == []
    assert {b.needs_gold for b in certificate.baselines} == {0}
    assert {b.accuracy for b in certificate.baselines} == {1.0}


@pytest.mark.parametrize("prompt", ["plain", "pruned"])
def test_labels_needed_are_those_that_to_label_writes(prompt: Any) -> None:
    rows = random_rows(400, 4, gold=0.5)
    for i, row in enumerate(rows):
        row["large_pruned"] = "b" if i % 7 == 0 else row["large"]
        if i % 5 == 0:
            row.update(small=None, confidence=None)
        if i % 11 == 0:
            row["large"] = None
    outcomes = Outcomes.from_records(rows)
    certificate = certify(outcomes, prompt=prompt, start=0.9)
    assert certificate.help is not None
    assert certificate.help["labels_needed"] > 0
    if prompt == "plain":
        assert certificate.help["labels_needed"] == len(outcomes.to_label(agreements=0))
    else:
        assert certificate.help["labels_needed"] <= len(outcomes.to_label(prompt="pruned", agreements=0))
    assert "to_label" in certificate.verdict or certificate.n < certificate.help["least_n"]


def test_help_counts_groups() -> None:
    rows = [{**row, "group": str(i // 10)} for i, row in enumerate(rows_of(1000))]
    certificate = certify(Outcomes.from_records(rows))
    assert certificate.help is not None
    assert (certificate.help["least_groups"], certificate.help["least_n"]) == (598, 5980)
    assert min(certificate.help["planned_n"].values()) >= 5980
    assert certificate.help["smallest_loss"] > 0.02  # 100 groups without a harm show no less
    rows = [{**row, "group": str(i // 10)} for i, row in enumerate(rows_of(6000))]
    assert certify(Outcomes.from_records(rows)).certified, "so many are enough"


def test_help_names_the_slice_that_is_too_small() -> None:
    rows = [{**row, "slices": {"lang": "de" if i < 300 else "fr"}} for i, row in enumerate(rows_of(3000))]
    certificate = certify(Outcomes.from_records(rows), slices=["lang"])
    assert certificate.help is not None
    assert certificate.help["slices"]["lang=de"] == {"n": 300, "least_n": 598}
    assert "lang=de" in certificate.verdict
    assert min(certificate.help["planned_n"].values()) >= 5980
    assert certificate.help["smallest_loss"] == pytest.approx(1 - 0.05 ** (1 / 300), abs=1e-4)


def test_a_promise_per_group_says_so() -> None:
    rows = [{**row, "group": str(i // 2)} for i, row in enumerate(rows_of(1400))]
    certificate = certify(Outcomes.from_records(rows), unit="group")
    assert certificate.certified
    assert "per group" in certificate.text


def test_nothing_local_is_no_cascade() -> None:
    certificate = certify(Outcomes.from_records([{**r, "gold": "b", "large": "b"} for r in rows_of(700)]), start=5.0)
    assert certificate.coverage == 0.0
    assert certificate.verdict.startswith("NOT ENOUGH DATA")


def test_several_small_models_are_not_the_first_alone() -> None:
    rows = [
        {"id": str(i), "small.small": "a" if i < 500 else "b", "confidence.small": float(i < 500), "small.t": "a"}
        | {"confidence.t": 0.5, "large": "a", "gold": "a"}
        for i in range(1000)
    ]
    certificate = certify(Outcomes.from_records(rows), path=[{"small": 0.5, "t": 0.6}, {"small": 0.5, "t": 0.4}])
    assert certificate.coverage == 1.0
    # No call of the large model is left, but it takes both: the line to run is the router, not the first model.
    assert certificate.verdict.startswith("SMALL ALONE: the small models by themselves")
    assert certificate.next_line.startswith("router = ConfidenceRouter(small=[small, t]")
    found = {baseline.name: baseline.accuracy for baseline in certificate.baselines}
    assert (found["cascade"], found["always small"]) == (1.0, 0.5)


def test_costs_of_several_small_models_count() -> None:
    rows = [
        {"id": str(i), "small.s": "a", "confidence.s": i / 1000, "small.t": "a", "confidence.t": 0.5, "large": "a"}
        | {"cost_large": 10.0, "cost_small.s": 1.0, "cost_small.t": 2.0}
        for i in range(1000)
    ]
    certificate = certify(Outcomes.from_records(rows), path=[{"s": 0.4995, "t": 0.6}, {"s": 0.4995, "t": 0.4}])
    assert [step.cost for step in certificate.steps] == [1.0 + 0.5 * 2.0 + 0.5 * 10.0, 1.0 + 0.5 * 2.0]


# --- binding --------------------------------------------------------------------------------------------------------


def several() -> Certificate:
    rows = [
        {"id": str(i), "small.s": "a", "confidence.s": i / 900, "small.t": "a", "confidence.t": i / 900, "large": "a"}
        for i in range(900)
    ]
    outcomes = Outcomes.from_records(rows, about={"score": "max_probability", "labels": LABELS})
    return certify(outcomes, path=coverage_path(outcomes))


def router(certificate: Certificate, *names: str, **settings: Any) -> ConfidenceRouter:
    table = {"x": {"a": 0.99, "b": 0.01}}
    return ConfidenceRouter(
        small=[FakeSmallModel(table, LABELS, name=name) for name in names],
        large=FakeListChatModel(responses=["a"]) | LabelParser(LABELS),
        threshold=certificate,
        **settings,
    )


def test_the_order_of_the_small_models_is_bound() -> None:
    certificate = roundtrip(several())
    assert router(certificate, "s", "t").small_names == ["s", "t"]
    with pytest.raises(MismatchError) as raised:
        router(certificate, "t", "s")
    assert raised.value.mismatches == ("small_order",)
    with pytest.warns(UserWarning, match="small_order"):
        assert router(certificate, "t", "s", on_mismatch="escalate_all").void == ("small_order",)


@pytest.mark.parametrize("names", [("s", "u"), ("s",), ("s", "t", "u")])
def test_other_small_models_are_a_mismatch(names: tuple[str, ...]) -> None:
    with pytest.raises(MismatchError, match="small models"):
        router(several(), *names, on_mismatch="warn")


def test_a_certificate_for_several_needs_to_know_which() -> None:
    rows = [
        {"probabilities": {"a": 0.9, "b": 0.1}, "confidence": 0.9, "gold": "a"},
        {"probabilities": {"a": 0.2, "b": 0.8}, "confidence": 0.8, "gold": "b"},
    ]
    with pytest.raises(ValueError, match="`model`"):
        ConformalCandidates.fit(rows * 20, threshold=several())


def test_naming_parts_later_changes_the_words() -> None:
    certificate = certify(Outcomes.from_records(rows_of(700)))
    assert "Unverifiable" in certificate.verdict
    bound = certificate.bind(small="1", large="2", prompt="3")
    assert "Unverifiable" not in bound.verdict
    assert (bound.status, bound.threshold, bound.unverifiable) == ("CERTIFIED", certificate.threshold, ())


@pytest.mark.parametrize("small", ["unverifiable", {"s": "1", "t": "unverifiable"}])
def test_a_part_that_cannot_be_seen_into_is_said(small: Any) -> None:
    about = {"small": small, "large": "2", "prompt": "3"}
    certificate = certify(Outcomes.from_records(rows_of(700), about=about))
    assert certificate.unverifiable == ("small",)
    assert certificate.verdict.endswith("name them: small.")
    assert certificate.bind(small="1").unverifiable == ()


def test_lambdas_and_partials_are_told_apart() -> None:
    def best(probabilities: dict[str, float], power: float) -> float:
        return float(max(probabilities.values()) ** power)

    scores = [
        lambda probabilities: max(probabilities.values()),
        lambda probabilities: min(probabilities.values()),
        lambda probabilities: 2 * max(probabilities.values()),
        functools.partial(best, power=1.0),
        functools.partial(best, power=2.0),
    ]
    assert len({score_name(score) for score in scores}) == len(scores)
    again = lambda probabilities: max(probabilities.values())  # noqa: E731
    assert score_name(again) == score_name(scores[0])


@pytest.mark.parametrize(
    "wrong", [{"never_local": "ab"}, {"slices": [1]}, {"verdict": None}, {"by_class": [3]}, {"n": True}]
)
def test_a_certificate_with_a_field_of_the_wrong_kind_is_none(wrong: dict[str, Any]) -> None:
    body = certify(Outcomes.from_records(rows_of(20))).to_dict()
    with pytest.raises(CertificateError, match=next(iter(wrong))):
        Certificate.from_dict({**body, **wrong})


@pytest.mark.parametrize("text", ["", "  ", "[]", "{"])
def test_a_text_that_is_no_certificate(text: str) -> None:
    with pytest.raises(CertificateError, match="not a certificate"):
        Certificate.from_json(text)


def test_about_may_hold_numpy_and_nothing_that_is_no_json() -> None:
    about = {"labels": np.array(["a", "b"]), "score": np.str_("margin"), "n": np.int64(3), "pair": (1, 2)}
    outcomes = Outcomes.from_records(rows_of(700), about=about)
    certificate = roundtrip(certify(outcomes))
    assert (certificate.about["labels"], certificate.about["n"], certificate.about["pair"]) == (LABELS, 3, [1, 2])
    outcomes.about["labels"].append("c")
    assert certificate.about["labels"] == LABELS, "a certificate is its own"
    for wrong in (math.nan, math.inf, {1, 2}, object()):
        with pytest.raises(ValueError, match="about"):
            Outcomes.from_records([], about={"x": [wrong]})


def test_facts_by_name_hold_for_one_small_model_of_another_name() -> None:
    rows = [{"id": str(i), "small.s": "a", "confidence.s": i / 700, "large": "a"} for i in range(700)]
    about = {"score": {"s": "max_probability"}, "labels": {"s": LABELS}}
    certificate = certify(Outcomes.from_records(rows, about=about))
    assert router(certificate, "mine").small_names == ["mine"]
    with pytest.raises(MismatchError) as raised:
        router(certificate, "mine", score="margin")
    assert raised.value.mismatches == ("score",)
    other = certify(Outcomes.from_records(rows, about={**about, "labels": {"s": ["a", "c"]}}))
    with pytest.raises(MismatchError) as raised:
        router(other, "mine", on_mismatch="escalate_all")
    assert raised.value.mismatches == ("labels",)


@pytest.mark.parametrize(("configurable", "pruned"), [({}, True), ({"dsplus_threshold": 0.995}, False)])
def test_the_pruned_prompt_is_certified_at_its_own_thresholds_only(configurable: dict[str, Any], pruned: bool) -> None:
    rows = [{**row, "large_pruned": "a"} for row in rows_of(900)]
    outcomes = Outcomes.from_records(rows, about={"score": "max_probability", "labels": LABELS})
    certificate = certify(outcomes, prompt="pruned", thresholds=[0.99], start=0.99)
    asked: list[Any] = []

    def big(value: dict[str, Any]) -> str:
        asked.append(value["dsplus"]["probabilities"])
        return "a"

    small = FakeSmallModel({"x": {"a": 0.6, "b": 0.4}}, LABELS)
    cascade = ConfidenceRouter(small=small, large=RunnableLambda(big), threshold=certificate, version="1")
    cascade.invoke({"text": "x"}, {"configurable": configurable})
    assert bool(asked[0]) is pruned
