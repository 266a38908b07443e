"""Gallery search, re-ranking and what is shown to people."""
