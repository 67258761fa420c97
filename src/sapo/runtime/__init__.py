"""What surrounds the work of a stage: its command line, errors, files, keys, and the watchdog. No result depends on it."""
