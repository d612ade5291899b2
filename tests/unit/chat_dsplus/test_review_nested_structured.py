"""Structured output of a cascade that is itself a model of another one."""

import asyncio

import pytest
from pydantic import BaseModel

from langchain_dsplus import ChatDSPlus


class Number(BaseModel):
    """A number."""

    x: int


@pytest.mark.parametrize("place", ["small", "large"])
@pytest.mark.parametrize("p", [0.1, 0.9])
@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
@pytest.mark.parametrize("include_raw", [False, True])
def test_a_cascade_in_a_cascade_is_read_by_whoever_answered(scripted, place, p, method, include_raw):
    inner = ChatDSPlus(name="first", models=[scripted(name="tiny", p=p), scripted()], threshold=0.5)
    if place == "small":
        model = ChatDSPlus(models=[inner, scripted(p=None)], threshold=0.5, accept=lambda messages, draft: 0.9)
    else:
        model = ChatDSPlus(models=[scripted(name="before", p=0.1), inner], threshold=0.5)
    chain = model.with_structured_output(Number, method=method, include_raw=include_raw)
    for found in (chain.invoke("Hi"), asyncio.run(chain.ainvoke("Hi"))):
        assert (found["parsed"] if include_raw else found) == Number(x=3)
        if include_raw:
            assert found["raw"].response_metadata["dsplus"]["model"] == ("first" if place == "small" else "large")
