import math

import pytest

from langchain_dsplus.operations.prices import PRICES, PRICES_DATE, Price, find_price


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
    for name in ("input", "output", "cached_input"):
        for value in (-1.0, math.nan, math.inf):
            with pytest.raises(ValueError, match=name):
                Price(**{"input": 1.0, "output": 1.0, name: value})


def test_the_list_is_dated_and_consistent():
    for name, price in PRICES.items():
        assert PRICES_DATE in price.source
        assert price.currency == "USD"
        assert 0 < price.input < price.output, name
        assert price.cached_input is None or price.cached_input < price.input


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4o", "gpt-4o"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("gpt-4o-audio-preview", None),
        ("my-gpt-4o", None),
        ("", None),
    ],
)
def test_dated_names_are_found_and_others_are_not(model, name):
    assert find_price(model) == (None if name is None else PRICES[name])
