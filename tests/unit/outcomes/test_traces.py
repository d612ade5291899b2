"""From what a router wrote down: the rows are those of real routers, through a file."""

import asyncio
import contextlib
import json
import random

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from pydantic import BaseModel

from langchain_dsplus.outcomes import Outcomes, default_label
from langchain_dsplus.prompts.pruner import PromptPruner
from langchain_dsplus.routing.router import ConfidenceRouter
from langchain_dsplus.small_models.fake import FakeSmallModel
from langchain_dsplus.traces.recorder import JSONLRecorder

TABLE = {
    "sure": {"pos": 0.95, "neg": 0.05},
    "unsure": {"pos": 0.6, "neg": 0.4},
    "never": {"pos": 0.01, "neg": 0.99},
}


def small(name="small", table=TABLE):
    return FakeSmallModel(table, input_key="text", name=name)


def large(value):
    if value["text"] == "down":
        raise ConnectionError("a customer's words")
    usage = {"input_tokens": 7, "output_tokens": 1, "total_tokens": 8, "input_token_details": {"cache_read": 3}}
    return AIMessage("neg " if value["text"] == "sure" else "pos", usage_metadata=usage)


def record(tmp_path, *texts, models=None, chain=large, recorder=None, **options):
    """Ask a router about the texts; return the rows and the ids by text."""
    path = tmp_path / "routes.jsonl"
    recorder = recorder or JSONLRecorder(path)
    router = ConfidenceRouter(
        small=models or small(),
        large=RunnableLambda(chain) if callable(chain) else chain,
        threshold=options.pop("threshold", 0.9),
        recorder=recorder,
        background=False,
        to_output=lambda answer, _: AIMessage(answer["choice"]),
        **options,
    )
    for text in texts:
        with contextlib.suppress(ConnectionError):
            router.invoke({"text": text, "customer": f"c {text}"})
    rows = list(JSONLRecorder.read(path))
    ids = {row["input"]["text"]: row["route_id"] for row in rows if row["kind"] == "route" and "input" in row}
    return rows, ids


def by_id(outcomes):
    return {row["id"]: row for row in outcomes.to_records()}


@pytest.mark.parametrize("seed", range(3))
def test_shadow_rows_are_the_table(tmp_path, seed):
    rows, ids = record(tmp_path, "sure", "unsure", "strange", "down", mode="shadow")
    rows.append({"kind": "gold", "route_id": ids["sure"], "gold": "pos"})
    rows.append({"kind": "gold", "route_id": "long ago", "gold": "pos"})
    random.Random(seed).shuffle(rows)
    outcomes = Outcomes.from_traces(rows, about={"labels": ["pos", "neg"]}, group_key="customer")
    found = by_id(outcomes)
    assert found.keys() == set(ids.values())
    sure = found[ids["sure"]]
    assert (sure["small"], sure["confidence"], sure["large"], sure["gold"]) == ("pos", 0.95, "neg", "pos")
    assert sure["probabilities"] == TABLE["sure"]
    assert sure["group"] == "c sure"
    assert (sure["tokens_input"], sure["tokens_output"], sure["tokens_cached"]) == (7, 1, 3)
    assert sure["latency_large"] > 0
    strange = found[ids["strange"]]
    assert (strange["small"], strange["confidence"], strange["large"]) == (None, None, "pos")
    assert strange["small_error"] == "KeyError"
    down = found[ids["down"]]
    assert (down["small"], down["large"], down["error"]) == (None, None, "ConnectionError")
    assert "source" not in outcomes
    assert outcomes.about == {"labels": ["pos", "neg"]}
    assert "customer's" not in json.dumps(outcomes.to_records())


def test_the_same_file_twice_is_once(tmp_path):
    rows, _ = record(tmp_path, "sure", "unsure", mode="shadow")
    assert Outcomes.from_traces([*rows, *rows]) == Outcomes.from_traces(rows)


