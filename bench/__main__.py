"""`python -m bench list | run NAME... | compare A B | report`: as `clorg-scale bench`, from a checkout.

A module of this folder with a `main` of its own, such as `rapids_example`, runs as `python -m bench NAME ...`.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path


def script(name: str) -> str | None:
    """Module of a benchmark that has options of its own, by its name; None where there is none."""
    path = Path(__file__).with_name(f"{name.replace('-', '_')}.py")
    if not name.islower() or not path.exists() or "\ndef main(argv" not in path.read_text(encoding="utf-8"):
        return None
    return f"bench.{path.stem}"


if __name__ == "__main__":
    from clorg_scale.cli import main

    if importlib.util.find_spec("clorg_scale.bench") is None:  # a checkout that is not installed
        import bench

        sys.modules["clorg_scale.bench"] = bench
    found = script(sys.argv[1]) if len(sys.argv) > 1 else None
    if found is not None:
        sys.exit(int(importlib.import_module(found).main(sys.argv[2:]) or 0))
    sys.argv[1:1] = ["bench"]
    main()
