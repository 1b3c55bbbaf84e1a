"""Curation: each step looks at the documents of all sources and marks those that should not be used.

`contract.py` says what a step is. A new step is one file here, or a class of your own under its dotted path.
"""
