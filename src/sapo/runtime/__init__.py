"""What surrounds a stage's work: command line, errors, files, keys, watchdog. No result depends on it."""
