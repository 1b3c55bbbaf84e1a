"""Verbs, one file each: artifacts in, one artifact out. The only rooms that read and write files."""
