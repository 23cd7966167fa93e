"""A disk that is soon full."""

import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def small_disk(tmp_path: Path) -> tuple[str, ...]:
    """Prefix of a command that runs it with a file system of 64 KiB mounted on tmp_path / "disk"."""
    disk = tmp_path / "disk"
    disk.mkdir()
    prefix = ("unshare", "--map-root-user", "--mount", "sh", "-c")
    script = f'mount -t tmpfs -o size=64k none "{disk}" && exec "$@"'
    try:
        probe = subprocess.run([*prefix, script, "sh", "true"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if probe.returncode:
        pytest.skip(f"no file system can be mounted: {probe.stderr.decode().strip()}")
    return (*prefix, script, "sh")
