"""Results' way out: plain data, files, data frames, and what a notebook shows."""
