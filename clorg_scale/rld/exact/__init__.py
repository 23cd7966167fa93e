"""Exact RLD: all pairs of points, in O(n) memory."""
