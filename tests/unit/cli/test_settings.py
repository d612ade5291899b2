"""`dsplus.toml`: it sets what the command line leaves open, and what is wrong in it is named."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from langchain_dsplus.cli import app
from langchain_dsplus.cli.settings import read_settings

WHOLE = """
[large]
base_url = "http://127.0.0.1:1"
api_key_env = "KEY"
prompt = "prompt.txt"
price_input = 2
price_output = 8.5
currency = "EUR"
max_cost = 3.5
concurrency = 3
[columns]
text = "message"
gold = "intent"
id = "key"
group = "thread"
large = "said"
slice = ["language"]
[gold]
map = { "1=0" = "a" }
unknown = ["n/a"]
other = ["z"]
[gate]
share = 0.25
max_loss = "1 point"
level = 0.9
max_calibration_error = 0.05
"""


def commands():
    return typer.main.get_command(app).commands


def given(verb, monkeypatch, *words):
    """The arguments with which a verb would run."""
    found = {}
    command = commands()[verb]
    monkeypatch.setattr(command, "callback", lambda **arguments: found.update(arguments))
    command.main(list(words), prog_name=verb, standalone_mode=False)
    return found


COLLECT = ("rows.csv", "--small", "s", "--large", "big", "-o", "o.jsonl")
DISTIL = ("registry", "--gold", "gold.csv")


@pytest.mark.parametrize(("verb", "words"), [("collect", COLLECT), ("distil", DISTIL)])
def test_the_file_sets_what_the_command_line_leaves_open(verb, words, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = given(verb, monkeypatch, *words)
    (tmp_path / "dsplus.toml").write_text(WHOLE, encoding="utf-8")
    told = read_settings(tmp_path / "dsplus.toml").options(verb)
    after = given(verb, monkeypatch, *words)
    assert {name for name in after if after[name] != before[name]} == set(told)
    assert json.loads(after["gold_map"][0]) == {"1=0": "a"}
    assert (after["base_url"], after["concurrency"], after["price_input"]) == ("http://127.0.0.1:1", 3, 2.0)
    assert after["prompt"].resolve() == tmp_path / "prompt.txt"


@pytest.mark.parametrize(("verb", "words"), [("collect", COLLECT), ("distil", DISTIL)])
def test_an_option_wins_over_the_file(verb, words, tmp_path, monkeypatch) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(WHOLE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    after = given(verb, monkeypatch, *words, "--concurrency", "5", "--text", "body", "--settings", str(file))
    assert (after["concurrency"], after["text"], after["currency"]) == (5, "body", "EUR")


@pytest.mark.parametrize("verb", ["collect", "distil"])
def test_every_setting_is_an_option_of_its_verb(verb, tmp_path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(WHOLE, encoding="utf-8")
    assert set(read_settings(file).options(verb)) <= {option.name for option in commands()[verb].params}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[large]\nconcurrency = 'many'", "large.concurrency: Input should be a valid integer"),
        ("[large]\nconcurrency = 0", "large.concurrency: Input should be greater"),
        ("[large]\napi_key = 'sk-secret'", "large.api_key: Extra inputs are not permitted"),
        ("[larg]\n", "larg: Extra inputs are not permitted"),
        ("[columns]\nslice = 'language'", "columns.slice: Input should be a valid list"),
        ("[gold]\nmap = ['a']", "gold.map: Input should be a valid dict"),
        ("[large", "is no TOML"),
    ],
)
def test_what_is_wrong_is_named_without_the_value(text, says, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dsplus.toml").write_text(text, encoding="utf-8")
    result = CliRunner().invoke(app, ["collect", *COLLECT])
    assert result.exit_code == 1
    assert f"Error: dsplus.toml{' ' if 'TOML' in says else ': '}{says}" in result.output
    assert "secret" not in result.output


def test_a_file_that_is_named_must_be_there(tmp_path) -> None:
    result = CliRunner().invoke(app, ["collect", *COLLECT, "--settings", str(tmp_path / "gone.toml")])
    assert result.exit_code == 1
    assert "gone.toml: No such file" in result.output
