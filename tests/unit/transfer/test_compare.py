"""`compare_transfer` and `dsplus compare-transfer`: what each figure counts, and that nothing is asked twice."""

import asyncio
import json
import re

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableLambda
from typer.testing import CliRunner

from langchain_dsplus.cli import app
from langchain_dsplus.cli import transfer as cli_transfer
from langchain_dsplus.costs.prices import Price
from langchain_dsplus.transfer import Decompose, PromptTransfer, acompare_transfer, compare_transfer
from langchain_dsplus.transfer.compare import PLAIN

CASES = [
    {"id": "a", "text": "I kicked his fence. It was a fine day.", "gold": "narrator", "twin": "He kicked my fence."},
    {"id": "b", "text": "He hit me. It was a fine day.", "gold": "other party", "twin": "I hit him."},
]
SHORTEN = PromptTransfer(lambda t: t.partition(". ")[0] + ".", fidelity="off", subtask="summarise", version="1")


class Judge(FakeListChatModel):
    """Says what `answer(text, options)` says; counts its calls."""

    answer: object = None
    asked: list = []

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        human = str(messages[-1].content)
        text = human.split("\n")[1]
        options = re.findall(r'"([^"]+)"', human.rpartition("Answer with exactly one")[2])
        self.asked.append((text, options))
        usage = {"input_tokens": 100, "output_tokens": 2, "total_tokens": 102}
        return ChatResult(
            generations=[ChatGeneration(message=AIMessage(self.answer(text, options), usage_metadata=usage))]
        )


def judge(answer):
    return Judge(responses=["x"], answer=answer, asked=[])


def fair(text, options):
    return "narrator" if text.startswith("I ") else "other party"


def run(async_, cases, **options):
    options.setdefault("progress", False)
    if async_:
        return asyncio.run(acompare_transfer(cases, **options))
    return compare_transfer(cases, **options)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def async_(request):
    return request.param


def test_the_figures_of_judges_that_are_known(async_):
    judges = {
        "fair": judge(fair),
        "first": judge(lambda text, options: options[0]),
        "narrator": judge(lambda text, options: "narrator"),
        "mute": judge(lambda text, options: "I cannot say."),
        "distracted": judge(lambda text, options: "both" if "fine day" in text else fair(text, options)),
    }
    found = run(async_, CASES, judges=judges, transfer=SHORTEN, n=4, prices={"fair": Price(10.0, 100.0)})
    assert found.twins
    for arm in (PLAIN, "transfer"):
        exact = found.arm("fair", arm)
        assert (exact.right, exact.right_low, exact.agreement, exact.swap) == (1.0, 1.0, 1.0, 1.0)
        assert exact.shares == {"narrator": 0.5, "other party": 0.5, "both": 0.0, "unclear": 0.0}
        assert (exact.replies, exact.cases, exact.failed) == (16, 2, 0)
        assert (exact.tokens_in, exact.tokens_out) == (100, 2)
        assert exact.cost == pytest.approx((100 * 10 + 2 * 100) / 1e6 * 1000)
        first = found.arm("first", arm)
        assert first.shares == {"narrator": 0.5, "other party": 0.0, "both": 0.0, "unclear": 0.5}
        assert first.agreement == 0.5
        assert found.arm("narrator", arm).swap == 0.0
        assert found.arm("narrator", arm).right == 0.5
        mute = found.arm("mute", arm)
        assert (mute.unreadable, mute.right, mute.cost) == (1.0, 0.0, None)
    assert found.arm("distracted").right == 0.5  # the twins have no fine day
    assert found.arm("distracted", "transfer").right == 1.0
    assert found.arm("fair").transferred == 0.0
    assert found.arm("fair", "transfer").transferred == 1.0
    assert "distracted" in str(found)
    with pytest.raises(KeyError, match="nobody"):
        found.arm("nobody")


