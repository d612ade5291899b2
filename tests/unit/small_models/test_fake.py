import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.load import dumps, loads

from langchain_dsplus.answer import InvalidAnswerError
from langchain_dsplus.small_models.base import UNVERIFIABLE
from langchain_dsplus.small_models.fake import FakeSmallModel

TABLE = {"great": {"pos": 0.9, "neg": 0.1}, "bad": {"neg": 0.8, "pos": 0.2}}


def test_a_table():
    small = FakeSmallModel(TABLE)
    assert small.labels == ["pos", "neg"]
    assert small.invoke("bad") == {"choice": "neg", "probabilities": {"pos": 0.2, "neg": 0.8}, "confidence": 0.8}
    assert small.calls == [["bad"]]


def test_a_function_sees_the_input_itself():
    small = FakeSmallModel(lambda value: {"a": value["p"], "b": 1 - value["p"]}, labels=["a", "b"])
    assert small.invoke({"p": 0.25})["choice"] == "b"


def test_what_the_table_lacks():
    with pytest.raises(KeyError, match="no entry"):
        FakeSmallModel(TABLE).invoke("a secret text")
    assert FakeSmallModel(TABLE, default={"pos": 1.0}).invoke("other")["choice"] == "pos"


def test_an_exception_is_raised_for_its_input_only():
    small = FakeSmallModel({**TABLE, "broken": RuntimeError("no")})
    results = small.batch(["great", "broken", "bad"], return_exceptions=True)
    assert [type(result) for result in results] == [dict, RuntimeError, dict]


def test_a_label_that_it_does_not_have_is_no_answer():
    with pytest.raises(InvalidAnswerError):
        FakeSmallModel({"x": {"other": 0.6, "a": 0.4}}, labels=["a", "b"]).invoke("x")


def test_it_needs_labels():
    with pytest.raises(ValueError, match="labels"):
        FakeSmallModel(lambda value: {})
    with pytest.raises(ValueError, match="labels"):
        FakeSmallModel()


def test_version():
    assert FakeSmallModel(TABLE).version == FakeSmallModel(dict(reversed(TABLE.items())), labels=["pos", "neg"]).version
    assert FakeSmallModel(lambda value: {}, labels=["a"]).version == UNVERIFIABLE


@pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")
def test_it_dumps_and_loads():
    small = FakeSmallModel(TABLE, name="tiny", score="margin")
    copy = loads(dumps(small), allowed_objects=[FakeSmallModel], valid_namespaces=["langchain_dsplus"])
    assert copy.invoke("great") == small.invoke("great")
    assert (copy.name, copy.score, copy.labels) == ("tiny", "margin", ["pos", "neg"])


def test_a_clone_remembers_its_own_calls():
    small = FakeSmallModel(dict(TABLE))
    copy = small.clone()
    copy.invoke("great")
    copy.responses["great"] = {"neg": 1.0, "pos": 0.0}
    assert small.calls == []
    assert small.invoke("great")["choice"] == "pos"
    assert FakeSmallModel(lambda value: {"a": 1.0}, labels=["a"]).clone().invoke("x")["choice"] == "a"


def test_calls_from_many_threads_are_all_remembered():
    small = FakeSmallModel(default={"a": 1.0}, latency=0.001)
    barrier = threading.Barrier(8)

    def work(number):
        barrier.wait()
        return [small.invoke(f"{number} {i}") for i in range(20)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(small.calls) == 160
    assert len({text for (text,) in small.calls}) == 160
