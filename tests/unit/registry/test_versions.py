"""`ModelRegistry` and `LiveRouter`: what goes live, what does not, what survives a kill, and what may be certified."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("skops")
pytest.importorskip("filelock")

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from langchain_dsplus.answer import MismatchError
from langchain_dsplus.learning.distiller import Distiller
from langchain_dsplus.monitoring.audit import AuditMonitor
from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.registry.live import VERSION_KEY, LiveRouter
from langchain_dsplus.registry.registry import ModelRegistry
from langchain_dsplus.registry.rules import NotPromotedError
from langchain_dsplus.registry.state import RegistryError, RowHash
from langchain_dsplus.small_models.fake import FakeSmallModel
from langchain_dsplus.small_models.sentence import SentenceClassifier
from langchain_dsplus.small_models.sklearn import SklearnClassifier
from langchain_dsplus.threshold.certify import certify
from langchain_dsplus.traces.collect import collect_outcomes
from langchain_dsplus.traces.recorder import JSONLRecorder
from tests.unit.topics import TOPICS, large
from tests.unit.topics import texts as topic_texts


def texts(n, seed):
    return topic_texts(n, seed, mixed=True)


def tfidf(rows, **options):
    pipeline = make_pipeline(TfidfVectorizer(min_df=1), LogisticRegression(C=30, max_iter=500))
    return SklearnClassifier(pipeline.fit(*zip(*rows, strict=True)), **options)


@pytest.fixture(scope="session")
def models():
    """An old model of few rows, a better one of many, a worse one; and rows that none of them saw."""
    few, many = texts(24, 1), texts(600, 2)
    return {
        "few": few,
        "many": many,
        "old": tfidf(few),
        "new": tfidf([*few, *many]),
        "bad": tfidf([(text, "parcel" if topic == "refund" else topic) for text, topic in [*few, *many]] + few),
        "gold": texts(500, 3),
    }


GATE = {"max_calibration_error": 0.2}


@pytest.fixture
def registry(tmp_path, models):
    found = ModelRegistry(tmp_path / "models")
    found.start(models["old"], trained_on=models["few"])
    return found


def promoted(registry, models):
    version = registry.add(models["new"], trained_on=models["many"], teacher="gpt", seed=7)
    assert registry.gate(version.number, models["gold"], **GATE).report.promoted
    return registry.promote(version.number)


def outcomes(registry, rows, prefix="r"):
    data = [{"id": f"{prefix}{n}", "input": text, "gold": topic} for n, (text, topic) in enumerate(rows)]
    table = collect_outcomes(registry.load(), RunnableLambda(large), data, progress=False)
    return table, {row["id"]: row["input"] for row in data}


# --- one version after another --------------------------------------------------------------------------------------


def test_a_better_model_goes_live_and_a_worse_one_is_kept_aside(registry, models):
    assert registry.live.number == 1
    assert registry.status().next_step.startswith("Version 1 has no certificate in force")
    new = registry.add(models["new"], trained_on=models["many"], teacher="gpt", seed=7)
    bad = registry.add(models["bad"], trained_on=models["many"])
    assert (new.state, new.parent, new.teacher, new.seed, new.n_rows) == ("candidate", 1, "gpt", 7, 600)
    gate = registry.gate(new.number, models["gold"], **GATE)
    assert gate.report.promoted, gate.report.reasons
    found = registry.gate(bad.number, models["gold"], **GATE)
    assert not found.report.promoted
    kept = registry.versions[2]
    assert (kept.state, kept.reasons) == ("kept aside", found.report.reasons)
    with pytest.raises(NotPromotedError, match=r"version 3 is kept aside: .*forgets") as error:
        registry.promote(bad.number)
    assert error.value.reasons == found.report.reasons
    assert "Version 2 has passed its gate" in registry.status().next_step
    assert registry.promote().number == 2
    assert [v.state for v in registry.versions] == ["earlier", "live", "kept aside"]
    assert registry.load().version == models["new"].version
    events = [(e["event"], e["version"]) for e in registry.history]
    assert events == [
        ("started", 1), ("added", 2), ("added", 3), ("gate passed", 2), ("kept aside", 3), ("promoted", 2),
    ]  # fmt: skip
    assert registry.status().gates == [gate, found]
    json.dumps(registry.history, allow_nan=False)


def test_a_version_that_is_live_stays_live_until_another_has_passed(registry, models):
    with pytest.raises(NotPromotedError, match="no version has passed a gate"):
        registry.promote()
    registry.add(models["new"])
    with pytest.raises(NotPromotedError, match="version 2 is not promoted: it had no gate"):
        registry.promote(2)
    with pytest.raises(NotPromotedError, match="version 1 is live already"):
        registry.promote(1)
    with pytest.raises(RegistryError, match="there is no version 9"):
        registry.promote(9)
    assert registry.live.number == 1


def test_a_gate_counts_for_just_two_versions(registry, models):
    first = registry.add(models["new"], trained_on=models["many"])
    other = registry.add(tfidf(models["many"]), trained_on=models["many"])
    for version in (first, other):
        registry.gate(version.number, texts(500, 10 + version.number), **GATE)
    registry.promote(first.number)
    with pytest.raises(NotPromotedError, match="its gate was not against version 2, which is live now"):
        registry.promote(other.number)


def test_the_last_gate_decides(registry, models):
    version = registry.add(models["new"], trained_on=models["many"])
    assert registry.gate(version.number, models["gold"], **GATE).report.promoted
    again = registry.gate(version.number, models["gold"][:4], **GATE)
    assert not again.report.promoted
    with pytest.raises(NotPromotedError, match="kept aside"):
        registry.promote(version.number)


def test_trying_again_costs_error_probability(registry, models):
    version = registry.add(models["new"], trained_on=models["many"])
    levels = [registry.gate(version.number, rows, **GATE) for rows in (models["gold"], models["gold"], texts(500, 8))]
    assert [gate.earlier for gate in levels] == [0, 1, 2]
    assert [gate.level for gate in levels] == pytest.approx([0.95, 0.975, 0.9875])
    other = registry.add(models["bad"], trained_on=models["many"])
    assert registry.gate(other.number, texts(100, 77)).earlier == 0
    assert registry.gate(other.number, models["gold"][:50]).earlier == 3


def test_rows_that_trained_do_not_judge(registry, models):
    version = registry.add(models["new"], trained_on=models["many"])
    for rows, who in ((models["many"][:30], 2), (models["few"], 2)):
        with pytest.raises(
            RegistryError, match=rf"`gold_rows`: {len(rows)} of .* used to train version {who}"
        ) as error:
            registry.gate(version.number, [*rows, *models["gold"]])
        assert rows[0][0] not in str(error.value)
    assert registry.fresh([*models["many"], *models["few"], *models["gold"]], version.number) == models["gold"]
    assert registry.fresh([*models["many"], *models["few"]]) == models["many"]
    assert registry.gates() == []


def test_the_split_is_the_same_every_time(registry, models):
    train, gate = registry.split(models["gold"])
    assert sorted([*train, *gate]) == sorted(models["gold"])
    assert 180 < len(gate) < 320
    again = ModelRegistry(registry.path)
    rows = list(reversed([{"input": text, "gold": topic} for text, topic in models["gold"]]))
    assert {row["input"] for row in again.split(rows)[1]} == {text for text, _ in gate}
    assert len(registry.split(models["gold"], 0.1)[1]) < len(gate)
    with pytest.raises(RegistryError, match="`share`"):
        registry.split(models["gold"], 1.0)


# --- certificates ---------------------------------------------------------------------------------------------------


def test_a_promotion_voids_the_certificate_and_a_rollback_restores_it(registry, models):
    table, inputs = outcomes(registry, texts(700, 4))
    found = registry.certify(table, 0.05, inputs=inputs)
    assert found.certified
    assert registry.certificate == found
    promoted(registry, models)
    assert registry.certificate is None
    [entry] = registry.versions[0].certificates
    assert (entry["state"], entry["cause"]) == ("void", "promotion")
    assert entry["reason"] == "version 2 took the place of version 1"
    assert registry.rollback("complaints").number == 1
    assert registry.certificate == found
    assert registry.versions[1].reasons == ["complaints"]
    with pytest.raises(NotPromotedError, match="rolled back since its gate"):
        registry.promote(2)
    assert registry.gate(2, texts(500, 31), **GATE).report.promoted
    assert registry.promote(2).number == 2
    assert registry.certificate is None


def test_a_certificate_that_was_voided_for_another_reason_does_not_come_back(registry, models):
    table, inputs = outcomes(registry, texts(700, 4))
    found = registry.certify(table, 0.05, inputs=inputs)
    registry.void("an alarm")
    assert registry.certificate is None
    with pytest.raises(RegistryError, match="no certificate in force"):
        registry.void("again")
    with pytest.raises(RegistryError, match="`certificate` is void: an alarm"):
        registry.attach(found, table, inputs=inputs)
    promoted(registry, models)
    registry.rollback()
    assert registry.certificate is None
    assert registry.history[-1]["note"] == "without a certificate"


def test_a_certificate_that_was_tampered_with_does_not_come_back(registry, models):
    table, inputs = outcomes(registry, texts(700, 4))
    found = registry.certify(table, 0.05, inputs=inputs)
    promoted(registry, models)
    file = registry.path / "certificates" / f"{found.id}.json"
    file.write_text(file.read_text().replace('"max_loss": 0.05', '"max_loss": 0.01'))
    registry.rollback()
    assert registry.certificate is None
    assert "no longer fits" in registry.history[-1]["note"]


def test_rows_that_were_used_do_not_certify(registry, models):
    promoted(registry, models)
    for used in (models["many"][:50], models["gold"][:50], models["few"]):
        table, inputs = outcomes(registry, [*texts(600, 5), *used])
        with pytest.raises(RegistryError, match=rf"`inputs`: {len(used)} of {600 + len(used)} rows were used") as error:
            registry.certify(table, 0.05, inputs=inputs)
        assert used[0][0] not in str(error.value)
        assert "certifications" not in table.about  # nothing was spent
    table, inputs = outcomes(registry, texts(600, 5))
    with pytest.raises(RegistryError, match="`inputs`: without them nobody can tell"):
        registry.certify(table, 0.05)
    assert registry.certify(table, 0.05, inputs=inputs).certified
    assert registry.certificate is not None


def test_ids_that_were_used_do_not_certify(registry, models):
    ids = [f"route{n}" for n in range(600)]
    version = registry.add(models["new"], trained_on=models["many"], ids=ids)
    registry.gate(version.number, models["gold"], **GATE)
    registry.promote(version.number)
    table, inputs = outcomes(registry, models["many"], prefix="route")
    with pytest.raises(RegistryError, match="`id`: 600 of 600 rows were used"):
        registry.certify(table, 0.05, since_promotion=True)
    # Another text under a used id is another row: places serve as ids where there are none.
    table, inputs = outcomes(registry, texts(600, 5), prefix="route")
    assert registry.certify(table, 0.05, inputs=inputs).certified


def test_traffic_repeats_itself(registry, models):
    promoted(registry, models)
    table, inputs = outcomes(registry, [*texts(600, 5), *models["many"][:50]])
    with pytest.raises(RegistryError, match="`inputs`"):
        registry.certify(table, 0.05, inputs=inputs)
    assert registry.certify(table, 0.05, since_promotion=True).certified


def test_only_a_certificate_of_the_live_version_counts(registry, models):
    old, inputs = outcomes(registry, texts(600, 5))
    certificate = certify(old, 0.05)
    promoted(registry, models)
    with pytest.raises(RegistryError, match="`certificate`: `small` is not version 2"):
        registry.attach(certificate, old, inputs=inputs)
    with pytest.raises(RegistryError, match="`outcomes`: `small` is not version 2"):
        registry.certify(old, 0.05, inputs=inputs)
    table, inputs = outcomes(registry, texts(600, 5))
    certificate = certify(table, 0.05)
    with pytest.raises(RegistryError, match="not the rows that `certificate` was made from"):
        registry.attach(certificate, table.select(range(500)), inputs=inputs)
    bare = Outcomes.from_records(table.to_records())
    with pytest.raises(RegistryError, match="which `small` model"):
        registry.certify(bare, 0.05, inputs=inputs)
    refusal = certify(table.select(range(30)), 0.05)
    with pytest.raises(RegistryError, match="NOT_CERTIFIED"):
        registry.attach(refusal, table.select(range(30)), inputs=inputs)
    registry.attach(certificate, table, inputs=inputs)
    assert registry.certificate == certificate


def test_a_refusal_is_told_and_not_put_in_force(registry):
    table, inputs = outcomes(registry, texts(30, 5))
    found = registry.certify(table, 0.01, inputs=inputs)
    assert not found.certified
    assert registry.certificate is None
    assert (registry.history[-1]["event"], registry.history[-1]["note"]) == ("not certified", found.id)


def test_a_first_version_brings_its_certificate(tmp_path, models):
    registry = ModelRegistry(tmp_path / "a")
    registry.start(models["old"])
    table, _ = outcomes(registry, texts(700, 4))
    certificate = certify(table, 0.05)
    other = ModelRegistry(tmp_path / "b")
    other.start(models["old"], certificate=certificate)
    assert other.certificate == certificate
    third = ModelRegistry(tmp_path / "c")
    with pytest.raises(RegistryError, match="`small` is not version 1"):
        third.start(models["new"], certificate=certificate)
    assert not third.exists


def test_the_gate_judges_at_the_threshold_that_is_live(registry, models):
    table, inputs = outcomes(registry, texts(700, 4))
    found = registry.certify(table, 0.05, inputs=inputs)
    registry.add(models["new"], trained_on=models["many"])
    report = registry.gate(2, models["gold"], **GATE).report
    answers = models["old"].answers([text for text, _ in models["gold"]])
    assert report.n_answered == sum(answer["confidence"] > found.threshold for answer in answers)


def test_the_gate_refuses_a_threshold_of_another_score(registry, models):
    table, inputs = outcomes(registry, texts(700, 4))
    scores = [np.diff(np.sort(list(p.values()))[-2:])[0] for p in table.values("probabilities")]
    rows = [{**row, "confidence": float(score)} for row, score in zip(table.to_records(), scores, strict=True)]
    margins = Outcomes.from_records(rows, about={**table.about, "score": "margin"})
    assert registry.certify(margins, 0.05, inputs=inputs).certified
    router = registry.router(RunnableLambda(large), score="margin", include_route=True)
    assert not asked(router, "parcel courier")
    registry.add(models["new"], trained_on=models["many"])
    with pytest.raises(RegistryError, match=r"is about the score 'margin'.*pass `old_threshold="):
        registry.gate(2, models["gold"], **GATE)
    assert registry.gate(2, models["gold"], old_threshold=0.6, **GATE).report.promoted
    with pytest.raises(RegistryError, match="`level`"):
        registry.gate(2, models["gold"], level=1.0)
    with pytest.raises(RegistryError, match="version 1 is live already"):
        registry.gate(1, models["gold"])


# --- what a version may be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda m: tfidf([*m["few"], ("x", "other")]), "other labels"),
        (lambda m: tfidf(m["few"], name="else"), "is named 'else'"),
        (lambda m: tfidf(m["few"], score="margin"), "has the score 'margin'"),
        (lambda m: FakeSmallModel({}, labels=list(TOPICS), version="v1"), "no files of its own"),
        (lambda m: FakeSmallModel(lambda _: None, labels=list(TOPICS)), "construct it with `version=`"),
    ],
)
def test_a_version_must_be_like_the_one_before(registry, models, model, words):
    with pytest.raises(RegistryError, match=words):
        registry.add(model(models))
    assert [v.number for v in registry.versions] == [1]
    assert len(list((registry.path / "versions").iterdir())) == 1


def test_what_is_no_registry(tmp_path, models):
    nothing = ModelRegistry(tmp_path / "none")
    for call in (nothing.status, nothing.promote, nothing.rollback, lambda: nothing.add(models["new"])):
        with pytest.raises(RegistryError, match="is no model registry"):
            call()
    assert not (tmp_path / "none").exists()
    nothing.start(models["old"])
    with pytest.raises(RegistryError, match="has versions already"):
        nothing.start(models["new"])
    with pytest.raises(RegistryError, match="no version before version 1"):
        nothing.rollback()


@pytest.mark.parametrize("name", ["live.json", "versions/0001/small/model.skops", "versions/0001/rows.json"])
def test_whatever_was_changed_is_refused(registry, name):
    file = registry.path / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(RegistryError, match=r"damaged|changed|SHA-256|differs"):
        registry.load()


def test_a_version_that_was_changed_does_not_go_live(registry, models):
    registry.add(models["new"], trained_on=models["many"])
    registry.gate(2, models["gold"], **GATE)
    file = registry.path / "versions/0002/version.json"
    file.write_text(file.read_text().replace('"teacher": null', '"teacher": "x"'))
    with pytest.raises(RegistryError, match="version 2 cannot be used"):
        registry.promote(2)
    gate = next((registry.path / "gates").iterdir())
    gate.write_text(gate.read_text().replace("true", "false"))
    with pytest.raises(RegistryError, match="was changed"):
        registry.gates()
    assert registry.load().version


def test_no_text_is_kept(registry, models):
    promoted(registry, models)
    for file in registry.path.rglob("*.json"):
        assert models["many"][0][0] not in file.read_text()
        assert models["gold"][0][0] not in file.read_text()
    salts = {ModelRegistry(registry.path)._read()["salt"], "00" * 16}
    assert len({RowHash(salt).input("a text") for salt in salts}) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a", "b"), ({"a": 1}, {"a": 2}), (np.zeros(3), np.ones(3)), (np.zeros(4), np.zeros((2, 2))), (b"a", "a"),
        ("1", 1), (Path("a"), "a"), (["a"], "a"),
    ],
)  # fmt: skip
def test_inputs_are_told_apart(one, other):
    hashes = RowHash("ab" * 16)
    assert hashes.input(one) == hashes.input(one)
    assert hashes.input(one) != hashes.input(other)
    assert 0.0 <= hashes.share(one) < 1.0


def test_a_message_is_its_text_and_an_object_is_refused():
    hashes = RowHash("ab" * 16)
    assert hashes.input(HumanMessage("a")) == hashes.input("a")
    with pytest.raises(RegistryError, match="type object cannot be hashed"):
        hashes.input(object())


def test_a_dict_input_counts_by_what_the_model_reads(tmp_path, models):
    registry = ModelRegistry(tmp_path / "models")
    registry.start(tfidf(models["few"], input_key="text"), trained_on=[text for text, _ in models["few"]])
    rows = [{"input": {"text": text, "thread": 1}, "gold": topic} for text, topic in models["few"]]
    assert registry.fresh(rows) == []
    gate = registry.split(models["gold"])[1]
    named = [{"input": {"text": text}, "gold": topic} for text, topic in models["gold"]]
    assert [row["input"]["text"] for row in registry.split(named)[1]] == [text for text, _ in gate]


# --- kills and crowds -----------------------------------------------------------------------------------------------

_KILL = """
import os, shutil, signal, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # a fork with the threads of a library at rest
from pathlib import Path
sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parents[2])]
import test_versions as t
from langchain_dsplus.registry.registry import ModelRegistry

