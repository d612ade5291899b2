"""Whatever stands in a file, a reply, a body or a setting: a documented error or a right answer, in linear time."""

from __future__ import annotations

import asyncio
import io
import json
import math
import shutil
import tempfile
import time
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from langchain_dsplus import ConfidenceRouter, FakeSmallModel, Fidelity, LabelParser, Outcomes
from langchain_dsplus._journal import parse_line
from langchain_dsplus.labels import match_label
from langchain_dsplus.traces.logs import read_calls
from tests.growth import assert_grows_at_most
from tests.unit.security.test_formats import MAKERS, a_classifier

DOCUMENTED = (ValueError, RuntimeError, OSError, TypeError, ImportError)
"""What docstrings name. `KeyError`, `AttributeError`, `IndexError`, `RecursionError`, ... are none of them."""
UNCLEAR = (AttributeError, KeyError, IndexError, RecursionError, AssertionError, UnboundLocalError, MemoryError)
NOISE = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

texts = st.text(alphabet=st.one_of(st.characters(), st.sampled_from("{}<>\"'`\\\n\t,;:-*_()[]#|=")), max_size=200)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def clear(call, *, about=""):
    """Its result, or None where it raised what is documented."""
    try:
        return call()
    except UNCLEAR as error:  # a KeyError is no ValueError, but a UnicodeError is one
        pytest.fail(f"{about}: {error!r} is not a documented error")
    except DOCUMENTED as error:
        said = str(error)
    return None if said else pytest.fail(f"{about}: an error without a word")


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=MAKERS, ids=lambda maker: maker.__name__)
def written(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param.__name__)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = request.param(folder)
        read()
    kept = {
        file: file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.suffix in (".json", ".jsonl", ".skops") and "tmp" not in file.name
    }
    return folder, read, kept


def places(value, path=()):
    """Every place in a JSON value."""
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def put(value, path, new):
    """A copy with another value in one place; `...` takes the place away."""
    if not path:
        return {} if new is ... else new
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1 and new is ...:
        del copy[path[0]]
    else:
        copy[path[0]] = put(value[path[0]], path[1:], new)
    return copy


@given(data=st.data())
@NOISE
def test_a_damaged_file_is_refused_or_read_as_before(written, data):
    _, read, kept = written
    file = data.draw(st.sampled_from(sorted(kept)))
    body = kept[file]
    how = data.draw(st.sampled_from(["cut", "flip", "value", "gone", "noise"]))
    if how in ("value", "gone") and file.suffix == ".json":
        try:
            whole = json.loads(body)
        except ValueError:  # a pacer's file: a state, and lines
            whole = json.loads(body.split(b"\n")[0])
        place = data.draw(st.sampled_from(sorted(places(whole), key=repr)))
        text = json.dumps(put(whole, place, ... if how == "gone" else data.draw(values)))
        damaged = text.encode("utf-8", "backslashreplace")
    elif how == "noise":
        damaged = data.draw(st.binary(max_size=300))
    elif how == "cut":
        damaged = body[: data.draw(st.integers(0, max(0, len(body) - 1)))]
    else:
        at = data.draw(st.integers(0, max(0, len(body) - 1)))
        damaged = body[:at] + bytes([body[at] ^ (1 << data.draw(st.integers(0, 7)))]) + body[at + 1 :] if body else b"x"
    file.write_bytes(damaged)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            clear(read, about=f"{file.name}, {how}")
    finally:
        file.write_bytes(body)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json", "parquet"])
@given(
    body=st.one_of(
        st.binary(max_size=400),
        st.lists(values, max_size=4).map(lambda rows: "\n".join(map(json.dumps, rows)).encode("utf-8", "replace")),
    )
)
@NOISE
def test_a_table_of_noise_is_refused(suffix, body):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = Path(folder) / f"t.{suffix}"
        file.write_bytes(body)
        read = {"csv": Outcomes.from_csv, "parquet": Outcomes.from_parquet}.get(suffix, Outcomes.from_jsonl)
        clear(lambda: read(file), about=suffix)
        clear(lambda: list(read_calls(file)), about="read_calls")


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["id", "small", "confidence", "large", "gold", "probabilities", "group", "x"]), values
        ),
        max_size=4,
    )
)
@NOISE
def test_rows_of_noise_are_refused_or_kept(rows):
    found = clear(lambda: Outcomes.from_records(rows))
    if found is not None and len(found):
        assert all(math.isfinite(value) for value in found.data["confidence"])


