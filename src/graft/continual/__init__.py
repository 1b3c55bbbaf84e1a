"""Domains one after another: turns, methods, metrics, results."""
