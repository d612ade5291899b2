"""Routes a data set in a process of its own, which a test may kill: `python victim.py URL FOLDER ROWS ray|here`."""

import functools
import json
import sys


def texts(count):
    return [f"text {i}" for i in range(count)]


def small_says(text):
    sure = 0.55 + (sum(map(ord, text)) * 7919 % 45) / 100
    return {"even": sure, "odd": 1 - sure} if int(text.split()[1]) % 2 == 0 else {"even": 1 - sure, "odd": sure}


def make_router(url):
    from langchain_core.output_parsers import StrOutputParser
    from langchain_openai import ChatOpenAI

    from langchain_dsplus import ConfidenceRouter, FakeSmallModel

    chat = ChatOpenAI(base_url=url, api_key="none", model="big", max_retries=0, timeout=30)
    small = FakeSmallModel(small_says, labels=["even", "odd"], version="1")
    return ConfidenceRouter(small=small, large=chat | StrOutputParser(), threshold=0.8)


def main(url, folder, rows, where):
    from langchain_dsplus.dataset import route_dataset

    data, options = texts(int(rows)), {}
    if where == "ray":
        import ray

        ray.init(num_cpus=2, object_store_memory=100_000_000, include_dashboard=False, log_to_driver=False)
        data, options = ray.data.from_items([{"text": text} for text in data]), {"input_column": "text", "workers": 2}
        options["ray"] = True
    make = functools.partial(make_router, url)
    routed = route_dataset(data, make, folder, block_size=16, max_concurrency=4, progress=False, **options)
    found = {"outputs": routed.outputs(), "routes": routed.routes(), "total": routed.ledger().total()}
    if where == "ray":
        found["paid"] = until_spent(data, make, folder + "-2", options)
    print(json.dumps(found))


def until_spent(data, make, folder, options):
    """Calls that a budget of five paid for, both workers together."""
    from pathlib import Path

    from langchain_dsplus.costs.prices import Price
    from langchain_dsplus.dataset import SpentError, route_dataset

    try:
        route_dataset(data, make, folder, block_size=16, progress=False, prices=Price(0, 1e6), max_cost=5.0, **options)
    except SpentError:
        return Path(folder, "replies.jsonl").read_text().count('"label"')
    return None


if __name__ == "__main__":
    main(*sys.argv[1:])