def bomb(kind, body):
    """An archive that says or unpacks to far more than it is."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(body)) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            new.writestr(item.filename, old.read(item))
        for number in range(1 if kind == "one" else 50):
            new.writestr(f"zeros{number}.npy", bytes(60_000_000 if kind == "one" else 1_000_000))
    return made.getvalue()


@pytest.mark.parametrize("kind", ["one", "many"])
def test_an_archive_that_unpacks_to_more_than_it_is_is_not_read(tmp_path, monkeypatch, kind):
    from langchain_dsplus import SklearnClassifier
    from langchain_dsplus._files import hash_files
    from langchain_dsplus.small_models import sklearn as ours

    a_classifier().save(tmp_path / "m")
    file = tmp_path / "m" / ours._MODEL
    file.write_bytes(bomb(kind, file.read_bytes()))
    monkeypatch.setattr(ours, "load_folder", lambda *_, **__: ({}, file.read_bytes()))  # its checksum was written anew
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_, **__: pytest.fail("it was unpacked"))
    assert hash_files([("model", file)])
    with pytest.raises(ValueError, match="would unpack"):
        SklearnClassifier.load(tmp_path / "m")


# --- replies and rewrites ---------------------------------------------------------------------------------------------

labels = st.lists(st.text(min_size=1, max_size=12).filter(str.strip), min_size=2, max_size=5, unique=True)


@given(texts, labels)
@NOISE
def test_a_reply_gives_a_label_or_none(text, names):
    assert clear(lambda: match_label(text, names)) in (None, *names)
    parser = clear(lambda: LabelParser(names))
    if parser is not None:
        assert clear(lambda: parser.invoke(text)) in (None, *names)


@given(texts, texts)
@NOISE
def test_a_rewrite_of_noise_is_judged(source, rewrite):
    found = clear(lambda: Fidelity()(source, rewrite))
    assert found is None or isinstance(found["faithful"], bool)
    same = clear(lambda: Fidelity()(source, source))
    assert same is None or not (same["missing"] or same["added"]), "a copy lacks nothing and invents nothing"


SHAPES = {
    "a": "a", "words": "word ", "braces": "{", "tags": "<think>", "closed": "</think>", "dashes": "- ", "lines": "\n",
    "numbers": "12,345.6 ", "quotes": '"', "denials": "not ", "labels": "card ", "escapes": "\\u0000", "mixed": "a1 b2. ",
    "brackets": "[[", "fences": "```", "urls": "http://a.b/c ", "names": "Anna Berg ", "dates": "2026-01-02 ",
}  # fmt: skip
READERS = {
    "match_label": lambda text: match_label(text, ["card", "card_arrival", "refund"]),
    "fidelity": lambda text: Fidelity()(text, text[: len(text) // 2]),
    "fidelity turned": lambda text: Fidelity()(text[: len(text) // 2], text),
    "parse_line": parse_line,
}


@pytest.mark.no_cover
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_twice_as_long_takes_twice_as_long(reader, shape):
    call, unit = READERS[reader], SHAPES[shape]
    size = 4_000 // len(unit) * len(unit)

    def seconds(length):
        text = unit * (length // len(unit))
        begun = time.process_time()
        clear(lambda: call(text))
        return time.process_time() - begun

    assert_grows_at_most(seconds, (size, 4 * size), 8, least=0.05 / 8)  # 16 is quadratic


# --- settings ---------------------------------------------------------------------------------------------------------


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "dsplus_threshold",
                "dsplus_mode",
                "dsplus_audit_rate",
                "dsplus_min_confidence",
                "dsplus_r_threshold",
                "dsplus_r_mode",
            ]
        ),
        values | st.sampled_from(["live", "off", "shadow", math.inf, -math.inf, 0.2, 0.99, {}, {"small": 0.1}]),
        min_size=1,
    ),
    st.floats(0.5, 1.0),
)
@NOISE
def test_no_setting_of_a_client_keeps_more_local(given_, confidence):
    small = FakeSmallModel(default={"a": confidence, "b": 1 - confidence}, labels=["a", "b"])
    router = ConfidenceRouter(
        small=small, large=lambda_b(), threshold=0.8, include_route=True, name="r", background=False
    )
    found = clear(lambda: router.invoke("x", {"configurable": given_}))
    if found is not None:
        assert not found["route"]["accepted"] or confidence > 0.8


def lambda_b():
    from langchain_core.runnables import RunnableLambda

    return RunnableLambda(lambda _: "b").with_types(output_type=str)


# --- the proxy --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ask():
    """Send a body to a proxy whose upstream says that it is a teapot; returns status and headers."""
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("fastapi")
    from langchain_dsplus.serve import ChatTask, Upstream, create_app, open_shunt

    folder = tempfile.mkdtemp()
    upstream = Upstream("http://127.0.0.1:9/v1", connect_timeout=0.2)

    async def send(*_, **__):
        return httpx.Response(418, stream=httpx.ByteStream(b"{}"))

    upstream.send = send
    task = ChatTask("m", [("system", "Which?"), ("user", "{text}")])
    shunt = open_shunt(Path(folder) / "s", task, upstream, labels=["a", "b"], follow=None)
    app = create_app(shunt, upstream)

    async def post(path, body):
        transport = httpx.ASGITransport(app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://proxy") as client:
            return await client.post(path, content=body)

    yield lambda path, body: asyncio.run(post(path, body))
    shunt.store.close()
    shutil.rmtree(folder, ignore_errors=True)


MESSAGES = [{"role": "system", "content": "Which?"}, {"role": "user", "content": "hello"}]


@given(data=st.data())
@settings(NOISE, max_examples=40)
def test_whatever_a_client_sends_passes_or_is_refused(ask, data):
    whole = {"model": "m", "messages": MESSAGES}
    kind = data.draw(st.sampled_from(["noise", "value", "changed"]))
    if kind == "noise":
        body = data.draw(st.binary(max_size=200))
    else:
        place = data.draw(st.sampled_from(sorted(places(whole), key=repr)))
        changed = data.draw(values) if kind == "value" else put(whole, place, data.draw(values))
        body = json.dumps(changed).encode("utf-8", "replace")
    reply = ask("/v1/chat/completions", body)
    assert reply.status_code == 418, "what is not for the shunt is the upstream's to answer"
    assert reply.headers["x-dsplus-route"] in ("untouched", "large")
