"""Who may import whom: read off the source, lazy imports included."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import langchain_dsplus

PACKAGE = Path(langchain_dsplus.__file__).parent
ROOT = "langchain_dsplus"

# From left to right: a part may import those before it and itself. Parts on one line must not import each other.
LAYERS: list[set[str]] = [
    {"_arrays", "_files", "_imports", "_json", "_inputs", "_secrets", "_version", "losses", "tags"},
    {"_journal", "_progress", "_shared", "_shown"},
    {"answer"},
    {"_drive"},
    {"_planned"},
    {"labels"},
    {"confidence"},
    {"questions"},
    {"calibration"},
    {"weights"},
    {"costs"},
    {"small_models"},
    {"local"},
    {"identity"},
    {"outcomes"},
    {"threshold"},
    {"scores"},
    {"fidelity"},
    {"prompts"},
    {"state", "conversation"},
    {"routing"},
    {"traces"},
    {"monitoring"},
    {"transfer"},
    {"decisions"},
    {"learning"},
    {"registry"},
    {"dataset"},
    {"graphs", "middleware", "chat_dsplus"},
    {"evaluation"},
    {"report"},
    {"shunt"},
    {"serve"},
    {"estimate"},
    {"demo"},
    {"cli"},
]
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
HEAVY = {
    "fastapi",
    "genai_prices",
    "huggingface_hub",
    "langchain_openai",
    "langgraph",
    "matplotlib",
    "openai",
    "pandas",
    "alembic",
    "prometheus_client",
    "psycopg",
    "ray",
    "pyarrow",
    "safetensors",
    "scipy",
    "sentence_transformers",
    "sklearn",
    "skops",
    "sqlalchemy",
    "starlette",
    "torch",
    "transformers",
    "uvicorn",
    "xllamacpp",
}


@functools.cache
def sources() -> dict[str, Path]:
    """Dotted module name inside the package -> file."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in sorted(PACKAGE.rglob("*.py"))
        if path != PACKAGE / "__init__.py"
    }


def part_of(module: str) -> str:
    return module.partition(".")[0]


def is_typing_only(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def statements(tree: ast.AST, *, lazy: bool) -> list[ast.Import | ast.ImportFrom]:
    """The imports that run; with `lazy` also those inside functions."""
    found: list[ast.Import | ast.ImportFrom] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found.append(node)
        elif isinstance(node, ast.stmt) and is_typing_only(node):
            found += [i for other in node.orelse for i in statements(other, lazy=lazy)]
        elif lazy or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            found += statements(node, lazy=lazy)
    return found


def imported(tree: ast.AST, *, lazy: bool) -> set[str]:
    """Full dotted names; `from a import b` counts as `a` and `a.b`."""
    names: set[str] = set()
    for node in statements(tree, lazy=lazy):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif node.level == 0 and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@functools.cache  # several tests ask about each of three hundred files
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def own_imports(path: Path, *, lazy: bool = True) -> set[str]:
    """Modules of this package that a file imports."""
    modules = sources()
    found = set()
    for name in imported(tree_of(path), lazy=lazy):
        inside = name.removeprefix(f"{ROOT}.")
        if inside != name:
            if inside in modules:
                found.add(inside)
            elif f"{inside}.__init__" in modules:
                found.add(f"{inside}.__init__")
    return found


MODULES = sorted(sources())


def test_every_part_has_a_place() -> None:
    unknown = {part_of(module) for module in MODULES} - RANK.keys()
    assert not unknown, f"give {sorted(unknown)} a place in LAYERS"


def test_imports_point_to_the_left() -> None:
    wrong = {
        f"{module} imports {other}, which stands to its right"
        for module in MODULES
        for other in own_imports(sources()[module])
        if part_of(other) != part_of(module) and RANK[part_of(other)] >= RANK[part_of(module)]
    }
    assert not wrong


def test_no_import_of_the_lazy_front() -> None:
    public = {f"{ROOT}.{name}" for name in langchain_dsplus.__all__ if name != "__version__"}
    through = {
        (module, name) for module in MODULES for name in public & imported(tree_of(sources()[module]), lazy=True)
    }
    assert not through, "import from the module that defines it"
    relative = {
        (module, node.lineno)
        for module in MODULES
        for node in statements(tree_of(sources()[module]), lazy=True)
        if isinstance(node, ast.ImportFrom) and node.level
    }
    assert not relative, "imports are absolute"


def test_the_map_for_newcomers_has_every_room_in_this_order() -> None:
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("| room | what belongs in it |\n|---|---|\n")[2].partition("\n\n")[0]
    rows = [re.findall(r"`([^`]+)`", cell) for line in table.splitlines() for cell in line.split("|")[1:3]]
    rooms = [room.removesuffix("/").removesuffix(".py") for cell in rows[::2] for room in cell]
    assert set(rooms) == RANK.keys() - {"_version"} | {"__init__"}
    ranks = [RANK.get(room, len(LAYERS)) for room in rooms]
    assert ranks == sorted(ranks)
    for homes, named in zip(rows[::2], rows[1::2], strict=True):
        there = {path.name for home in homes for path in PACKAGE.glob(f"{home}*")}
        assert {name for name in named if name.endswith(".py")} <= there, homes


def test_heavy_things_are_imported_late() -> None:
    eager = {
        (module, name)
        for module in MODULES
        for name in imported(tree_of(sources()[module]), lazy=False)
        if name.partition(".")[0] in HEAVY
    }
    assert not eager, "at the top of a module"


def test_nothing_that_runs_foreign_code() -> None:
    """No pickle, no eval, no remote code."""
    for path in [PACKAGE / "__init__.py", *sources().values()]:
        modules = {name.partition(".")[0] for name in imported(tree_of(path), lazy=True)}
        assert not modules & {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}, path
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call):
                name, where = ast.unparse(node.func), f"{path}, line {node.lineno}"
                assert name not in {"eval", "exec", "pickle.load", "joblib.load"}, where
                keywords = {k.arg: k.value for k in node.keywords if k.arg}
                if name.endswith("torch.load"):
                    assert ast.unparse(keywords.get("weights_only", ast.Constant(None))) == "True", where
                if "trust_remote_code" in keywords:
                    assert ast.unparse(keywords["trust_remote_code"]) == "False", where


def test_the_router_stands_alone() -> None:
    """Importing it loads few lines of ours: no ledger, no table of outcomes, no store, no prompt, no report."""
    code = (
        "import sys; from langchain_dsplus import ConfidenceRouter; "
        "print(*[f'{name}={m.__file__}' for name, m in sys.modules.items() if name.partition('.')[0] == 'langchain_dsplus'])"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    loaded = dict(item.split("=", 1) for item in printed)
    assert f"{ROOT}.routing.router" in loaded
    not_wanted = (
        "costs.ledger", "costs.prices", "traces", "outcomes.table", "outcomes.files", "outcomes.columns", "labels", "identity",
        "prompts.pruner", "prompts.parser", "prompts.conformal", "threshold", "small_models.sklearn", "monitoring", "report",
    )  # fmt: skip
    assert not {f"{ROOT}.{name}" for name in not_wanted} & set(loaded)
    lines = {name: Path(file).read_bytes().count(b"\n") for name, file in loaded.items()}
    assert sum(lines.values()) <= 6000, sorted(lines.items(), key=lambda item: -item[1])
