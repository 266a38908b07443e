"""Training: the trainer, its step, hooks, checkpoints and processes."""
