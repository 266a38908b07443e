"""Figures: pure functions from plain data to a matplotlib `Figure`, and one that saves it."""
