"""One page that compares runs, and the figures that need runs or models."""
