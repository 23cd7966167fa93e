"""Sampled RLD: near pairs exactly, all others from landmarks, with a standard error."""
