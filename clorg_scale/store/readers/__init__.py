"""One module a format; each has `contents`, which lists the arrays of a file without reading them."""
