"""`python -m bench list | run NAME... | compare A B | report`: as `clorg-scale bench`, from a checkout."""

from __future__ import annotations

import importlib.util
import sys

if __name__ == "__main__":
    from clorg_scale.cli import main

    if importlib.util.find_spec("clorg_scale.bench") is None:  # a checkout that is not installed
        import bench

        sys.modules["clorg_scale.bench"] = bench
    sys.argv[1:1] = ["bench"]
    main()
