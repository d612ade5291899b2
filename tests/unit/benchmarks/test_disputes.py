"""The benchmark on disputes: what is asked, remembered and counted. The models are scripted neighbors."""

import hashlib
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult

from benchmarks import __main__ as command
from benchmarks import disputes as benchmark
from benchmarks import harness
from benchmarks.disputes import asking, measures, texts
from benchmarks.disputes.asking import Verdict, ask_analyses, ask_verdict
from benchmarks.disputes.drafts import Drafts
from benchmarks.disputes.memory import Answers, Remembered
from benchmarks.disputes.texts import SWAP, Dispute, Fact

TOP = {"narrator": 0.6, "other": 0.3, "both": 0.08, "un": 0.02}


class Scripted(BaseChatModel):
    """Prefers what is offered first; counts how often it was asked."""

    asked: list[dict[str, Any]] = []
    fails: bool = False

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        if self.fails:
            msg = "the server is gone"
            raise ConnectionError(msg)
        self.asked.append(kwargs)
        prompt = str(messages[-1].content)
        usage: UsageMetadata = {"input_tokens": 100, "output_tokens": 3, "total_tokens": 103}
        if "extra_body" in kwargs:
            texts_ = [
                '{"reason": "x", "verdict": "narrator"}',
                '{"reason": "x", "verd',
                '{"verdict": "both"}',
                "[]",
                '"a"',
            ]
            generations = [ChatGeneration(message=AIMessage(t)) for t in texts_[: kwargs["n"]]]
            return ChatResult(generations=generations)
        forward = "unclear, both" not in prompt
        shares = list(TOP.values()) if forward else list(TOP.values())[::-1]
        top = [{"token": t, "logprob": math.log(p)} for t, p in zip(TOP, shares, strict=True)]
        first = max(top, key=lambda each: each["logprob"])
        content = [{**first, "top_logprobs": top}]
        message = AIMessage(
            first["token"],
            response_metadata={"logprobs": {"content": content}, "finish_reason": "stop"},
            usage_metadata=usage,
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


@pytest.fixture
def chat(tmp_path: Path) -> Remembered:
    scripted = Scripted(asked=[])
    return Remembered(model="m", start=lambda: scripted, answers=Answers(tmp_path / "answers.jsonl"))


def _verdict(choice: str, share: float = 0.7) -> Verdict:
    rest = (1 - share) / 3
    probabilities = {v: share if v == choice else rest for v in SWAP}
    return Verdict(probabilities, probabilities, 10, 1, 0.0)


def _dispute(name: str, verdict: str) -> Dispute:
    return Dispute(name, "en", "work", "locked", f"s {name}", f"t {name}", (Fact("f", (name,)),), verdict, "because")


# --- what is remembered ---


def test_what_was_asked_is_not_asked_again_after_a_restart(chat: Remembered) -> None:
    first = ask_verdict(chat, "I hit him.", "en")
    assert len(chat.start().asked) == 2  # type: ignore[attr-defined]
    broken = Remembered(model="m", start=lambda: Scripted(fails=True), answers=Answers(chat.answers.path))
    assert ask_verdict(broken, "I hit him.", "en") == first
    with pytest.raises(ConnectionError):
        ask_verdict(broken, "I hit her.", "en")
    other = Remembered(model="another", start=lambda: Scripted(fails=True), answers=broken.answers)
    with pytest.raises(ConnectionError):
        ask_verdict(other, "I hit him.", "en")


def test_a_half_written_line_costs_one_answer(chat: Remembered) -> None:
    ask_verdict(chat, "I hit him.", "en")
    path = chat.answers.path
    path.write_text(path.read_text(encoding="utf-8").rstrip()[:-20], encoding="utf-8")
    again = chat.model_copy(update={"answers": Answers(path)})
    ask_verdict(again, "I hit him.", "en")
    assert again.answers.asked == 1
    assert ask_verdict(chat.model_copy(update={"answers": Answers(path)}), "I hit him.", "en").tokens_in == 100
    assert again.answers.asked == 1


def test_a_remembered_answer_keeps_its_usage_and_time(chat: Remembered) -> None:
    drafts = Drafts()
    chat.invoke("Hello", {"callbacks": [drafts]})
    first = drafts.seconds
    again = Drafts()
    reply = chat.invoke("Hello", {"callbacks": [again]})
    assert reply.usage_metadata == {"input_tokens": 100, "output_tokens": 3, "total_tokens": 103}
    assert (again.text, again.seconds) == (drafts.text, first)
    assert len(chat.start().asked) == 1  # type: ignore[attr-defined]


def test_seconds_of_answers_from_the_file_count_once_where_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(
        "\n".join(json.dumps({"key": key, "seconds": 2.5}) for key in ("a", hashlib.sha256(b'"x"').hexdigest()))
    )
    answers = Answers(path)
    assert answers.remembered == 0.0
    for asked in ("x", "x", "new", "new"):
        answers.get(asked, dict)
    assert (answers.remembered, answers.asked) == (2.5, 1)


# --- what is asked ---


def test_a_verdict_is_the_mean_of_both_orders(chat: Remembered) -> None:
    verdict = ask_verdict(chat, "I hit him.", "en")
    assert verdict.forward["narrator"] == pytest.approx(0.6, abs=1e-4)
    assert verdict.backward["narrator"] == pytest.approx(0.02, abs=1e-4)
    assert verdict.probabilities["narrator"] == pytest.approx(0.31, abs=1e-4)
    assert sum(verdict.probabilities.values()) == pytest.approx(1)
    assert verdict.choice == "narrator"


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_the_statement_stands_before_the_options(language: texts.Language) -> None:
    first, second = (
        asking.messages(asking.VERDICT, "{a} %s", language, order)[1][1] for order in (tuple(SWAP), tuple(SWAP)[::-1])
    )
    assert first != second
    common = next(n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    assert first.index("{a} %s") < common
    assert all(word in first for word in asking.WORDS[language].values())


def test_analyses_that_name_no_verdict_count_as_none(chat: Remembered) -> None:
    assert ask_analyses(chat, "I hit him.", "en", 7, seed=3) == ["narrator", None, "both", None, None, "narrator", None]
    asked = chat.start().asked  # type: ignore[attr-defined]
    assert [(each["n"], each["seed"]) for each in asked] == [(5, 3), (2, 4)]


# --- what is counted ---


def test_measures_of_a_judge_who_is_always_right() -> None:
    disputes = [
        _dispute("a", "narrator"),
        _dispute("b", "other party"),
        _dispute("c", "both"),
        _dispute("d", "unclear"),
    ]
    pairs = [(_verdict(d.verdict), _verdict(SWAP[d.verdict])) for d in disputes]
    found = measures.values(disputes, pairs)
    for name in ("accuracy", "unbiased", "both_told", "swap"):
        assert found[name] == [1.0] * 4, name
    assert found["gold_probability"] == pytest.approx([0.7] * 4)
    assert measures.leanings(pairs)["swap_named"] == 50
    assert measures.leanings(pairs)["position_bias"] == 0


def test_a_judge_who_always_sides_with_the_narrator() -> None:
    disputes = [_dispute("a", "narrator"), _dispute("b", "other party")]
    # Both blame the other party, but each a little less where the narrator is at fault: this is what correction finds.
    pairs = [(_verdict("other party", 0.5), _verdict("other party", 0.9))] * 1
    pairs += [(_verdict("other party", 0.9), _verdict("other party", 0.5))]
    found = measures.values(disputes, pairs)
    assert found["accuracy"] == [0.5, 0.5]
    assert found["swap"] == [0.0, 0.0]
    assert found["both_told"] == [1.0, 1.0]
    assert measures.leanings(pairs)["sides_with_narrator"] == 100


def test_position_bias_is_what_standing_in_front_brings(chat: Remembered) -> None:
    verdict = ask_verdict(chat, "I hit him.", "en")
    # Narrator .6 in front and .02 at the end; other party .3 second and .08 third.
    assert measures.leanings([(verdict, verdict)])["position_bias"] == pytest.approx((58 + (8 - 30)) / 2, abs=0.1)


def test_the_correction_uses_no_gold_and_not_the_pair_itself() -> None:
    pairs = [(_verdict("both"), _verdict("both")), (_verdict("narrator"), _verdict("other party"))]
    one = measures.unbiased([_dispute("a", "both"), _dispute("b", "unclear")], pairs)
    two = measures.unbiased([_dispute("a", "narrator"), _dispute("b", "narrator")], pairs)
    assert one == two


def test_the_interval_draws_pairs() -> None:
    figures = measures.bootstrap("k", [0.0, 0.5, 1.0, 0.5], random.Random(1))
    assert figures["k"] == 50
    assert 0 <= figures["k.low"] < 50 < figures["k.high"] <= 100
    assert measures.bootstrap("k", [0.0] * 5, random.Random(1)) == {"k": 0, "k.low": 0, "k.high": 0}


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(1, 5, "helps"), (-5, -1, "hurts"), (-1, 5, "no gain"), (0, 0, "no gain"), (0, 5, "no gain")],
)
def test_the_verdict_line_follows_the_interval(low: float, high: float, word: str) -> None:
    assert benchmark.verdict_line({"k": 0, "k.low": low, "k.high": high}, "k") == word
    assert benchmark.verdict_line({}, "k") == "-"


