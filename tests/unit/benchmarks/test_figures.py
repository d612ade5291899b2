"""The READMEs show what the results files say."""

from __future__ import annotations

import types
from pathlib import Path

import pytest

from benchmarks import figures, harness
from benchmarks.harness import Table


def find(name: str) -> list[Table] | None:
    tables = [
        Table("fake.one", "One", ["", "x"], [["a", "1"]]),
        Table("fake.two", "Two", ["", "x"], [["b", "2"]], "Note."),
    ]
    return {"fake": tables, "later": None}[name]


def page(name: str, body: str = "old\n") -> str:
    return f"before\n<!-- figures:{name} -->\n{body}<!-- /figures:{name} -->\nafter\n"


def test_a_block_is_written_between_its_markers_only() -> None:
    text = figures.render(page("fake.two"), find)
    assert text == page("fake.two", "\n|  | x |\n|---|---:|\n| b | 2 |\n\nNote.\n\n")
    assert figures.render(text, find) == text


def test_all_tables_of_a_benchmark_have_titles() -> None:
    text = figures.render(page("fake"), find)
    assert text.index("**One**") < text.index("| a | 1 |") < text.index("**Two**") < text.index("| b | 2 |")


def test_of_two_sizes_each_table_says_whose_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = [{"command": f"run x{size} --seed 0", "figures": {"n": n}} for n, size in enumerate(["", " --full"])]
    tables = types.SimpleNamespace(tables=lambda figures: [Table("x", "Title", ["n"], [[str(figures["n"])]])])
    monkeypatch.setattr(harness, "load", lambda _name: tables)
    monkeypatch.setattr(harness, "runs", lambda _name: bodies)
    found = figures.tables_of("x") or []
    assert [(table.title, table.rows) for table in found] == [
        ("Title: `run x`", [["0"]]),
        ("Title: `run x --full`", [["1"]]),
    ]
    bodies.pop()
    assert [table.title for table in figures.tables_of("x") or []] == ["Title"]


def test_what_was_not_run_says_so() -> None:
    assert "Not run yet: `python -m benchmarks later`" in figures.render(page("later"), find)


@pytest.mark.parametrize("name", ["fake.three", "nothing"])
def test_a_marker_that_names_nothing_is_an_error(name: str) -> None:
    with pytest.raises(KeyError):
        figures.render(page(name), find)


def test_a_table_with_regex_characters_is_kept_as_it_is() -> None:
    table = Table("fake.one", "One", ["", "x"], [[r"\1 \g<0>", "1"]])
    assert r"\1 \g<0>" in figures.render(page("fake.one"), lambda _name: [table])


def test_check_compares_and_writing_makes_it_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(page("import_time"))
    monkeypatch.setattr(figures, "PAGES", (readme,))
    monkeypatch.setattr(harness, "ROOT", tmp_path / "benchmarks")
    monkeypatch.setattr(harness, "load", lambda _name: None)
    monkeypatch.setattr(harness, "runs", lambda _name: [])
    assert figures.main(["--check"]) == 1
    assert "README.md: out of date: run `make figures`" in capsys.readouterr().out
    assert readme.read_text() == page("import_time")
    assert figures.main([]) == 0
    assert figures.main(["--check"]) == 0


@pytest.mark.parametrize("path", figures.PAGES, ids=lambda path: str(path.relative_to(harness.ROOT.parent)))
def test_the_pages_are_up_to_date(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert figures.render(text) == text, "run `make figures`"
    assert text.count("<!-- figures:") == text.count("<!-- /figures:") == len(figures._BLOCK.findall(text))


def test_every_benchmark_is_shown() -> None:
    text = (harness.ROOT / "README.md").read_text(encoding="utf-8")
    shown = {match["name"].partition(".")[0] for match in figures._BLOCK.finditer(text)}
    assert shown == set(harness.registry())


@pytest.mark.parametrize("path", sorted(harness.RESULTS.glob("*.json")), ids=lambda path: path.name)
def test_results_are_well_formed(path: Path) -> None:
    import json

    body = json.loads(path.read_text(encoding="utf-8"))
    assert body["figures"]
    assert all(type(value) in {int, float} for value in body["figures"].values())
    assert body["command"].startswith("python -m benchmarks ")
    assert {"seeds", "hashes", "versions", "seconds"} <= body.keys()
    for key, value in body["figures"].items():
        if key.endswith(".low"):
            middle = key.removesuffix(".low")
            assert value <= body["figures"][middle] <= body["figures"][f"{middle}.high"]
