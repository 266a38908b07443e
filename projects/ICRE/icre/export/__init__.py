"""Graph, formats, writing."""
