"""How the house is built, read off the source: sizes, imports, private names, twins. Nothing is run or timed.

`router_closure` counts the lines of all modules of ours that `from langchain_dsplus import ConfidenceRouter` loads: the
imports at the top of each, followed on; a name that a folder hands on is one of the module that its `__init__.pyi`
says. A cycle is a set of modules that import each other, imports in functions, in stubs and under TYPE_CHECKING
counted. A private import takes a name with a leading underscore from another module, reaches for one as its attribute,
or imports a module with an underscore from outside the folder that it lies in; `_imports` and its like lie at the top,
and are for all. Suppressions are
`noqa` and `type: ignore`. Twins are a function and its async form (`x` and `ax`, `_x` and `_ax`) whose bodies, without
`await` and `async`, share more than 12 lines.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.harness import ROOT, Context, Figures, Table, number

PACKAGE = ROOT.parent / "langchain_dsplus"
NAME = "langchain_dsplus"
FRONT = "ConfidenceRouter"
TWIN_LINES = 12
LONG_FUNCTION = 60
NOT_RECHECKED = "the figures are those of the source of that day, and every commit changes some"
_SUPPRESSED = re.compile(r"#\s*(?:noqa\b|type:\s*ignore\b|ruff:\s*noqa\b)")
_ASYNC = re.compile(r"\b(?:await|async)\s+|\ba(?=[a-z_]+\()|(?<=[._])a(?=[a-z])|\bA(?=sync)|Async|async_")


@dataclass(frozen=True)
class Module:
    """A file of the package, parsed."""

    name: str
    path: Path

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def stub(self) -> ast.Module:
        """The `.pyi` beside it: of a folder, the names that it hands on."""
        path = self.path.with_suffix(".pyi")
        return ast.parse(path.read_text(encoding="utf-8") if path.exists() else "")

    @cached_property
    def hands_on(self) -> dict[str, str]:
        """Where each public name of a folder is defined."""
        return {
            alias.name: node.module or ""
            for node in self.stub.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }

    @property
    def lines(self) -> int:
        return self.text.count("\n") + len(self.stub.body)


def read(package: Path = PACKAGE, name: str = NAME) -> dict[str, Module]:
    """Every module by its dotted name; a folder's `__init__` by the folder's."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        dotted = ".".join((name, *(parts[:-1] if parts[-1] == "__init__" else parts)))
        found[dotted] = Module(dotted, path)
    return found


