"""Ablations and regdb's splits."""
