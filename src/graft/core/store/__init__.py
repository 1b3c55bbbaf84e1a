"""Artifacts in folders: named by content, whole or absent, with what they were made of."""
