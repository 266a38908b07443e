"""Training: the trainer, its steps, hooks, trackers of other tools, and processes."""
