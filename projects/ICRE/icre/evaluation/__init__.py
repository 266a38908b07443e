"""Protocols, metrics, re-ranking, comparison with intervals, features and ranking lists."""
