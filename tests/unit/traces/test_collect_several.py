"""Several small models, identities, async, warnings, and a kill in the middle."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda

from langchain_dsplus.costs.prices import Price
from langchain_dsplus.identity import identify
from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.prompts.parser import LabelParser
from langchain_dsplus.small_models.fake import FakeSmallModel
from langchain_dsplus.traces.collect import CostLimitError, acollect_outcomes, collect_outcomes

FIRST = {"great": {"pos": 0.9, "neg": 0.1}, "bad": {"pos": 0.3, "neg": 0.7}}
SECOND = {"great": {"pos": 0.6, "neg": 0.4}, "bad": {"pos": 0.8, "neg": 0.2}, "hm": {"pos": 0.55, "neg": 0.45}}


def models(**options):
    return [
        FakeSmallModel(FIRST, input_key="text", name="one", **options),
        FakeSmallModel(SECOND, input_key="text", name="two", **options),
    ]


def rows(*texts):
    return [{"id": text, "input": {"text": text}, "gold": "pos"} for text in texts]


def says(label="pos", seen=None, **metadata):
    usage = {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12}

    def answer(value):
        if seen is not None:
            seen.append(value)
        return AIMessage(label, usage_metadata=usage, response_metadata=metadata)

    return RunnableLambda(answer)


def collect(*arguments, run=False, **options):
    options = {"progress": False, **options}
    if run:
        return asyncio.run(acollect_outcomes(*arguments, **options))
    return collect_outcomes(*arguments, **options)


both = pytest.mark.parametrize("run", [False, True], ids=["sync", "async"])


@both
def test_several_small_models_get_columns_of_their_own(run):
    outcomes = collect(models(), says(), rows("great", "bad", "hm"), chunk_size=2, run=run)
    assert outcomes.small_names == ["one", "two"]
    assert outcomes.values("small.one") == ["pos", "neg", None]
    assert outcomes.values("confidence.one") == [0.9, 0.7, None]
    assert outcomes.values("small.two") == ["pos", "pos", "pos"]
    assert outcomes.values("probabilities.two")[0] == {"pos": 0.6, "neg": 0.4}
    assert outcomes.values("small_error.one") == [None, None, "KeyError"]
    assert "small" not in outcomes
    assert (outcomes["latency_small"] >= outcomes["latency_small.one"]).all()
    assert outcomes.about["small"] == {model.name: model.version for model in models()}
    assert outcomes.about["score"] == "max_probability"
    assert outcomes.about["labels"] == models()[0].labels


def test_names_are_those_of_a_router():
    same = [FakeSmallModel(default={"pos": 1.0}, input_key="text") for _ in range(3)]
    outcomes = collect(same, says(), rows("great"))
    assert outcomes.small_names == ["small", "small_2", "small_3"]
    alone = collect(same[:1], says(), rows("great"))
    assert alone.small_names == []
    assert alone.values("small") == ["pos"]
    mixed = [models()[0], FakeSmallModel(SECOND, input_key="text", name="two", score="margin")]
    assert collect(mixed, says(), rows("bad")).about["score"] == {"one": "max_probability", "two": "margin"}
    with pytest.raises(ValueError, match="at least one"):
        collect([], says(), rows("great"))


@both
def test_the_pruned_chain_is_asked_where_no_small_model_failed(run):
    seen = []
    outcomes = collect(models(), says(), rows("great", "hm"), large_pruned=says("neg", seen), run=run)
    assert [value["text"] for value in seen] == ["great"]
    assert seen[0]["dsplus"]["probabilities"] == {"pos": 0.6, "neg": 0.4}, "the last one's"
    assert outcomes.values("large_pruned") == ["neg", None]


# --- what was asked -------------------------------------------------------------------------------------------------


def template(text="{text}"):
    return ChatPromptTemplate.from_messages([("human", text)])


@both
def test_about_names_chain_prompt_and_what_replied(tmp_path, run):
    options = {"to_label": lambda _: "pos", "run": run, "path": tmp_path / "answers.jsonl"}
    outcomes = collect(models()[0], template(), rows("great"), **options)
    identity = identify(template())
    assert outcomes.about["large"] == identity.large
    assert outcomes.about["prompt"] == identity.prompt
    assert "large_reported" not in outcomes.about
    hidden = collect(models()[0], template() | says(), rows("great"), run=run)
    assert "large" not in hidden.about
    assert hidden.about["prompt"] == identity.prompt
    named = collect(models()[0], says(), rows("great"), large_pruned=template() | says(), version="my chain 3", run=run)
    keys = ("large", "prompt", "large_pruned", "prompt_pruned")
    assert [named.about[key] for key in keys] == ["my chain 3"] * 4
    assert collect(models()[0], says(), rows("great"), about={"large": "x"}, run=run).about["large"] == "x"


def test_reported_names_survive_a_resume(tmp_path):
    path = tmp_path / "answers.jsonl"
    collect(models()[0], says(model_name="large-2", system_fingerprint="fp_9"), rows("great"), path=path)
    outcomes = collect(models()[0], says(model="large-1"), rows("great", "bad"), path=path)
    assert outcomes.about["large_reported"] == ["fp_9", "large-1", "large-2"]


def test_answers_of_another_version_are_refused(tmp_path):
    path = tmp_path / "answers.jsonl"
    collect(models()[0], says(), rows("great"), path=path, version="1")
    with pytest.raises(ValueError, match="another `large` chain"):
        collect(models()[0], says(), rows("great"), path=path, version="2")


def test_a_callable_score_is_named():
    def least(probabilities):
        return -min(probabilities.values())

    outcomes = collect(FakeSmallModel(FIRST, input_key="text", score=least), says(), rows("great"))
    assert outcomes.about["score"].endswith("least")


# --- what is said beforehand, and when nothing works ----------------------------------------------------------------


@both
def test_it_says_beforehand_what_it_will_take(capsys, tmp_path, run):
    options = {"progress": True, "path": tmp_path / "answers.jsonl", "run": run}
    collect(models()[0], says(), rows("great", "bad"), price=Price(1_000_000.0, 1_000_000.0), **options)
    said = " ".join(capsys.readouterr().err.split())
    assert "asking about 2 rows: at least 3 tokens" in said
    assert "or 43 USD" in said
    collect(models()[0], says(), rows("great", "bad"), **options)
    assert "every row is answered already" in capsys.readouterr().err
    with pytest.raises(CostLimitError):
        collect(models()[0], says(), rows("hm"), price=Price(1e6, 1e6), max_cost=1, run=run)


def fails(kind=PermissionError):
    def answer(value):
        msg = f"wrong key for {value['text']}"
        raise kind(msg)

    return RunnableLambda(answer)


@both
def test_where_every_call_fails_alike_it_warns_once(run):
    data = rows(*(f"{n}" for n in range(8)))
    model = FakeSmallModel(default={"pos": 1.0}, input_key="text")
    with pytest.warns(
        UserWarning, match=r"all 4 calls of `large` .* failed with PermissionError\. To see why"
    ) as caught:
        outcomes = collect(model, fails(), data, chunk_size=4, run=run)
    assert len(caught) == 1
    assert "wrong key" not in str(caught[0].message)
    assert caught[0].filename in (__file__, asyncio.events.__file__)
    assert outcomes.values("error") == ["PermissionError"] * 8
    with pytest.warns(UserWarning, match="wrong key for"):
        collect(model, fails(), data[:3], verbose_errors=True, run=run)


def test_one_answer_or_another_error_is_no_reason_to_warn():
    model = FakeSmallModel(default={"pos": 1.0}, input_key="text")

    def answer(value):
        number = int(value["text"])
        if number == 0:
            return "pos"
        raise (KeyError if number % 2 else OSError)

    collect(model, RunnableLambda(answer), rows("0", "2", "4", "6"))
    collect(model, RunnableLambda(answer), rows("1", "2", "3"))
    collect(model, RunnableLambda(answer), rows("1", "3"))


# --- async ----------------------------------------------------------------------------------------------------------


def test_async_calls_run_together_up_to_the_limit():
    running, most = 0, 0

    async def answer(_):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return "pos"

    chain = RunnableLambda(lambda _: "pos", afunc=answer)
    model = FakeSmallModel(default={"pos": 1.0}, input_key="text")
    data = rows(*map(str, range(12)))
    assert collect(model, chain, data, max_concurrency=3, run=True).values("large") == ["pos"] * 12
    assert most == 3
    most = 0
    collect(model, chain, rows(*map(str, range(64))), run=True)
    assert 1 < most <= 32, "without a limit of one's own there is still one"


def test_async_keeps_files_that_sync_reads(tmp_path):
    path = tmp_path / "answers.jsonl"
    one = collect(models(), says(), rows("great", "bad"), path=path, run=True)
    seen = []
    two = collect(models(), says(seen=seen), rows("great", "bad"), path=path)
    assert seen == []
    assert one.values("large") == two.values("large")
    with pytest.raises(TypeError, match="nonsense"):
        collect(models(), says(), rows("great"), nonsense=1, run=True)


@both
@pytest.mark.parametrize("slots", [1, 3, 8])
def test_an_answer_is_on_disk_before_whoever_got_it_asks_again(tmp_path, run, slots):
    """However many ask, and however slow writing is: asked and not yet written are never more than may be in flight."""
    path, asked, most = tmp_path / "answers.jsonl", [], 0

    def answer(value):
        nonlocal most
        asked.append(value["text"])
        most = max(most, len(asked) - (path.read_bytes().count(b'"label"') if path.exists() else 0))
        return "pos"

    async def aanswer(value):
        await asyncio.sleep(0)
        return answer(value)

    data = rows(*map(str, range(40)))
    chain = RunnableLambda(answer, afunc=aanswer)
    collect(models(), chain, data, path=path, max_concurrency=slots, run=run)
    assert len(asked) == 40
    assert most <= slots


def test_a_cancelled_collection_keeps_what_it_has(tmp_path):
    path = tmp_path / "answers.jsonl"

    async def answer(value):
        if value["text"] == "bad":
            await asyncio.sleep(60)
        return "pos"

    chain = RunnableLambda(lambda _: "pos", afunc=answer)

    async def main():
        task = asyncio.create_task(acollect_outcomes(models(), chain, rows("great", "bad"), path=path, progress=False))
        while not (path.exists() and b'"great"' in path.read_bytes()):  # noqa: ASYNC110 - a file tells no event
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    seen = []
    collect(models(), says(seen=seen), rows("great", "bad"), path=path)
    assert [value["text"] for value in seen] == ["bad"]


# --- a kill ---------------------------------------------------------------------------------------------------------

SCRIPT = """
    import sys, time
    from pathlib import Path
    from langchain_core.runnables import RunnableLambda
    from langchain_dsplus.traces.collect import collect_outcomes
    from langchain_dsplus.small_models.fake import FakeSmallModel

    folder, pause = Path(sys.argv[1]), float(sys.argv[2])
    def ask(side):
        def answer(value):
            with (folder / "asked").open("a") as file:
                file.write(f"{side} {value['text']}\\n")
            time.sleep(pause)
            return f"{side} {value['text']}"
        return RunnableLambda(answer)

    models = [FakeSmallModel(default={"pos": 1.0}, input_key="text", name=name) for name in ("one", "two")]
    rows = [{"id": str(n), "input": {"text": str(n)}} for n in range(40)]
    outcomes = collect_outcomes(
        models, ask("plain"), rows, large_pruned=ask("pruned"), path=folder / "answers.jsonl", chunk_size=7,
        max_concurrency=2, progress=False, version="1",
    )
    outcomes.to_jsonl(folder / "outcomes.jsonl")
