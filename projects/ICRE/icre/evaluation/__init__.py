"""Protocols, ranking metrics and the evaluation hook."""