def test_two_decisions_under_one_id_are_refused(tmp_path):
    rows, ids = record(tmp_path, "sure", "unsure", mode="shadow")
    for row in rows:
        row["route_id"] = ids["sure"]
        if "route" in row and row["kind"] == "route":
            row["route"] = {**row["route"], "route_id": ids["sure"]}
    with pytest.raises(ValueError, match=r"row \d+ of the traces, 'route_id': stands for two different decisions"):
        Outcomes.from_traces(rows)


def test_unfinished_rows_are_left_out(tmp_path):
    rows, ids = record(tmp_path, "sure", "unsure", mode="shadow")
    rows = [row for row in rows if not (row["kind"] == "shadow" and row["route_id"] == ids["unsure"])]
    assert Outcomes.from_traces(rows).values("id") == [ids["sure"]]
    with pytest.raises(ValueError, match="no finished row of shadow mode"):
        Outcomes.from_traces([row for row in rows if row["kind"] == "shadow"])


def test_the_last_gold_counts(tmp_path):
    rows, ids = record(tmp_path, "sure", mode="shadow")
    for gold, expected in (("neg", "neg"), ("pos", "pos"), (3, "3"), (None, None)):
        rows.append({"kind": "gold", "route_id": ids["sure"], "gold": gold})
        assert Outcomes.from_traces(rows).values("gold") == [expected]
    rows.append({"kind": "gold", "route_id": ids["sure"], "gold": ["a"]})
    with pytest.raises(ValueError, match="'gold': must be a text"):
        Outcomes.from_traces(rows)


def test_live_rows_are_no_table_unless_asked_for(tmp_path):
    rows, _ = record(tmp_path, "sure", "unsure")
    with pytest.raises(ValueError, match=r"no finished row of shadow mode .*live=True"):
        Outcomes.from_traces(rows)


def test_live_rows(tmp_path):
    _, ids = record(tmp_path, "unsure", "strange", "never", never_local=["neg"])
    more, other = record(tmp_path, "sure", audit_rate=1.0)
    found = by_id(Outcomes.from_traces(more, live=True))
    ids |= other
    sure = found[ids["sure"]]
    assert (sure["source"], sure["small"], sure["large"]) == ("audit", "pos", "neg")
    unsure = found[ids["unsure"]]
    assert (unsure["source"], unsure["small"], unsure["confidence"]) == ("escalated", "pos", 0.6)
    assert (unsure["large"], unsure["large_pruned"]) == (None, "pos"), "nobody knows whether the prompt was plain"
    never = found[ids["never"]]
    assert (never["small"], never["large"], never["large_pruned"]) == ("neg", None, "pos")
    strange = found[ids["strange"]]
    assert (strange["small"], strange["large"], strange["large_pruned"]) == (None, "pos", None), (
        "it had the plain prompt"
    )
    assert strange["small_error"] == "KeyError"


def test_a_local_answer_that_was_not_audited_has_no_large(tmp_path):
    rows, ids = record(tmp_path, "sure")
    (row,) = Outcomes.from_traces(rows, live=True).to_records()
    assert (row["id"], row["source"], row["large"]) == (ids["sure"], "local", None)


def test_an_audit_that_failed_is_no_answer(tmp_path):
    def broken(_):
        raise TimeoutError

    record(tmp_path, "sure", audit_rate=1.0, chain=broken)
    good, _ = record(tmp_path, "sure", audit_rate=1.0)
    found = Outcomes.from_traces(good, live=True)
    assert found.values("large") == [None, "neg"]
    assert found.values("error") == ["TimeoutError", None]


def test_what_a_small_model_said_in_place_of_a_failed_large_one_is_not_its_answer(tmp_path):
    def broken(value):
        if value["text"] == "unsure":
            raise ConnectionError
        return AIMessage("pos")

    rows, ids = record(tmp_path, "unsure", "strange", chain=broken, on_large_error="small")
    found = by_id(Outcomes.from_traces(rows, live=True))[ids["unsure"]]
    assert found["small"] == "pos"
    assert found["large"] is None
    assert found.get("large_pruned") is None
    assert found["error"] == "ConnectionError"


