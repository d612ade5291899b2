import math
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_dsplus.costs import prices as module
from langchain_dsplus.costs.prices import PRICES, PRICES_DATE, Price, find_price
from langchain_dsplus.costs.usage import Usage, is_cache_hit


@pytest.fixture
def own_table(monkeypatch):
    """A machine without `genai-prices`, on which nothing has been looked up yet."""
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    for kept in (module._maintained, module._say_age):
        kept.cache_clear()
    yield
    for kept in (module._maintained, module._say_age):
        kept.cache_clear()


@pytest.fixture
def maintained():
    return pytest.importorskip("genai_prices")


def test_cost():
    price = Price(input=2.0, output=8.0, cached_input=0.5)
    assert price.cost({"input_tokens": 1_000_000, "output_tokens": 0}) == 2.0
    assert price.cost({"input_tokens": 0, "output_tokens": 500_000}) == 4.0
    usage = {"input_tokens": 1_000_000, "output_tokens": 0, "input_token_details": {"cache_read": 400_000}}
    assert price.cost(usage) == pytest.approx(0.6 * 2.0 + 0.4 * 0.5)
    assert Price(input=2.0, output=8.0).cost(usage) == 2.0
    assert price.cost({"input_tokens": 3, "output_tokens": 0, "input_token_details": None}) == pytest.approx(6e-6)


@pytest.mark.parametrize("usage", [{}, {"input_tokens": 1}, {"input_tokens": None, "output_tokens": 1}, None])
def test_a_usage_without_counts_is_refused(usage):
    with pytest.raises(ValueError, match="input_tokens"):
        Price(input=1.0, output=1.0).cost(usage)


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match="negative"):
        Price(input=1.0, output=1.0).cost({"input_tokens": -1, "output_tokens": 0})
    for name in ("input", "output", "cached_input", "cache_write", "cache_write_1h"):
        for value in (-1.0, math.nan, math.inf):
            with pytest.raises(ValueError, match=name):
                Price(**{"input": 1.0, "output": 1.0, name: value})


def test_the_list_is_dated_and_consistent():
    for name, price in PRICES.items():
        assert PRICES_DATE in price.source
        assert price.currency == "USD"
        assert 0 < price.input < price.output, name
        assert price.cached_input is None or price.cached_input < price.input
        assert price.cache_write is None or price.input < price.cache_write < price.cache_write_1h


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4o", "gpt-4o"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("gpt-3.5-turbo-0125", "gpt-3.5-turbo"),
        ("claude-sonnet-4-20250514", "claude-sonnet-4"),
        ("claude-3-5-haiku-latest", "claude-3-5-haiku"),
        ("claude-opus-4-1-20250805", "claude-opus-4-1"),
        ("claude-opus-4-7", None),  # a version is no date
        ("claude-opus-4-7-20270101", None),
        ("gpt-4o-audio-preview", None),
        ("my-gpt-4o", None),
        ("", None),
    ],
)
def test_dated_names_are_found_and_others_are_not(model, name, own_table):
    assert find_price(model) == (None if name is None else PRICES[name])


def test_the_age_of_our_own_table_is_said_once(own_table, caplog):
    for _ in range(3):
        assert find_price("nobody-knows-this") is None
    assert not caplog.records, "no price of it was used"
    for model in ("gpt-4o", "gpt-4o-mini", "gpt-4o"):
        assert find_price(model) is PRICES[model]
    (said,) = caplog.messages
    year, month = map(int, PRICES_DATE.split("-"))
    today = datetime.now(UTC)
    months = 12 * (today.year - year) + today.month - month
    assert f"{PRICES_DATE} are used, {months} months old: pip install 'langchain-dsplus[prices]'" in said


