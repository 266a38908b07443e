"""Trainer, hooks and launcher."""
