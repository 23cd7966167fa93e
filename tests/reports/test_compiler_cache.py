"""Compiled code is kept where there is a place for it; where there is none, or it is spoiled, the answer is equal."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import clorg_scale

PACKAGE = Path(clorg_scale.__file__).parent

ANSWER = """
import numpy as np
from clorg_scale.numerics import compiled
print(compiled.row_lengths(np.ones((5, 4)), np.zeros(4)))
"""


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    """A copy of the package in which nobody, root neither, can make a __pycache__."""
    root = tmp_path_factory.mktemp("installed")
    shutil.copytree(PACKAGE, root / "clorg_scale", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [root / "clorg_scale", *(path for path in (root / "clorg_scale").rglob("*") if path.is_dir())]:
        (folder / "__pycache__").write_text("")
    return root


@pytest.fixture(scope="module")
def filled(sealed, tmp_path_factory):
    """A cache with what one process compiled."""
    folder = tmp_path_factory.mktemp("filled")
    ask(sealed, folder, NUMBA_CACHE_DIR=str(folder / "cache"))
    return folder


def ask(root, tmp_path, code=ANSWER, **environment):
    """Run code in the sealed package, without a home, with the given folder for temporary files."""
    known = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    known |= {"PYTHONPATH": str(root), "HOME": "/proc/no-home", "TMPDIR": str(tmp_path), "PYTHONSAFEPATH": "1"}
    limit = environment.pop("limit", None)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=known | environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        preexec_fn=None if limit is None else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def kept(tmp_path):
    return list(tmp_path.rglob("*.nbc"))


def test_a_temporary_cache_where_neither_the_package_nor_a_home_can_be_written(sealed, tmp_path):
    assert ask(sealed, tmp_path) == "[2. 2. 2. 2. 2.]\n"
    files = kept(tmp_path)
    assert files
    folder = next(tmp_path.glob("clorg-scale-compiled-*"))
    assert folder.stat().st_mode & 0o777 == 0o700
    # The next process takes it from there.
    written = [file.stat().st_mtime_ns for file in files]
    assert ask(sealed, tmp_path) == "[2. 2. 2. 2. 2.]\n"
    assert [file.stat().st_mtime_ns for file in kept(tmp_path)] == written


def test_a_folder_that_others_can_write_to_is_not_trusted(sealed, tmp_path):
    prepared = tmp_path / f"clorg-scale-compiled-{os.getuid()}"
    prepared.mkdir()
    prepared.chmod(0o777)
    assert ask(sealed, tmp_path) == "[2. 2. 2. 2. 2.]\n"
    assert list(tmp_path.iterdir()) == [prepared]  # its own one is gone with the process
    assert not any(prepared.iterdir())


def test_no_place_at_all(sealed, tmp_path):
    """No byte can be written to any file, so that there is no folder for temporary files either."""
    # Numba warns that it cannot make a semaphore there.
    assert ask(sealed, tmp_path, limit=0, PYTHONWARNINGS="ignore") == "[2. 2. 2. 2. 2.]\n"
    assert not any(file.stat().st_size for file in kept(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["emptied", "cut", "foreign"])
def test_a_damaged_cache_is_done_without(sealed, filled, tmp_path, damage):
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert len(kept(tmp_path)) == 1
    for file in [*kept(tmp_path), *tmp_path.rglob("*.nbi")]:
        contents = file.read_bytes()
        file.write_bytes({"emptied": b"", "cut": contents[: len(contents) // 2], "foreign": b"no pickle"}[damage])
    assert ask(sealed, tmp_path, **cache) == "[2. 2. 2. 2. 2.]\n"
    assert ask(sealed, tmp_path, **cache) == "[2. 2. 2. 2. 2.]\n"


def test_a_full_disk_under_the_cache(sealed, tmp_path):
    assert ask(sealed, tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache"), limit=4096) == "[2. 2. 2. 2. 2.]\n"
    assert not any(file.stat().st_size > 4096 for file in kept(tmp_path))


def test_njit_compiles_as_numbas_does():
    from clorg_scale.numerics.compiler import njit

    @njit
    def plain(x):
        return x + 1

    @njit(cache=True, fastmath=True)
    def fast(x):
        return x * 2

    assert (plain(1), fast(2.0)) == (2, 4.0)
    assert fast.targetoptions["fastmath"]
    assert np.isfinite(fast.py_func(1))


def test_code_inlined_from_a_changed_file_is_compiled_anew(tmp_path):
    """Numba looks at the file of the function alone."""
    (tmp_path / "inner.py").write_text(
        "from clorg_scale.numerics.compiler import callee\n\n\n@callee\ndef inner(x):\n    return x + 1\n"
    )
    (tmp_path / "outer.py").write_text(
        "from inner import inner\nfrom clorg_scale.numerics.compiler import njit\n\n\n"
        "@njit(cache=True)\ndef outer(x):\n    return inner(x)\n"
    )
    code = "from outer import outer\nprint(outer(1.0), sum(outer.stats.cache_hits.values()))\n"

    def answer():
        path = os.pathsep.join([str(tmp_path), str(PACKAGE.parent)])
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    assert answer() == "2.0 0\n"
    assert answer() == "2.0 1\n"
    changed = (tmp_path / "inner.py").read_text().replace("x + 1", "x + 10")
    (tmp_path / "inner.py").write_text(changed)
    assert answer() == "11.0 0\n"
