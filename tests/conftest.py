"""Fixtures that every test may use: a clean environment, and real local models where their weights are here.

Nothing here downloads. `python -m langchain_dsplus.cli models pull minilm smollm2-135m qwen2.5-coder-0.5b` fetches
what the `encoder` and `llm` tests need; without it they skip, and say so.
"""

from __future__ import annotations

import functools
import gc
import os
import ssl

import pytest
from hypothesis import settings

from langchain_dsplus import weights
from langchain_dsplus.demo import register_packages
from langchain_dsplus.local.server import serve_model

# How long an example takes says more about the machine than about the code.
settings.register_profile("dsplus", deadline=None)
settings.register_profile("nightly", deadline=None, max_examples=20_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dsplus"))

register_packages()

# Each client of HTTP reads all certificates of the machine, 30 ms of work, and the tests make a thousand for loopback.
ssl.create_default_context = functools.cache(ssl.create_default_context)

# Twelve thousand tests are a large heap: it is not searched while it is made, and what is left of it never again.
gc.disable()


def pytest_collection_modifyitems(items):
    """Coverage counts a line once: a hundred examples, or a benchmark made again, only run slower under it."""
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False) or "unit/benchmarks/" in item.nodeid:
            item.add_marker(pytest.mark.no_cover)


def pytest_collection_finish():
    """What was collected stays until the end."""
    gc.collect()
    gc.freeze()
    gc.enable()


_PREFIXES = ("OPENAI_", "LANGSMITH_", "LANGCHAIN_", "LANGGRAPH_", "ANTHROPIC_")


@pytest.fixture(autouse=True)
def hermetic_env(monkeypatch):
    """No key, tracing switch or kill switch of the developer reaches a test."""
    for name in list(os.environ):
        if name.startswith(_PREFIXES) or name == "DSPLUS_MODE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def one_thread():
    """Torch with one thread: the networks are tiny, and more threads only wait for each other."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _weights(name):
    try:
        return weights.resolve(name, download=False)
    except weights.WeightsError:
        pytest.skip(f"needs the weights of {name}: python -m langchain_dsplus.cli models pull {name}")


@pytest.fixture(scope="session")
def encoder_path():
    """Folder of all-MiniLM-L6-v2, as `SentenceTransformer(folder)` takes it."""
    return _weights("minilm")


@pytest.fixture(scope="session")
def smollm_path():
    """The GGUF of SmolLM2-135M-Instruct."""
    return _weights("smollm2-135m")


@pytest.fixture(scope="session")
def qwen_path():
    """The GGUF of Qwen2.5-Coder-0.5B-Instruct."""
    return _weights("qwen2.5-coder-0.5b")


@pytest.fixture(scope="session")
def unpooled_openai():
    """`ChatOpenAI` shares one pool of connections between all event loops of a process; each test has its own loop.

    Without this, a later test gets a connection whose loop is closed, or leaves one open. It changes no behavior but
    that each request opens its own connection.
    """
    utils = pytest.importorskip("langchain_openai.chat_models._client_utils")
    limits = utils._DEFAULT_CONNECTION_LIMITS
    caches = (utils._cached_sync_httpx_client, utils._cached_async_httpx_client)
    utils._DEFAULT_CONNECTION_LIMITS = type(limits)(max_connections=100, max_keepalive_connections=0)
    for cache in caches:
        cache.cache_clear()
    yield
    utils._DEFAULT_CONNECTION_LIMITS = limits
    for cache in caches:
        cache.cache_clear()


def _serve(path, name):
    pytest.importorskip("xllamacpp")
    # One thread for each: those of two models would wait for each other at every layer.
    with serve_model(path, name=name, n_ctx=2048, threads=1) as server:
        yield server


@pytest.fixture(scope="session")
def smollm_server(smollm_path, unpooled_openai):
    """A running OpenAI-protocol server with SmolLM2-135M: `.base_url`, `.model`, `.chat_model(**kwargs)`."""
    yield from _serve(smollm_path, "smollm2-135m")


@pytest.fixture(scope="session")
def qwen_server(qwen_path, unpooled_openai):
    """The same with Qwen2.5-Coder-0.5B."""
    yield from _serve(qwen_path, "qwen2.5-coder-0.5b")
