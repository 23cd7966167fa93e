"""Numerical building blocks: compiled loops, 2^x, vector width, matrix products, interrupts."""
