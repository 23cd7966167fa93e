"""The plan of the package: no circles of imports, kernels by themselves, short files, engines behind one script."""

import ast
import re
from itertools import pairwise

import pytest
from modules import FOLDERS, ROOT, circle, imported_modules, imported_names, modules

FILES = modules()
IMPORTS = {name: imported_modules(name, FILES) for name in FILES}

MAX_LINES = 400
SOURCES = {".py", ".cu", ".cuh", ".h", ".js", ".css", ".html", ".sh"}
NOT_OURS = {ROOT / folder for folder in ("tests/report/axe-core", "clorg_scale/report/observable-plot")}
NOT_OURS |= {ROOT / "clorg_scale/report/deck.gl"}


def test_no_circle_of_imports():
    """Imports within functions count too: one that is put there to break a circle leaves the circle."""
    assert circle(IMPORTS) == []


def test_no_circle_of_imports_with_those_of_annotations():
    """A graph has its conversions as methods, and they take a graph: the only pair of files that name each other."""
    imports = {name: imported_modules(name, FILES, annotations=file.stem != "__init__") for name, file in FILES.items()}
    imports["clorg_scale.affinity.conversions"].remove("clorg_scale.affinity.graph")
    assert circle(imports) == []


def test_circles_are_found():
    assert len(IMPORTS) > 250
    assert sum(map(len, IMPORTS.values())) > 1_000
    assert "clorg_scale.rld.exact.passes" in IMPORTS["clorg_scale.rld.exact.cpu"]
    back = IMPORTS | {"clorg_scale.errors": {"clorg_scale.rld.compute"}}
    found = circle(back)
    assert found[0] == found[-1]
    assert len(found) > 2
    assert all(after in back[before] for before, after in pairwise(found))


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import a.b as c, d", {"a.b", "d"}),
        ("def f():\n    from a import b", {"a.b"}),
        ("try:\n    import a\nexcept ImportError:\n    import b", {"a", "b"}),
        ("if TYPE_CHECKING:\n    import a\nelse:\n    import b", {"b"}),
        ("from . import a", {"x.y.a"}),
        ("from ..a import b", {"x.a.b"}),
    ],
)
def test_imports_are_seen_wherever_they_stand(source, names):
    assert set(imported_names(source, "x.y.z")) == names
    assert set(imported_names(source, "x.y", is_package=True)) == names


def test_kernels_import_nothing_of_the_package():
    kernels = [name for name in FILES if name.startswith("clorg_scale.kernels")]
    assert len(kernels) > 5
    for name in kernels:
        assert {other for other in IMPORTS[name] if not other.startswith("clorg_scale.kernels")} == set(), name
        full = imported_names(FILES[name].read_text(), name)
        assert all(f.startswith("clorg_scale.kernels.") for f in full if f.split(".")[0] == "clorg_scale"), name


def test_the_package_imports_no_benchmark():
    """But for the command that runs them."""
    assert {
        name
        for name, imported in IMPORTS.items()
        if not name.startswith("clorg_scale.bench") and any(other.startswith("clorg_scale.bench") for other in imported)
    } <= {"clorg_scale.cli.bench"}


def test_no_file_is_longer_than_the_limit():
    files = [
        file
        for folder in (*FOLDERS, "tests", "docker")
        for file in (ROOT / folder).rglob("*")
        if file.suffix in SOURCES and NOT_OURS.isdisjoint(file.parents)
    ]
    assert len(files) > 500
    lines = {str(file.relative_to(ROOT)): len(file.read_bytes().splitlines()) for file in files}
    assert {name: n for name, n in lines.items() if n > MAX_LINES} == {}


def test_the_formatter_formats_every_line():
    """None is exempt: where its layout is ugly, a name for a value or a small table helps."""
    exempt = [
        f"{file.relative_to(ROOT)}:{number}"
        for folder in (*FOLDERS, "tests")
        for file in (ROOT / folder).rglob("*.py")
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"# (fmt|yapf): *(skip|off|disable)", line)
    ]
    assert exempt == []


def functions_that_call(names, *, below):
    """Functions and methods in modules below a name that call methods or functions of all of these names."""
    for name, file in FILES.items():
        if name.startswith(below):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef):
                    calls = [call.func for call in ast.walk(node) if isinstance(call, ast.Call)]
                    if names <= {getattr(call, "attr", getattr(call, "id", None)) for call in calls}:
                        yield f"{name}.{node.name}"


def test_the_script_of_rld_stands_once():
    """Engines have the steps; that pass 2 follows pass 1 is said in one place for all engines, exact and sampled."""
    both = set(functions_that_call({"kernel_pass", "affinity_pass"}, below="clorg_scale.rld."))
    assert both == {"clorg_scale.rld.exact.passes.exact_sums", "clorg_scale.rld.sampled.estimate._passes"}
    assert set(functions_that_call({"exact_sums"}, below="clorg_scale.rld.exact.")) == {
        f"clorg_scale.rld.exact.{engine}.exact_sums" for engine in ("cpu", "gpu", "gpu_cluster")
    }
    with_passes = {name for name, imported in IMPORTS.items() if "clorg_scale.rld.exact.passes" in imported}
    assert {f"clorg_scale.rld.exact.{engine}" for engine in ("cpu", "gpu", "gpu_cluster")} <= with_passes
