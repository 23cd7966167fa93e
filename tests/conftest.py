"""What every run of the tests ends with: a list of the tests that did not run, and why."""

from collections import defaultdict


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
