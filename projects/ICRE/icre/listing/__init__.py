"""What there is: registered names, config files, and the reference of all config keys."""