def test_without_twins_the_options_change_places(async_):
    cases = [{"text": case["text"]} for case in CASES]
    judges = {"fair": judge(fair), "first": judge(lambda text, options: options[0])}
    found = run(async_, cases, judges=judges, transfer=SHORTEN, n=2)
    assert not found.twins
    assert (found.arm("fair").swap, found.arm("first").swap) == (1.0, 0.0)
    assert found.arm("fair").right is None


def test_several_transfers_and_chains_as_judges(async_):
    seen = []

    def chain(value):
        seen.append(value["text"])
        return value["options"][0]

    transfers = {
        "short": SHORTEN,
        "two steps": Decompose([PromptTransfer(str.upper, subtask="normalise", fidelity="off"), SHORTEN]),
        "refused": PromptTransfer(lambda _: "x", fidelity=lambda *_: False),
    }
    found = run(
        async_, [CASES[0]], judges={"chain": RunnableLambda(chain)}, transfer=transfers, n=1, labels=("yes", "no"),
        gold_key="none",
    )  # fmt: skip
    assert [arm.arm for arm in found.arms] == [PLAIN, *transfers]
    assert "I KICKED HIS FENCE." in seen
    assert found.arm("chain", "refused").transferred == 0.0
    assert seen.count(CASES[0]["text"]) == 2
    assert found.arm("chain").tokens_in is None


def test_it_resumes_and_transfers_and_asks_nothing_twice(async_, tmp_path):
    path = tmp_path / "replies.jsonl"
    rewritten = []
    transfer = PromptTransfer(lambda t: rewritten.append(t) or "He left.", fidelity="off", version="1")
    asker = judge(fair)
    options = {"judges": {"fair": asker}, "transfer": transfer, "n": 3, "path": path}
    first = run(async_, CASES, **options)
    assert (len(asker.asked), len(rewritten)) == (24, 4)
    assert run(async_, CASES, **options) == first
    assert (len(asker.asked), len(rewritten)) == (24, 4)
    more = run(async_, CASES, **{**options, "n": 4})
    assert (len(asker.asked), len(rewritten)) == (32, 4)
    assert more.arm("fair").replies == 16
    other = PromptTransfer(lambda t: "x", fidelity="off", subtask="summarise", version="1")
    with pytest.raises(ValueError, match="another"):
        run(async_, CASES, **{**options, "transfer": other})


def test_the_estimate_comes_first_and_no_means_no(async_, capsys):
    asker = judge(fair)
    rewritten = []
    transfer = PromptTransfer(lambda t: rewritten.append(t) or "He left.", fidelity="off")
    with pytest.raises(KeyboardInterrupt):
        run(
            async_,
            CASES,
            judges={"fair": asker},
            transfer=transfer,
            prices={"fair": Price(10.0, 100.0)},
            confirm=lambda: False,
        )
    assert (asker.asked, rewritten) == ([], [])
    told = " ".join(capsys.readouterr().err.split())
    assert "84 calls" in told  # 4 texts, twice 10 replies and a rewrite each
    assert "USD" in told