@pytest.mark.parametrize(("pruning", "plain"), [("none", True), ("soft", False), ("keep", False), ("hard", True)])
def test_a_pruner_says_whether_the_prompt_was_plain(tmp_path, pruning, plain):
    pruner = PromptPruner.from_messages(
        [("human", "{text}")], labels=["pos", "neg"], pruning=pruning, proficient=["neg"]
    )
    rows, _ = record(tmp_path, "unsure", chain=pruner | RunnableLambda(lambda _: AIMessage("pos")))
    (row,) = Outcomes.from_traces(rows, live=True).to_records()
    assert row["large" if plain else "large_pruned"] == "pos"
    assert row.get("large_pruned" if plain else "large") is None


def test_off_mode_says_nothing_about_small_models(tmp_path):
    rows, _ = record(tmp_path, "sure", mode="off")
    with pytest.raises(ValueError, match=r"only: off"):
        Outcomes.from_traces(rows, live=True)


# --- several small models -------------------------------------------------------------------------------------------

OTHER = {"sure": {"pos": 0.7, "neg": 0.3}, "unsure": {"pos": 0.2, "neg": 0.8}, "strange": {"pos": 0.92, "neg": 0.08}}


def two():
    return [small("one"), small("two", OTHER)]


def test_several_in_shadow(tmp_path):
    rows, ids = record(tmp_path, "sure", "strange", "down", models=two(), mode="shadow")
    with pytest.raises(ValueError, match="of 2 small models: name them in order"):
        Outcomes.from_traces(rows)
    found = by_id(Outcomes.from_traces(rows, small=["one", "two"]))
    sure, strange = found[ids["sure"]], found[ids["strange"]]
    assert (sure["small.one"], sure["confidence.one"], sure["confidence.two"]) == ("pos", 0.95, 0.7)
    assert sure["probabilities.two"] == OTHER["sure"]
    assert (strange["small.one"], strange["small.two"]) == (None, "pos")
    assert strange["small_error.one"] == "KeyError"
    assert found[ids["down"]]["small.two"] is None
    for names in (["one"], ["one", "one"]):
        with pytest.raises(ValueError, match="`small` has"):
            Outcomes.from_traces(rows, small=names)
    with pytest.raises(ValueError, match="does not name the small models"):
        Outcomes.from_traces(rows, small=["a", "b"])


def test_several_live(tmp_path):
    rows, ids = record(tmp_path, "sure", "unsure", "strange", "never", models=two())
    found = by_id(Outcomes.from_traces(rows, small=["one", "two"], live=True))
    sure = found[ids["sure"]]
    assert (sure["small.one"], sure["small.two"]) == ("pos", None), "the second was not asked"
    unsure = found[ids["unsure"]]
    assert (unsure["confidence.one"], unsure["confidence.two"]) == (0.6, 0.8)
    strange = found[ids["strange"]]
    assert (strange["small.one"], strange["small_error.one"], strange["small.two"]) == (None, "KeyError", None)
    assert strange["large"] == "pos", "after a failure the prompt is the plain one"


def test_a_failure_of_the_second_is_the_seconds(tmp_path):
    models = [small("one", {"odd": TABLE["unsure"]}), small("two", {"other": TABLE["sure"]})]
    rows, _ = record(tmp_path, "odd", models=models)
    (row,) = Outcomes.from_traces(rows, small=["one", "two"], live=True).to_records()
    assert (row["confidence.one"], row["confidence.two"], row["small_error.two"]) == (0.6, None, "KeyError")
    assert "small_error.one" not in row


# --- other recordings -----------------------------------------------------------------------------------------------


