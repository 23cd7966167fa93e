"""One file per search algorithm."""
