"""Variants times seeds, trained and put into one table."""
