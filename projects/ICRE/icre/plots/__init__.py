"""Figures: each a function from plain data to a matplotlib Figure, and one that saves them."""
