"""Numbers about numbers: tallies, resamples, intervals, tests, random streams. No files."""
