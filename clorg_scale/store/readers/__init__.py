"""One module per format; each has `contents`, which lists the arrays of a file without reading them."""
