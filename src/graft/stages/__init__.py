"""Verbs, one file each: artifacts in, one artifact out. The only rooms that read and write files.

From Python a stage is `graft.train`, with the settings `graft.Train`; `graft.stages.train` is its module.
"""
