"""The modules of the package by name, and which of them import which."""

import ast
import graphlib
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

FOLDERS = {"clorg_scale": "clorg_scale", "kernels": "clorg_scale.kernels", "bench": "clorg_scale.bench"}
"""Package that a folder of the checkout holds."""


def modules() -> dict[str, Path]:
    """File of each module; a folder's own is its `__init__`."""
    return {
        ".".join([package, *file.relative_to(ROOT / folder).with_suffix("").parts]).removesuffix(".__init__"): file
        for folder, package in FOLDERS.items()
        for file in sorted((ROOT / folder).rglob("*.py"))
    }


def imported_names(source: str, module: str, *, is_package: bool = False, annotations: bool = False) -> Iterator[str]:
    """Full names that a source imports when it is loaded or called; with `annotations`, those for type checkers too.

    `from a import b` gives `a.b`, be that a module or a name in `a`.
    """
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if not annotations and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level + is_package or None] if node.level else []
            start = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{start}.{alias.name}" for alias in node.names)
        else:  # no expression holds an import
            waiting += (child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr))


def imported_modules(name: str, files: dict[str, Path], *, annotations: bool = False) -> set[str]:
    """Which of the modules a module imports; with `annotations`, those for type checkers too."""
    file = files[name]
    is_package = file.stem == "__init__"
    names = imported_names(file.read_text(encoding="utf-8"), name, is_package=is_package, annotations=annotations)
    found = (full if full in files else full.rpartition(".")[0] for full in names)
    return {module for module in found if module in files} - {name}


def circle(imports: dict[str, Iterable[str]]) -> list[str]:
    """Modules of which each imports the next and the last one the first; none where there is no circle."""
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return error.args[1][::-1]
    return []