def test_rows_of_several_routers_are_told_apart(tmp_path):
    record(tmp_path, "sure", mode="shadow", name="first")
    rows, ids = record(tmp_path, "unsure", mode="shadow", name="second")
    with pytest.raises(ValueError, match="'first', 'second'"):
        Outcomes.from_traces(rows)
    assert Outcomes.from_traces(rows, router="second").values("id") == [ids["unsure"]]


def test_without_texts_nobody_knows(tmp_path):
    path = tmp_path / "routes.jsonl"
    rows, _ = record(tmp_path, "sure", mode="shadow", recorder=JSONLRecorder(path, texts=False))
    with pytest.raises(ValueError, match="texts=True"):
        Outcomes.from_traces(rows)


class Verdict(BaseModel):
    label: str


class Kind(BaseModel):
    kind: object


@pytest.mark.parametrize(
    "output",
    [
        "neg\n",
        AIMessage(" neg"),
        AIMessage([{"type": "text", "text": "neg"}]),
        Verdict(label="neg"),
        {"label": "neg"},
        {"choice": "neg", "probabilities": {}, "confidence": 1.0},
    ],
)
def test_every_kind_of_output_is_read(tmp_path, output):
    rows, _ = record(tmp_path, "sure", mode="shadow", chain=lambda _: output)
    assert Outcomes.from_traces(rows).values("large") == ["neg"]
    live = [{**row, "output": output} if row["kind"] == "route" else row for row in rows]
    assert Outcomes.from_traces(live).values("large") == ["neg"], "as a recorder in memory keeps it"


def test_unreadable_outputs(tmp_path):
    rows, _ = record(tmp_path, "sure", "unsure", mode="shadow", chain=lambda _: Kind(kind=object()))
    with pytest.raises(ValueError, match=r"could be read as a label \(TypeError\): pass `to_label=`"):
        Outcomes.from_traces(rows)
    assert Outcomes.from_traces(rows, to_label=lambda output: "x").values("large") == ["x", "x"]
    labels = iter(["x", 3])
    found = Outcomes.from_traces(rows, to_label=lambda _: next(labels))
    assert found.values("large") == ["x", None]
    assert found.values("error") == [None, "TypeError"]


@pytest.mark.parametrize("rows", [[], [{"kind": "other"}], [{"kind": "gold", "route_id": "1", "gold": "a"}]])
def test_nothing_gives_an_empty_table(rows):
    outcomes = Outcomes.from_traces(rows, about={"a": 1})
    assert len(outcomes) == 0
    assert outcomes.about == {"a": 1}
    assert "confidence" in outcomes


@pytest.mark.parametrize(
    ("row", "error", "match"),
    [
        ([], TypeError, "row 2 of the traces is list"),
        ({"kind": "route"}, ValueError, "row 2 of the traces, 'route_id'"),
        ({"kind": "route", "route_id": "1"}, ValueError, "row 2 of the traces is not what a router writes: KeyError"),
        ({"kind": "shadow", "route_id": "1", "answers": 3}, ValueError, "row 2 .* 'shadow' row"),
    ],
)
def test_rows_of_something_else_are_named(row, error, match):
    with pytest.raises(error, match=match):
        Outcomes.from_traces([{"kind": "other"}, row])


def test_async_routers_write_the_same(tmp_path):
    path = tmp_path / "routes.jsonl"

    async def main():
        router = ConfidenceRouter(
            small=small(),
            large=RunnableLambda(large),
            mode="shadow",
            recorder=JSONLRecorder(path),
            to_output=lambda answer, _: AIMessage(answer["choice"]),
        )
        async with router:
            await router.abatch([{"text": "sure"}, {"text": "unsure"}])

    asyncio.run(main())
    outcomes = Outcomes.from_traces(JSONLRecorder.read(path))
    assert sorted(outcomes.values("large")) == ["neg", "pos"]


def test_default_label_refuses_what_a_recorder_could_not_write():
    with pytest.raises(TypeError, match="to_label"):
        default_label({"kind": "<Kind>"})
    assert default_label("<Kind>") == "<Kind>"
