"""How the house is built: the zeros are kept, and the measure sees what breaks them."""

from __future__ import annotations

import pytest

from benchmarks.structure import NAME, cycles, measure, private_imports, read


def test_the_zeros() -> None:
    figures, behind = measure(read())
    assert not behind["private imports"], "make the name public in its home, or move what is shared"
    assert not behind["cycles"], "move what is shared down; a type alone is told by a protocol"
    assert figures["private_imports"] == figures["cycles"] == 0
    assert not behind["functions over 60 lines"], "split it where that makes reading easier"
    assert figures["twins"] == 0, "one plan, driven by `_drive.run` and `_drive.arun`"
    assert figures["suppressions_per_1000"] <= 4.5, "rules that do not suit the package belong into pyproject.toml"


@pytest.fixture
def package(tmp_path):
    """A made-up package out of the text of its modules."""

    def make(**texts):
        for name, text in {"__init__": "", **texts}.items():
            path = tmp_path.joinpath(*name.split("__in__")[::-1]).with_suffix(".py")
            path.parent.mkdir(exist_ok=True)
            (path.parent / "__init__.py").touch()
            path.write_text(text, encoding="utf-8")
        return read(tmp_path)

    return make


TOP = f"from {NAME}.b import "


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        (f"{TOP}_x", "b._x"),
        (f"{TOP}x, _x as y", "b._x"),
        ("from .b import _x", "b._x"),
        (f"def f():\n    {TOP}_x", "b._x"),
        (f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    {TOP}_x", "b._x"),
        (f"from {NAME} import b\nb._x()", "b._x"),
        ("from . import b as c\nc._x()", "b._x"),
        (f"import {NAME}.b as c\ndef f():\n    return c._x", "b._x"),
        (f"import {NAME}.b\n{NAME}.b._x", "b._x"),
        (f"from {NAME}.d._e import x", "d._e"),
        (f"from {NAME}.d import _e", "d._e"),
        (f"import {NAME}.d._e", "d._e"),
        ("from .d import _e", "d._e"),
    ],
)
def test_a_private_name_of_another_is_seen(package, text, taken) -> None:
    modules = package(a=text, b="x = _x = 1", _e__in__d="x = 1")
    assert private_imports(modules[f"{NAME}.a"], modules) == [f"{NAME}.{taken}"]


@pytest.mark.parametrize(
    "text",
    [
        f"{TOP}x",
        f"{TOP}__doc__",
        f"from {NAME}._ground import x",
        f"from {NAME} import _ground\n_ground.x",
        "from ._ground import x",
        "from os import _exit",
        "_x = 1\n_x",
        "class A:\n    def f(self):\n        return self._x",
    ],
)
def test_what_is_public_or_its_own_is_none(package, text) -> None:
    modules = package(a=text, b="x = _x = 1", _ground="x = 1")
    assert private_imports(modules[f"{NAME}.a"], modules) == []


@pytest.mark.parametrize("text", [f"from {NAME}.d._e import x", f"from {NAME}.d import _e", "from ._e import x"])
def test_a_folder_may_read_its_own_private_modules(package, text) -> None:
    modules = package(f__in__d=text, _e__in__d="x = 1")
    assert private_imports(modules[f"{NAME}.d.f"], modules) == []


@pytest.mark.parametrize("back", ["{}", "def f():\n    {}", "if TYPE_CHECKING:\n    {}"])
@pytest.mark.parametrize(
    "how", [f"from {NAME}.a import x", f"import {NAME}.a", f"from {NAME} import a", "from . import a"]
)
def test_a_cycle_is_seen_however_it_is_closed(package, back, how) -> None:
    modules = package(a=f"from {NAME}.b import x", b=f"from {NAME}.c import x", c=back.format(how), d=how)
    assert cycles(modules) == [{f"{NAME}.{name}" for name in "abc"}]


def test_no_cycle_where_all_point_down(package) -> None:
    assert cycles(package(a=f"from {NAME}.b import x\nfrom {NAME}.c import x", b=f"from {NAME}.c import x", c="")) == []
