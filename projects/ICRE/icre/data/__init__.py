"""Data sets, transforms, samplers and loaders; the demo renderer."""
