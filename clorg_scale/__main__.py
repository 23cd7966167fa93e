"""`python -m clorg_scale`: the command line."""

from clorg_scale.cli import main

if __name__ == "__main__":
    main()
