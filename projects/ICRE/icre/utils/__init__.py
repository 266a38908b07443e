"""Errors, files and locks, command line, YAML and other formats, images, devices, environment."""
