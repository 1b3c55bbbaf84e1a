"""Curation: each step takes the documents of all sources and marks those that should not be used.

A step is called with a Daft data frame of the columns of `graft.core.text.documents`, and `row`: a document's place
over all sources, unique, in the order in which sources were given. `split` is set. A step gives back the same rows with
`dropped` and `notes` changed and nothing else: it marks, it never deletes. In `notes` it may leave a tally, a pair
[total, count]; curate adds those of the kept documents up, per source and split, and divides once.
"""