# --- the whole of it ---


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> harness.Context:
    scripted = Scripted(asked=[])
    monkeypatch.setenv("DSPLUS_CACHE", str(tmp_path))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(benchmark.Models, "_serve", lambda self, name: scripted)
    return harness.Context("disputes", quick=True)


def test_a_run_from_texts_to_tables(whole: harness.Context, monkeypatch: pytest.MonkeyPatch) -> None:
    from langchain_dsplus.prompts.extractive import ExtractiveSummarizer

    monkeypatch.setattr(ExtractiveSummarizer, "summarize", lambda self, text, question=None: text)
    figures = harness.clean(benchmark.run(whole))
    assert figures["pairs"] == figures["pairs.en"] == 1
    assert figures["rewrite.extractive.recall"] == 100
    assert figures["rewrite.extractive.length_sent"] == 100
    # The scripted rewrite is one word: it invents nothing, so the gate lets it go on; what it lost is measured.
    assert figures["rewrite.llm_135m.original"] == 0
    assert figures["rewrite.llm_135m.recall"] == 0
    assert figures["rewrite.llm_135m.recall_sent"] == 0
    assert figures["smollm2_135m.llm_135m.accuracy_gain"] == 0
    assert figures["smollm2_135m.llm_135m.tokens_in"] == 100
    assert figures["smollm2_135m.llm_135m.net_tokens"] == pytest.approx(206)
    assert figures["smollm2_135m.llm_135m.money"] == figures["smollm2_135m.none.money"] == pytest.approx(0.28)
    tables = benchmark.tables(figures)
    assert {table.name for table in tables} == {
        f"disputes.{name}" for name in ("verdicts", "gains", "leanings", "costs", "rewrites")
    }
    for table in tables:
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert table.rows
        assert "-" not in {cell for row in table.rows for cell in row[:3]}
    assert [row[-1] for row in tables[1].rows] == ["no gain", "no gain"]
    json.dumps(figures, allow_nan=False)


