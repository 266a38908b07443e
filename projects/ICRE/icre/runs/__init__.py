"""A training run on disk: its checkpoints, whether they may be continued, and its folder."""