base, work = Path(sys.argv[2]) / "base", Path(sys.argv[2]) / "work"
few, many = t.texts(24, 1), t.texts(300, 2)
old, new = t.tfidf(few), t.tfidf([*few, *many])
gold, fresh = t.texts(120, 3), t.texts(200, 4)
answers = old.answers([text for text, _ in fresh])
def table():
    rows = [dict(id=f"r{n}", small=a["choice"], confidence=a["confidence"], large=topic, gold=topic)
            for n, (a, (_, topic)) in enumerate(zip(answers, fresh))]
    about = {"small": old.version, "labels": old.labels, "score": "max_probability"}
    return t.Outcomes.from_records(rows, about=about)

def step_start(r): r.start(old, trained_on=few)
def step_certify(r):
    t_inputs = {f"r{n}": text for n, (text, _) in enumerate(fresh)}
    assert r.certify(table(), 0.08, inputs=t_inputs).certified
def step_add(r): r.add(new, trained_on=many)
def step_gate(r): assert r.gate(2, gold, max_loss=0.05, **t.GATE).report.promoted
def step_promote(r): r.promote(2)
def step_rollback(r): r.rollback()

class Killer:
    def __init__(self): self.left = None
    def __call__(self, event, arguments):
        if self.left is None or not arguments: return
        writes = event in {"os.rename", "os.mkdir", "os.remove", "os.rmdir"} or (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if writes and str(arguments[0]).startswith(str(work)):
            self.left -= 1
            if self.left == 0: os.kill(os.getpid(), signal.SIGKILL)

killer = Killer()
sys.addaudithook(killer)
kills = 0
for step in (step_start, step_certify, step_add, step_gate, step_promote, step_rollback):
    r = ModelRegistry(base)
    before = r.serial if r.exists else 0
    point = 0
    while True:
        point += 1
        shutil.rmtree(work, ignore_errors=True)
        if base.exists(): shutil.copytree(base, work, copy_function=os.link)
        child = os.fork()
        if child == 0:
            killer.left = point
            try:
                step(ModelRegistry(work))
            except BaseException as error:
                print(repr(error), file=sys.stderr); os._exit(3)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        r = ModelRegistry(work)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, (step.__name__, point)
            assert r.serial == before + 1
            break
        kills += 1
        assert os.WTERMSIG(status) == signal.SIGKILL
        if not r.exists:
            assert before == 0
            if point % 4 == 0: step(r)
            continue
        serial = r.serial
        assert serial in (before, before + 1), (step.__name__, point, serial)
        s = r.status()
        assert r.load().version in (old.version, new.version)
        if serial == before:  # nothing happened
            assert s.live.number == (2 if step is step_rollback else 1)
            if point % 4: continue
            step(r)  # and it can be done again
        s = r.status()
        assert s.live.number == (2 if step is step_promote else 1)
        assert r.serial == before + 1
        r.rollback() if step is step_promote else r.status()
        assert step is not step_promote or not list(work.rglob(".*.tmp-*")), (step.__name__, point)
    shutil.rmtree(base, ignore_errors=True)
    shutil.copytree(work, base)
    print(step.__name__, point, flush=True)
final = ModelRegistry(base)
assert final.certificate is not None and final.live.number == 1

def crowd(do):
    # Four processes at once; how many of them succeeded.
    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            try:
                do(ModelRegistry(base), number)
            except t.RegistryError:
                os._exit(1)
            except BaseException as error:
                print(repr(error), file=sys.stderr); os._exit(3)
            os._exit(0)
        children.append(child)
    ends = [os.WEXITSTATUS(os.waitpid(child, 0)[1]) for child in children]
    assert set(ends) <= {0, 1}, ends
    return ends.count(0)

assert crowd(lambda r, n: [r.add(new, seed=10 * n + k) for k in range(2)]) == 4
assert [v.number for v in final.versions] == list(range(1, 11))
assert sorted(v.seed for v in final.versions[2:]) == sorted(10 * n + k for n in range(4) for k in range(2))
assert final.gate(2, t.texts(120, 6), max_loss=0.05, **t.GATE).report.promoted
assert crowd(lambda r, n: r.promote(2)) == 1
assert final.live.number == 2 and len(final.history) == final.serial + 1, (len(final.history), final.serial)
print("kills", kills)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_at_any_write_leaves_the_state_before_or_after(tmp_path):
    """SIGKILL before each single write, rename, and removal of each change."""
    found = subprocess.run(
        [sys.executable, "-c", _KILL, str(Path(__file__).parent), str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    assert int(found.stdout.split()[-1]) > 30


def test_threads_take_turns(registry, models):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: ModelRegistry(registry.path).add(models["new"], seed=seed), range(6)))
    assert sorted(version.number for version in found) == list(range(2, 8))
    assert sorted(version.seed for version in registry.versions[1:]) == list(range(6))


def test_whoever_waits_too_long_is_told(registry, models):
    impatient = ModelRegistry(registry.path, timeout=0.05)
    with registry._changing():
        with pytest.raises(RegistryError, match="another process has been changing"):
            impatient.add(models["new"])
        assert impatient.live.number == 1  # reading waits for nobody


def test_a_change_that_fails_changes_nothing(registry, models, monkeypatch):
    before = (registry.path / "live.json").read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        registry.add(models["new"])
    monkeypatch.undo()
    assert (registry.path / "live.json").read_bytes() == before
    assert not list(registry.path.rglob(".*.tmp-*"))
    assert registry.add(models["new"]).number == 2


# --- a router that follows ------------------------------------------------------------------------------------------


def asked(router, value):
    """Whether the large model was asked about an input, by the route."""
    return not router.invoke(value)["route"]["accepted"]


def follow(registry, tmp_path, **settings):
    recorder = JSONLRecorder(tmp_path / "routes.jsonl")
    settings = {"recorder": recorder, "include_route": True, "background": False, **settings}
    return registry.router(RunnableLambda(large), **settings)


def test_a_router_follows_certificate_promotion_and_rollback(registry, models, tmp_path):
    router = follow(registry, tmp_path)
    easy = "parcel courier"
    assert router.router.mode == "shadow"
    assert asked(router, easy)
    assert not router.refresh()
    table, inputs = outcomes(registry, texts(700, 4))
    first = registry.certify(table, 0.05, inputs=inputs)
    assert asked(router, easy)
    assert router.refresh()
    assert (router.certificate, router.router.mode) == (first, "live")
    assert not asked(router, easy)
    held = router.router
    promoted(registry, models)
    assert router.refresh()
    assert router.certificate is None
    assert router.router.small_models[0].version == models["new"].version
    assert asked(router, easy)
    assert held.invoke(easy)["route"]["certificate"] == first.id  # a call under way ends as it began
    registry.rollback()
    assert router.refresh()
    assert router.certificate == first
    assert not asked(router, easy)
    registry.void("an alarm")
    assert router.refresh()
    assert asked(router, easy)


def test_shadow_rows_certify_the_version_that_answered(registry, models, tmp_path):
    router = follow(registry, tmp_path)
    for text, _ in texts(40, 20):
        router.invoke(text)
    promoted(registry, models)
    for text, _ in texts(5, 21):  # not refreshed yet: the old version still answers
        router.invoke(text)
    router.refresh()
    router.batch([text for text, _ in texts(300, 22)])
    rows = list(JSONLRecorder.read(tmp_path / "routes.jsonl"))
    assert {row[VERSION_KEY] for row in rows} == {models["old"].version, models["new"].version}
    table = router.outcomes(rows)
    assert len(table) == 300
    assert table.about["small"] == models["new"].version
    assert registry.certify(table, 0.05, since_promotion=True).certified
    router.refresh()
    assert router.router.mode == "live"


def test_rows_of_traces_that_trained_do_not_certify(registry, models, tmp_path):
    router = follow(registry, tmp_path)
    router.batch([text for text, _ in texts(300, 22)])
    rows = list(JSONLRecorder.read(tmp_path / "routes.jsonl"))
    version = registry.add(models["new"], trained_on=models["many"], ids=[row["route_id"] for row in rows])
    registry.gate(version.number, models["gold"], **GATE)
    registry.promote()
    table = Outcomes.from_traces(rows, about={**router.about, "small": models["new"].version})
    with pytest.raises(RegistryError, match="`id`: 300 of 300"):
        registry.certify(table, 0.05, since_promotion=True)


@pytest.mark.parametrize("way", ["invoke", "batch", "stream", "ainvoke", "abatch", "astream", "node", "anode"])
async def test_every_way_of_asking(registry, tmp_path, way):
    table, inputs = outcomes(registry, texts(700, 4))
    router = follow(registry, tmp_path, include_route=False)
    registry.certify(table, 0.05, inputs=inputs)
    node = router.as_node(input_key="text", output_key="topic", route_key="route")
    assert await router.arefresh()
    easy, hard = "refund money refund", "hello again"
    wanted = ["refund", large(hard)]
    state = [{"text": easy}, {"text": hard}]
    found = {
        "invoke": lambda: [router.invoke(easy), router.invoke(hard)],
        "batch": lambda: router.batch([easy, hard]),
        "stream": lambda: ["".join(router.stream(easy)), "".join(router.stream(hard))],
        "node": lambda: [node.invoke(one)["topic"] for one in state],
    }
    if way in found:
        assert found[way]() == wanted
    elif way == "ainvoke":
        assert [await router.ainvoke(easy), await router.ainvoke(hard)] == wanted
    elif way == "abatch":
        assert await router.abatch([easy, hard]) == wanted
    elif way == "astream":
        assert ["".join([c async for c in router.astream(one)]) for one in (easy, hard)] == wanted
    else:
        updates = [await node.ainvoke(one) for one in state]
        assert [update["topic"] for update in updates] == wanted
        assert [update["route"]["accepted"] for update in updates] == [True, False]


def test_a_batch_as_completed_and_the_rest_of_a_router(registry, tmp_path):
    router = follow(registry, tmp_path, include_route=False)
    assert dict(router.batch_as_completed(["refund", "parcel"])) == {0: "refund", 1: "parcel"}
    assert list(router.transform(iter(["refund"]))) == ["refund"]
    assert router.OutputType is str
    assert {spec.id for spec in router.config_specs} >= {"dsplus_threshold", "dsplus_mode"}
    assert "large" in router.get_graph().draw_mermaid()
    router.warmup()
    assert router.drain(1.0)
    assert (router | RunnableLambda(str.upper)).invoke("refund") == "REFUND"
    with pytest.raises(TypeError, match="come from the registry"):
        LiveRouter(registry, RunnableLambda(large), threshold=0.5)


def test_a_wish_for_shadow_or_off_is_kept(registry, tmp_path):
    table, inputs = outcomes(registry, texts(700, 4))
    registry.certify(table, 0.05, inputs=inputs)
    assert follow(registry, tmp_path, mode="shadow").router.mode == "shadow"
    registry.void("x")
    assert follow(registry, tmp_path, mode="off").router.mode == "off"


def test_where_it_cannot_follow_everything_goes_to_the_large_model(registry, models, tmp_path):
    table, inputs = outcomes(registry, texts(700, 4))
    registry.certify(table, 0.05, inputs=inputs)
    router = follow(registry, tmp_path)
    assert not asked(router, "parcel courier")
    promoted(registry, models)
    folder = registry.path / "versions/0002"
    shutil.move(folder, tmp_path / "away")
    with pytest.raises(RegistryError, match="version 2 cannot be used"):
        router.refresh()
    assert router.router.mode == "off"
    assert asked(router, "parcel courier")
    shutil.move(tmp_path / "away", folder)
    assert router.refresh()
    assert router.router.mode == "shadow"


def test_a_certificate_of_another_large_chain(registry, tmp_path, caplog):
    router = registry.router(RunnableLambda(large), include_route=True, version="another")
    rows = [{"id": str(n), "input": text, "gold": topic} for n, (text, topic) in enumerate(texts(700, 4))]
    table = collect_outcomes(registry.load(), RunnableLambda(large), rows, progress=False, version="one")
    registry.certify(table, 0.05, since_promotion=True)
    with pytest.raises(MismatchError, match="large"):
        registry.router(RunnableLambda(large), version="another")
    router.refresh()
    assert "does not fit" in caplog.text
    assert router.certificate is None
    assert router.router.mode == "shadow"
    assert asked(router, "parcel courier")
    assert registry.router(RunnableLambda(large), version="one").certificate is not None


def test_a_monitor_starts_anew_with_a_new_certificate(registry, models, tmp_path):
    table, inputs = outcomes(registry, texts(700, 4))
    first = registry.certify(table, 0.05, inputs=inputs)
    monitor = AuditMonitor(first)
    router = follow(registry, tmp_path, monitor=monitor, audit_rate=1.0)
    router.batch(["parcel courier"] * 3)
    assert monitor.audits == 3
    promoted(registry, models)
    router.refresh()
    assert router.router.monitor is None
    table, inputs = outcomes(registry, texts(700, 40))
    second = registry.certify(table, 0.05, inputs=inputs)
    router.refresh()
    assert (monitor.certificate, monitor.audits, router.router.monitor) == (second, 0, monitor)


def test_several_small_models(registry, models, tmp_path):
    frozen = tfidf(models["few"], name="specific")
    router = follow(registry, tmp_path, first=[frozen])
    assert router.router.small_names == ["specific", "small"]
    router.batch([text for text, _ in texts(300, 22)])
    rows = router.outcomes(JSONLRecorder.read(tmp_path / "routes.jsonl"), small=router.router.small_names)
    assert len(rows) == 300
    path = [{"specific": 0.95, "small": 0.95}, {"specific": 0.8, "small": 0.8}]
    found = registry.certify(rows, "10 points", since_promotion=True, path=path)
    assert found.certified
    assert router.refresh()
    assert router.certificate.thresholds == found.thresholds


# --- the parts that make a version ----------------------------------------------------------------------------------


def test_what_the_distiller_made_goes_live(registry, models):
    train, gate = registry.split(texts(700, 50))
    answers = [(text, large(text)) for text, _ in texts(200, 51)]
    result = Distiller(registry.load()).distil(train, answers)
    version = registry.add(result.model, trained_on=[*train, *answers], teacher="rules", seed=0)
    assert registry.gate(version.number, gate, **GATE).report.promoted
    assert registry.promote().number == 2
    again = registry.load()
    probe = [text for text, _ in gate[:20]]
    assert [a["choice"] for a in again.answers(probe)] == [a["choice"] for a in result.model.answers(probe)]


@pytest.mark.encoder
def test_a_sentence_classifier_with_a_real_encoder(tmp_path, encoder_path):
    few, many, gold = texts(12, 1), texts(90, 2), texts(120, 3)
    small = SentenceClassifier(encoder_path).fit(*zip(*few, strict=True))
    registry = ModelRegistry(tmp_path / "models")
    registry.start(small, trained_on=few)
    result = Distiller(registry.load()).distil([*few, *many], [])
    version = registry.add(result.model, trained_on=many)
    gate = registry.gate(version.number, gold, max_loss="10 points", **GATE)
    assert gate.report.accuracy_new > 0.8
    assert gate.report.promoted, gate.report.reasons
    registry.promote()
    assert registry.load().version == result.model.version
    assert not list(registry.path.rglob("*.txt"))  # the encoder is named, not copied
