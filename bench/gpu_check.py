"""Everything that runs on a GPU, in one command: the tests of tests/gpu, then how fast it is beside the hardware.

    python bench/gpu_check.py --out gpu.json [--seconds 600] [--only NAME,NAME]

Needs torch, CuPy, Triton, NumPy, SciPy, Numba, scikit-learn and pytest; uses cuVS, faiss-gpu, pylibcugraph and KeOps if
they are installed. Runs from a checkout that is not installed. The tests alone are `python -m pytest -m gpu tests/gpu`.
Here each test and each timing stands alone: one that fails is reported and the next one runs, in a new process if it
crashed, hung, or left the GPU unusable; those that no longer fit into --seconds are reported as skipped. The report is
written after each. `--cpu-dry-run` runs the same code in tiny sizes on the CPU, to keep it working without a GPU.

Columns: what was computed, seconds (best of repetitions, device synchronized), the floor in seconds (its matrix FLOPs
at the product rate measured in the same run, or its bytes at the copy bandwidth), floor / seconds, and the error
against float64 if it is a check of correctness.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from bench.gpu.report import Report  # noqa: E402
from bench.gpu.supervisor import supervise  # noqa: E402

STEPS = ("tests", "timings")

LIMIT = 300.0
"""Seconds without news until a test or timing counts as one that will not end."""


class CheckoutFinder(MetaPathFinder):
    """Find `clorg_scale.kernels` in the checkout if the package is not installed; asked after all other finders."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Tell where the one module that this finder knows lies."""
        if fullname != "clorg_scale.kernels":
            return None
        folder = ROOT / "kernels"
        return importlib.util.spec_from_file_location(
            fullname, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )


def main(argv: list[str] | None = None) -> int:
    """Run all tests and timings; exit code 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the report as JSON to this file")
    parser.add_argument("--seconds", type=float, default=600, help="start nothing after this long (600)")
    parser.add_argument("--limit", type=float, default=LIMIT, help="end what reports nothing for this long (300)")
    parser.add_argument("--only", default="", help="run only what has one of these in its name, comma separated")
    parser.add_argument("--tests", type=Path, help="folder of the tests (tests/gpu)")
    parser.add_argument("--cpu-dry-run", action="store_true", help="tiny sizes on the CPU")
    parser.add_argument("--worker", nargs=2, metavar=("REPORT", "STEP"), help=argparse.SUPPRESS)
    argv = sys.argv[1:] if argv is None else argv
    options = parser.parse_args(argv)
    if options.worker:
        work(options, Report.read(Path(options.worker[0])), options.worker[1])
        return 0
    if not options.cpu_dry_run:
        import torch

        if not torch.cuda.is_available():
            print("gpu_check: torch sees no GPU; --cpu-dry-run runs the same code without one.", file=sys.stderr)
            return 2
    with tempfile.TemporaryDirectory() as folder:
        path = options.out or Path(folder) / "report.json"
        command = [sys.executable, str(Path(__file__).resolve()), *argv, "--worker", str(path)]
        failed = supervise(command, STEPS, path, options.limit).failed
    print("failed: " + "; ".join(failed) if failed else "all passed")
    return 1 if failed else 0


def work(options: argparse.Namespace, report: Report, step: str) -> None:
    """Do what is not done of a step, in this process."""
    report.describe_machine(dry=options.cpu_dry_run)
    sys.meta_path.append(CheckoutFinder())
    only, common = options.only.split(","), {"seconds": options.seconds, "dry": options.cpu_dry_run}
    if step == "tests":
        from bench.gpu import tests

        tests.run_tests(report, folder=options.tests or tests.FOLDER, only=only, **common)
    else:
        from bench.gpu import timings

        timings.run_timings(report, only=only, **common)


if __name__ == "__main__":
    sys.exit(main())