"""


def test_a_kill_costs_no_second_answer(tmp_path):
    path = tmp_path / "answers.jsonl"
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen([*command, "0.01"], env=environment)
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_bytes().count(b"\n") > 20):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = path.read_bytes()
    written = {
        tuple(line.split('"')[i] for i in (7, 3)) for line in kept.decode().split("\n")[1:-1] if '"label"' in line
    }
    assert len(written) >= 19
    before = (tmp_path / "asked").read_text().splitlines()
    subprocess.run([*command, "0"], env=environment, check=True)
    again = (tmp_path / "asked").read_text().splitlines()[len(before) :]
    sides = {"large": "plain", "large_pruned": "pruned"}
    answered = {f"{sides[side]} {name}" for side, name in written}
    assert not answered & set(again), "asked twice"
    assert len(again) == len(set(again)) == 80 - len(answered)
    outcomes = Outcomes.from_jsonl(tmp_path / "outcomes.jsonl")
    assert outcomes.values("large") == [f"plain {n}" for n in range(40)]
    assert outcomes.values("large_pruned") == [f"pruned {n}" for n in range(40)]
    assert path.read_bytes().startswith(kept[: kept.rfind(b"\n") + 1])
    # Whoever asked has written its answer before it asked again: only calls in flight were asked in vain.
    assert len(set(before) - answered) <= 2
    assert len(before) == len(set(before))


def test_a_reply_that_is_no_label_is_not_paid_for_twice(tmp_path):
    asked = []

    def reply(value):
        asked.append(value.to_string())
        return AIMessage("I would rather not say")

    chain = ChatPromptTemplate.from_messages([("human", "{text}")]) | RunnableLambda(reply) | LabelParser(["a", "b"])
    small = FakeSmallModel({"x": {"a": 0.9, "b": 0.1}}, ["a", "b"], input_key="text")
    dataset = [{"input": {"text": "x"}, "gold": "a"}]
    for again, wanted in ((False, 1), (False, 1), (True, 2)):
        table = collect_outcomes(
            small, chain, dataset, path=tmp_path / "answers.jsonl", version="1", progress=False, retry_unparsed=again
        )
        assert len(asked) == wanted
        assert table.to_records()[0]["error"] == "OutputParserException"
        assert table.to_records()[0]["large"] is None
