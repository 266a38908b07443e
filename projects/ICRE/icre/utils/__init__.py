"""Errors, files, command line, environment, checksum, choices, matlab files."""