def test_tables_stand_missing_figures() -> None:
    assert all(table.rows == [] for table in benchmark.tables({}))


# --- the command ---


def test_full_is_refused_where_a_benchmark_has_no_full_size(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        command.main(["import_time", "--full"])
    assert error.value.code == 2
    assert "--full" in capsys.readouterr().err


def test_full_and_quick_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["disputes", "--full", "--quick"])
    assert "not allowed" in capsys.readouterr().err


def test_sizes_grow_and_fit_the_locked_half() -> None:
    locked = texts.load(split="locked")
    assert benchmark.SIZES["full"].english == sum(d.language == "en" for d in locked)
    assert benchmark.SIZES["full"].chinese == sum(d.language == "zh" for d in locked)
    quick, default, full = (benchmark.SIZES[name] for name in ("quick", "default", "full"))
    assert quick.english < default.english < full.english
    assert quick.analysed <= default.analysed <= full.analysed
    assert benchmark.size_of(harness.Context("disputes", full=True)) == full


def test_the_full_results_are_the_ones_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    assert harness.read("x") is None
    harness.write(tmp_path / "x.json", {"figures": {"n": 1}})
    assert harness.read("x") == {"figures": {"n": 1}}
    harness.write(tmp_path / "x.full.json", {"figures": {"n": 2}})
    assert harness.read("x") == {"figures": {"n": 2}}
    assert harness.Context("x", full=True).command.endswith("x --full --seed 0")
    assert harness.Context("x", full=True).result_path("png").name == "x.full.png"
