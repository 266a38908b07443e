"""Models of finished runs."""
