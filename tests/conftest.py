"""What all tests share: a worker's share of the cores, short trainings, a list of tests that did not run."""

import os
import sys
from collections import defaultdict

import pytest
from hypothesis import HealthCheck, settings

# Tests start some sixty processes. Without bytecode on disk each compiles the modules that it imports: seconds of torch
# and scikit-learn, every time.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Of workers side by side each has its share of the cores: more threads of BLAS and OpenMP (torch, FAISS) wait for each
# other, a seventh of all CPU time. Threads of the package's own loops are as many as ever.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    share = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    for library in ("OMP", "OPENBLAS"):
        os.environ.setdefault(f"{library}_NUM_THREADS", str(share))

# No test fails because the machine is busy.
settings.register_profile("no limits of time", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no limits of time")


@pytest.fixture
def one_torch_thread():
    """Threads of torch that wait for each other cost more than they bring on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def few_epochs(monkeypatch):
    """Graph networks train ten epochs, in tests that do not look at what they learn."""
    from clorg_scale.probes import GCNProbe

    monkeypatch.setitem(GCNProbe.__init__.__kwdefaults__, "max_epochs", 10)


def pytest_terminal_summary(terminalreporter):
    """Say at the end of every run which tests did not run, and why."""
    skipped = terminalreporter.stats.get("skipped", [])
    deselected = terminalreporter.stats.get("deselected", [])
    if not skipped and not deselected:
        return
    by_reason = defaultdict(list)
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        by_reason[reason.removeprefix("Skipped: ")].append(report.nodeid)
    if skipped:
        terminalreporter.section(f"{len(skipped)} tests or files DID NOT RUN", sep="=", yellow=True)
    for reason, names in sorted(by_reason.items()):
        terminalreporter.write_line(f"{len(names)} because: {reason}")
        for name in sorted(names):
            terminalreporter.write_line(f"    {name}")
    if deselected:
        terminalreporter.write_line(f"{len(deselected)} more were left out by -m, -k or --deselect")
