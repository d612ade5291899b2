"""No password of a URL is shown, hashed or written, whatever form the URL has."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_openai import ChatOpenAI

from langchain_dsplus._secrets import without_url_secrets
from langchain_dsplus.cli.collect import _code
from langchain_dsplus.identity import identify
from langchain_dsplus.report.words import fact, has_secret
from langchain_dsplus.small_models.chat import ChatClassifier
from langchain_dsplus.traces.store import TraceStore

SECRET = "Xq7" * 6
users = st.sampled_from(["", "me", "me%40x", "svc-1"])
names = st.sampled_from(
    [
        "api_key",
        "apikey",
        "key",
        "access_token",
        "token",
        "X-Amz-Signature",
        "sig",
        "password",
        "passwd",
        "pwd",
        "client_secret",
        "code",
    ]
)
fillers = st.text("abc/?#:+%._~-", max_size=3)
hosts = st.sampled_from(["llm.example", "127.0.0.1:8080", "[::1]:9", "localhost"])
schemes = st.sampled_from(["https", "http", "postgresql+psycopg", "postgres", "redis"])


@st.composite
def urls(draw):
    """A URL with the secret in it: as password, as user, or as a parameter in query or fragment."""
    scheme, host, path = draw(schemes), draw(hosts), draw(st.sampled_from(["", "/", "/v1", "/a/b@2"]))
    kind = draw(st.sampled_from(["password", "user", "query", "fragment"]))
    if kind == "password":
        return f"{scheme}://{draw(users)}:{draw(fillers)}{SECRET}{draw(st.sampled_from(['', '/x', '?y', '#z']))}@{host}{path}"
    if kind == "user":
        return f"{scheme}://{SECRET}@{host}{path}"
    mark = "?" if kind == "query" else "#"
    other = draw(st.sampled_from(["", "n=1&"]))
    return f"{scheme}://{host}{path}{mark}{other}{draw(names)}={SECRET}{draw(st.sampled_from(['', '&m=2']))}"


@given(urls(), st.sampled_from(["{}", "see {} there", '{{"large": "{}"}}', "({})", "{}\n{}"]))
def test_no_form_of_a_url_keeps_its_secret(url, around):
    text = around.format(url, url)
    clean = without_url_secrets(text)
    assert SECRET not in clean
    assert without_url_secrets(clean) == clean
    assert SECRET not in fact("large", {"at": [text]})
    assert has_secret("large", text)


@given(
    st.text(max_size=40)
    | st.sampled_from(["https://a.b/c@2?n=1#top", "mailto:a@b.c", "C://x", "a:b@c", "http://h:80/p@q"])
)
def test_a_text_without_a_secret_stays(text):
    if "://" not in text or "@" not in text.split("://", 1)[1].split("/")[0]:
        hidden = any(
            word in text.lower() for word in ("key", "token", "pass", "pwd", "sig", "code", "auth", "secret", "session")
        )
        assert hidden or "@" in text or without_url_secrets(text) == text
    assert without_url_secrets("https://a.b/c@2?n=1#top") == "https://a.b/c@2?n=1#top"


@pytest.mark.parametrize(
    "form", ["https://me:{}@llm.example/v1", "https://{}@llm.example/v1", "https://llm.example/v1?api_key={}"]
)
def test_another_password_is_the_same_model(form):
    """A key is renewed: neither a hash nor a certificate may depend on it."""
    one, other = (ChatOpenAI(base_url=form.format(secret), api_key="x", model="m") for secret in (SECRET, "other"))
    assert identify(one) == identify(other)
    assert ChatClassifier(one, ["a", "b"]).version == ChatClassifier(other, ["a", "b"]).version
    elsewhere = ChatOpenAI(base_url="https://other.example/v1", api_key="x", model="m")
    assert ChatClassifier(one, ["a", "b"]).version != ChatClassifier(elsewhere, ["a", "b"]).version


@pytest.mark.parametrize("form", ["postgresql://me:{}@db.example/x", "postgresql://db.example/x?user=me&password={}"])
def test_a_store_does_not_show_its_password(form):
    pytest.importorskip("psycopg")
    store = TraceStore(form.format(SECRET))
    assert SECRET not in repr(store)
    assert "db.example" in repr(store)


def test_the_command_shows_no_password(tmp_path):
    (tmp_path / "model.json").write_text(json.dumps({"kind": "SklearnClassifier"}))
    url = f"https://me:{SECRET}@llm.example/v1"
    shown = "\n".join(_code(tmp_path, "m", url, "KEY", None, None, "text"))
    assert SECRET not in shown
    assert "https://llm.example/v1" in shown
