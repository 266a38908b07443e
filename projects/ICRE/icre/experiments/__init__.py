"""Experiments of many runs: ablations, and RegDB's ten splits."""
