"""Running a script: the run, what it asks, what it decides, what limits it."""
