"""Compiled building blocks that several rooms use."""
