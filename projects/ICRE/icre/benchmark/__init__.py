"""Speed and memory against fast-reid, public code and plain loops."""