def _typing_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def _imports(node: ast.AST, *, everywhere: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements: those that run when the module is loaded, or all."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        elif everywhere or not (isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) or _typing_only(child)):
            yield from _imports(child, everywhere=everywhere)


def _from(node: ast.ImportFrom, module: Module) -> str:
    """Where `from ... import` takes names from, a relative one resolved."""
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    inside = parts if module.path.name == "__init__.py" else parts[:-1]
    return ".".join([*inside[: len(inside) - node.level + 1], *([node.module] if node.module else [])])


def imported(module: Module, modules: dict[str, Module], *, everywhere: bool) -> set[str]:
    """Modules of the package that one imports."""
    found = set(module.hands_on.values()) if everywhere else set()
    for node in _imports(module.tree, everywhere=everywhere):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            continue
        home = _from(node, module)
        given = modules[home].hands_on if home in modules else {}
        found.add(home)
        found |= {given.get(alias.name, f"{home}.{alias.name}") for alias in node.names}
    return (found & modules.keys()) - {module.name}


def closure(start: str, modules: dict[str, Module]) -> set[str]:
    """Modules that are loaded with one: what it imports at its top, followed on, and the folders on the way."""
    loaded: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in loaded or name not in modules:
            continue
        loaded.add(name)
        waiting += imported(modules[name], modules, everywhere=False)
        waiting.append(name.rpartition(".")[0])
    return loaded


def cycles(modules: dict[str, Module]) -> list[set[str]]:
    """Sets of modules that import each other (Tarjan 1972), lazy and typing imports counted; the front is left out."""
    graph = {
        name: imported(module, modules, everywhere=True) - {NAME} for name, module in modules.items() if name != NAME
    }
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            part = set()
            while not part or name not in part:
                part.add(stack.pop())
            if len(part) > 1:
                found.append(part)

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _is_hidden(name: str, module: Module) -> bool:
    """Whether a module is a private one of a folder that another module does not lie in."""
    parts = name.split(".")
    folders = (".".join(parts[:place]) for place, part in enumerate(parts) if _is_private(part))
    return any(not f"{module.name}.".startswith(f"{folder}.") for folder in folders)


def private_imports(module: Module, modules: dict[str, Module]) -> list[str]:
    """Names with a leading underscore that a module takes from another, and private modules of a folder not its own."""
    found: list[str] = []
    aliases: dict[str, str] = {}
    for node in _imports(module.tree, everywhere=True):
        if isinstance(node, ast.Import):
            aliases |= {alias.asname or alias.name: alias.name for alias in node.names if alias.name in modules}
            continue
        home = _from(node, module)
        for alias in node.names:
            whole = f"{home}.{alias.name}"
            if whole in modules:
                aliases[alias.asname or alias.name] = whole
            elif home in modules and _is_private(alias.name):
                found.append(whole)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and _is_private(node.attr):
            taken = aliases.get(ast.unparse(node.value))
            if taken is not None and f"{taken}.{node.attr}" not in modules:
                found.append(f"{taken}.{node.attr}")
    found += [name for name in imported(module, modules, everywhere=True) if _is_hidden(name, module)]
    return sorted(set(found))


def functions(module: Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function with the class that it stands in."""

    def walk(node: ast.AST, inside: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{inside}{child.name}", child
                yield from walk(child, f"{inside}{child.name}.")
            else:
                yield from walk(child, f"{inside}{child.name}." if isinstance(child, ast.ClassDef) else inside)

    yield from walk(module.tree, "")


def _body(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """The lines of a body without its docstring, as the sync form would write them."""
    rest = node.body[1:] if ast.get_docstring(node) is not None else node.body
    text = "\n".join(ast.unparse(statement) for statement in rest)
    return [_ASYNC.sub("", line).strip() for line in text.splitlines() if line.strip()]


def twins(module: Module) -> list[tuple[str, int]]:
    """Pairs of a function and its async form that share more than `TWIN_LINES` lines, and how many."""
    named = dict(functions(module))
    found = []
    for name, node in named.items():
        head, _, last = name.rpartition(".")
        bare = last.lstrip("_")
        other = f"{head}.{last[: len(last) - len(bare)]}a{bare}".lstrip(".")
        if not isinstance(named.get(other), ast.AsyncFunctionDef):
            continue
        mine, theirs = _body(node), _body(named[other])
        left = list(theirs)
        same = 0
        for line in mine:
            if line in left:
                left.remove(line)
                same += 1
        if same > TWIN_LINES:
            found.append((name, same))
    return found


def measure(modules: dict[str, Module]) -> tuple[Figures, dict[str, list[str]]]:
    """The figures, and what stands behind those that should be few."""
    lines = sum(module.lines for module in modules.values())
    suppressed = sum(len(_SUPPRESSED.findall(module.text)) for module in modules.values())
    loaded = closure(modules[NAME].hands_on[FRONT], modules)
    classes = [
        ((node.end_lineno or 0) - node.lineno + 1, f"{name}.{node.name}")
        for name, module in modules.items()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    ]
    long = [
        (f"{name}.{inside}", (node.end_lineno or 0) - node.body[0].lineno + 1)
        for name, module in modules.items()
        for inside, node in functions(module)
        if (node.end_lineno or 0) - (node.body[1:] or node.body)[0].lineno + 1 > LONG_FUNCTION
    ]
    private = [f"{name} <- {taken}" for name, module in modules.items() for taken in private_imports(module, modules)]
    round_ = cycles(modules)
    pairs = [f"{name}.{inside} ({same})" for name, module in modules.items() for inside, same in twins(module)]
    largest_class, largest_module = max(classes), max((module.lines, name) for name, module in modules.items())
    figures: Figures = {
        "lines": lines,
        "modules": len(modules),
        "router_closure.lines": sum(modules[name].lines for name in loaded),
        "router_closure.modules": len(loaded),
        "largest_class": largest_class[0],
        "largest_module": largest_module[0],
        "private_imports": len(private),
        "cycles": len(round_),
        "suppressions": suppressed,
        "suppressions_per_1000": 1000.0 * suppressed / lines,
        "names_at_the_top": len(modules[NAME].hands_on.keys() - {"__version__"}),
        "long_functions": len(long),
        "twins": len(pairs),
    }
    behind = {
        "the largest class": [largest_class[1]],
        "the largest module": [largest_module[1]],
        "private imports": private,
        "cycles": [" <-> ".join(sorted(part)) for part in round_],
        "functions over 60 lines": [f"{name} ({n})" for name, n in sorted(long, key=lambda item: -item[1])],
        "twins": pairs,
    }
    return figures, behind


def run(context: Context) -> Figures:
    figures, behind = measure(read())
    context.facts["behind"] = behind
    for title, found in behind.items():
        if found:
            context.say(f"{title}: {', '.join(found[:40])}")
    return figures


def tables(figures: Figures) -> list[Table]:
    rows = [
        ["lines, modules", f"{number(figures, 'lines', 0)}, {number(figures, 'modules', 0)}"],
        [
            "lines, modules that importing the router loads",
            f"{number(figures, 'router_closure.lines', 0)}, {number(figures, 'router_closure.modules', 0)}",
        ],
        ["lines of the largest class", number(figures, "largest_class", 0)],
        ["lines of the largest module", number(figures, "largest_module", 0)],
        ["private names taken from another module", number(figures, "private_imports", 0)],
        ["cycles", number(figures, "cycles", 0)],
        ["suppressions per 1,000 lines", number(figures, "suppressions_per_1000", 1)],
        ["names at the top", number(figures, "names_at_the_top", 0)],
        ["functions over 60 lines", number(figures, "long_functions", 0)],
        ["twins with more than 12 equal lines", number(figures, "twins", 0)],
    ]
    return [Table("structure", "The house", ["", ""], rows, "Read off the source; nothing is run.")]