@pytest.mark.parametrize("model", [*PRICES, "gpt-4o-2024-08-06", "claude-opus-4-1-20250805", "gemini-2.5-pro"])
def test_list_prices_come_from_the_maintained_package_where_it_is_installed(model, maintained, caplog):
    price = find_price(model)
    assert price is not None
    assert price.source.endswith(f"genai-prices {maintained.__version__}")
    assert not caplog.records
    usage = {"input_tokens": 1000, "output_tokens": 500, "input_token_details": {"cache_read": 400}}
    theirs = maintained.Usage(input_tokens=1000, output_tokens=500, cache_read_tokens=400)
    assert price.cost(usage) == pytest.approx(float(maintained.calc_price(theirs, model).total_price))


@pytest.mark.parametrize(
    "model",
    [
        # Many serve these, each at its price; a model on this machine may bear the name.
        "gpt-oss-20b", "deepseek-r1", "mistral-small", "glm-4.6", "kimi-k2", "meta-llama/llama-3.3-70b-instruct",
        "my-gpt-4o", "gpt-4o-mini-made-up", "claude", "", "text-embedding-3-small", "whisper-1",
    ],
)  # fmt: skip
def test_a_name_that_does_not_say_who_is_paid_has_no_price(model, maintained):
    assert find_price(model) is None


def test_a_list_of_your_own_goes_before_any_other(maintained):
    mine = {"gpt-4o": Price(1.0, 2.0)}
    assert find_price("gpt-4o", mine) is mine["gpt-4o"]
    assert find_price("gemini-2.5-pro", mine) is None


def test_a_list_of_your_own():
    mine = {"gpt-4o": Price(1.0, 2.0)}
    assert find_price("gpt-4o-2024-08-06", mine) is mine["gpt-4o"]
    assert find_price("gpt-4o-mini", mine) is None


def test_writing_into_a_provider_cache_has_its_price():
    price = Price(1e6, 0.0, cached_input=1e5, cache_write=1.25e6, cache_write_1h=2e6)
    details = {"cache_read": 10, "cache_creation": 20}
    assert price.cost({"input_tokens": 100, "output_tokens": 0, "input_token_details": details}) == pytest.approx(96.0)
    # One that tells the two times apart reports the sum as 0.
    details = {"cache_creation": 0, "ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30}
    assert price.cost({"input_tokens": 100, "output_tokens": 0, "input_token_details": details}) == pytest.approx(135.0)
    assert Price(1e6, 0.0).cost({"input_tokens": 100, "output_tokens": 0, "input_token_details": details}) == 100.0
    only_write = Price(1e6, 0.0, cache_write=2e6)
    assert only_write.cost({"input_tokens": 30, "output_tokens": 0, "input_token_details": details}) == 60.0


def test_a_tier_in_front_of_a_count_is_read():
    details = {"priority_cache_read": 7, "priority": 3}
    assert Usage.read({"input_tokens": 10, "output_tokens": 0, "input_token_details": details}).cached == 7


@pytest.mark.parametrize(
    ("usage", "hit"),
    [({"total_cost": 0}, True), ({"total_cost": 0.0}, True), ({"total_cost": 1}, False), ({}, False), (None, False)],
)
def test_the_mark_of_a_cache_hit(usage, hit):
    assert is_cache_hit(usage) is hit


counts = st.integers(0, 10_000)


@given(counts, counts, counts, counts, counts)
def test_details_never_exceed_the_prompt_and_usages_add_up(tokens, cached, written, hour, out):
    details = {"cache_read": cached, "ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": hour}
    usage = Usage.read({"input_tokens": tokens, "output_tokens": out, "input_token_details": details})
    assert usage.cached + usage.written + usage.written_1h <= usage.input == tokens
    price = Price(3.0, 15.0, 0.3, cache_write=3.75, cache_write_1h=6.0)
    assert price.cost(usage + usage) == pytest.approx(2 * price.cost(usage))
    assert 0 <= price.cost(usage) <= (tokens * 6.0 + out * 15.0) / 1e6 + 1e-12
