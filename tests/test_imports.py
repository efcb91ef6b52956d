"""The import graph and the size of modules and folders."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.paths import ROOT

PACKAGES = ("mfer_edge", "export", "train")
MEASURED = (*PACKAGES, "benchmarks")  # whose modules and folders have a limited size
MAX_LINES = 400  # of a module
MAX_MODULES = 16  # side by side in a folder, `__init__` and `__main__` not counted

FORBIDDEN = {
    "mfer_edge": ("torch", "export", "train", "benchmarks", "tests"),
    "train": ("export", "benchmarks", "tests"),
    "export": ("benchmarks", "tests"),
}
"""Packages that must not be imported at module level."""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def module_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run on import: not functions, and not `if TYPE_CHECKING`."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from module_level(node.orelse)
            continue
        yield node
        for field in ("body", "orelse", "finalbody"):
            yield from module_level(getattr(node, field, []))
        for handler in getattr(node, "handlers", []):
            yield from module_level(handler.body)


def imports(path: Path) -> set[str]:
    """Names that a module imports at module level, members of modules included."""
    names: set[str] = set()
    for node in module_level(ast.parse(path.read_text(encoding="utf-8")).body):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@cache
def import_graph() -> dict[str, frozenset[str]]:
    """Modules of the packages, each with those that it imports at module level."""
    paths = {
        module_name(path): path for package in PACKAGES for path in (ROOT / package).rglob("*.py")
    }
    return {name: frozenset(imports(path) & paths.keys() - {name}) for name, path in paths.items()}


def cycle(graph: dict[str, frozenset[str]]) -> list[str]:
    """Modules of an import circle, the first one repeated at the end; empty if there is none."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name not in done:
            for imported in sorted(graph[name]):
                if found := visit(imported, [*path, name]):
                    return found
            done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := visit(name, []))), [])


@pytest.mark.parametrize("package", PACKAGES)
def test_no_import_circles(package: str) -> None:
    graph = {
        name: frozenset(other for other in imported if other.split(".")[0] == package)
        for name, imported in import_graph().items()
        if name.split(".")[0] == package
    }
    assert " -> ".join(cycle(graph)) == ""


def test_no_import_circles_between_packages() -> None:
    packages = {
        package: frozenset(
            imported.split(".")[0]
            for name, names in import_graph().items()
            if name.split(".")[0] == package
            for imported in names
        )
        - {package}
        for package in PACKAGES
    }
    assert packages == {
        "mfer_edge": frozenset(),
        "train": frozenset({"mfer_edge"}),
        "export": frozenset({"mfer_edge", "train"}),
    }


def test_circles_are_found() -> None:
    graph = {name: frozenset(to) for name, to in {"a": "b", "b": "cd", "c": "", "d": "b"}.items()}
    assert cycle(graph) == ["b", "d", "b"]
    assert cycle({**graph, "d": frozenset("c")}) == []


@pytest.mark.parametrize("extra", ["export", "train"])
def test_an_extra_declares_what_its_package_imports(extra: str) -> None:
    """`mfer-edge[cpu,export]` alone must be able to export."""
    graph, reached, open_ = import_graph(), set[str](), [*modules_of(extra)]
    while open_:
        if (name := open_.pop()) not in reached:
            reached.add(name)
            open_ += graph[name]
    paths = [ROOT.joinpath(*name.split(".")) for name in reached]
    files = [path / "__init__.py" if path.is_dir() else path.with_suffix(".py") for path in paths]
    roots = {name.split(".")[0] for file in files for name in imports(file)}
    needed = roots - set(PACKAGES) - sys.stdlib_module_names
    distributions = importlib.metadata.packages_distributions()
    declared = declared_distributions("cpu", extra)
    assert {name for name in needed if declared.isdisjoint(distributions[name])} == set()
    assert needed


def modules_of(package: str) -> list[str]:
    return [name for name in import_graph() if name.split(".")[0] == package]


def declared_distributions(*extras: str) -> set[str]:
    """Distributions that the project asks for, with these extras."""
    found, open_ = set(), [*extras]
    seen: set[str] = set()
    while open_:
        seen.add(extra := open_.pop())
        for line in importlib.metadata.requires("mfer-edge") or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                found.add(requirement.name)
                open_ += [name for name in requirement.extras if name not in seen]
    return found


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import torch", {"torch"}),
        ("from a.b import c", {"a.b", "a.b.c"}),
        ("try:\n import x\nexcept ImportError:\n import y", {"x", "y"}),
        ("class A:\n import x", {"x"}),
        ("def f():\n import x", set()),
        ("if TYPE_CHECKING:\n import x\nelse:\n import y", {"y"}),
    ],
)
def test_imports_at_module_level(code: str, expected: set[str], tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(code)
    assert imports(tmp_path / "module.py") == expected


@pytest.mark.parametrize("package", FORBIDDEN)
def test_layers(package: str) -> None:
    wrong = {
        f"{module_name(path)} imports {name}"
        for path in (ROOT / package).rglob("*.py")
        for name in imports(path)
        if name.split(".")[0] in FORBIDDEN[package]
    }
    assert wrong == set()


def test_engine_protocol_imports_nothing_of_the_package() -> None:
    assert import_graph()["mfer_edge.engines.base"] == frozenset()


@pytest.mark.parametrize("package", MEASURED)
def test_modules_are_short(package: str) -> None:
    lines = {
        module_name(path): len(path.read_text(encoding="utf-8").splitlines())
        for path in (ROOT / package).rglob("*.py")
    }
    assert lines
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}


@pytest.mark.parametrize("package", MEASURED)
def test_folders_are_small(package: str) -> None:
    folders = [ROOT / package, *(p for p in (ROOT / package).rglob("*") if p.is_dir())]
    modules = {
        module_name(folder): len([p for p in folder.glob("*.py") if not p.stem.startswith("__")])
        for folder in folders
    }
    assert {name: count for name, count in modules.items() if count > MAX_MODULES} == {}
