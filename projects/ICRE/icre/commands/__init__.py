"""Search and training."""
