"""`python -m bench NAME ...`: run one benchmark."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main(argv: list[str]) -> int:
    """Run the benchmark that the first argument names with the others."""
    files = (path for path in Path(__file__).parent.glob("[a-z]*.py") if path.stem != "memory")
    names = sorted(path.stem.replace("_", "-") for path in files)
    if not argv or argv[0] not in names:
        print(f"usage: python -m bench {{{','.join(names)}}} ...", file=sys.stderr)
        return 2
    return int(importlib.import_module(f"bench.{argv[0].replace('-', '_')}").main(argv[1:]) or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