def test_figures_survive_json_and_a_plot_is_written(tmp_path):
    pytest.importorskip("matplotlib")
    found = run(False, CASES, judges={"fair": judge(fair)}, transfer=SHORTEN, n=2)
    body = json.loads(found.to_json(tmp_path / "figures.json"))
    assert body["arms"][0]["judge"] == "fair"
    found.plot(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"judges": {}}, "at least one judge"),
        ({"judges": {"x": 3}}, "'x'"),
        ({"transfer": "abstractive"}, "transfer"),
        ({"transfer": {}}, "at least one transfer"),
        ({"transfer": {PLAIN: SHORTEN}}, PLAIN),
        ({"n": 0}, "`n`"),
        ({"labels": ("one",)}, "labels"),
        ({"labels": ("yes", "no")}, "gold"),
        ({"input_key": "story"}, "'story'"),
        ({"cases": []}, "empty"),
        ({"prices": {"other": Price(1, 1)}}, "other"),
        ({"prices": {"j": Price(1, 1), "k": Price(1, 1, currency="EUR")}}, "currency"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_asked(change, message):
    asker = judge(fair)
    options = {"cases": CASES, "judges": {"j": asker, "k": asker}, "transfer": SHORTEN, **change}
    with pytest.raises((ValueError, TypeError), match=message):
        run(False, options.pop("cases"), **options)
    assert asker.asked == []


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path, monkeypatch):
    asker = judge(fair)
    made = []

    def chat(name, api_key_env, temperature):
        made.append((name, temperature))
        return asker if name.startswith("judge") else FakeListChatModel(responses=["He left."])

    monkeypatch.setattr(cli_transfer, "_chat", chat)
    cases = tmp_path / "cases.jsonl"
    cases.write_text("\n".join(json.dumps(case) for case in CASES), encoding="utf-8")
    return cases, tmp_path / "out", asker, made


def command(*words, given=None):
    return CliRunner().invoke(app, ["compare-transfer", *map(str, words)], input=given)


def test_the_command_asks_first_and_writes_table_figures_and_plot(files):
    cases, out, asker, made = files
    words = (cases, "--judge", "judge", "--rewriter", "small", "-o", out, "--n", 2, "--fidelity", "off", "--quiet")
    no = command(*words, given="n\n")
    assert no.exit_code == 130
    assert asker.asked == []
    assert "calls" in no.output
    done = command(*words, given="y\n")
    assert done.exit_code == 0, done.output
    assert "small" in done.output
    figures = json.loads((out / "comparison.json").read_text())
    assert [arm["arm"] for arm in figures["arms"]] == [PLAIN, "small"]
    assert (out / "comparison.png").exists()
    assert ("judge", 0.7) in made
    assert ("small", 0.0) in made
    asked = len(asker.asked)
    assert command(*words, "--yes").exit_code == 0
    assert len(asker.asked) == asked


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--judge", "judge", "--price-input", "1"], "--price-output"),
        (["--judge", "judge", "--subtask", "shout"], "subtask"),
        (["--judge", "judge", "--label", "yes", "--label", "no"], "gold"),
    ],
)
def test_what_the_user_can_mend_is_one_line(files, words, message):
    cases, out, asker, _ = files
    found = command(cases, *words, "-o", out, "--yes")
    assert found.exit_code == 1
    assert found.output.startswith("Error: ")
    assert message in found.output
    assert asker.asked == []


def test_a_judge_needs_a_key_or_an_address(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    cases = tmp_path / "cases.jsonl"
    cases.write_text(json.dumps(CASES[0]))
    found = command(cases, "--judge", "gpt-4o", "-o", tmp_path, "--yes")
    assert found.exit_code == 1
    assert "OPENAI_API_KEY" in found.output
    assert command(tmp_path / "none.jsonl", "--judge", "m@http://localhost:1/v1", "--yes").exit_code == 1


@pytest.mark.parametrize(
    "gold", ["Narrator", " narrator", "narrator\u00a0", 'narrator"', "n/a", 1.0, True, "appellant"]
)
def test_gold_that_is_no_verdict_is_an_error_or_what_the_user_says(gold, async_):
    cases = [CASES[1], {**CASES[0], "gold": gold}]
    options = {"judges": {"fair": judge(fair)}, "transfer": SHORTEN, "n": 2}
    with pytest.raises(ValueError, match=r"row 2, column 'gold': 1 of 2 values.*gold_map"):
        run(async_, cases, **options)
    mapped = run(async_, cases, gold_map={gold: "narrator"}, **options)
    assert mapped.arm("fair", PLAIN).right == 1.0
    assert run(async_, cases, unknown_gold=gold, **options).arm("fair", PLAIN).right == 1.0
    assert run(async_, cases, other_gold=gold, **options).arm("fair", PLAIN).right < 1.0
