"""What training minimises. Each file one class: bind(start, load) -> (model, batch) -> Tally, one entry per row.

A plug-in here is read by `graft plan`, so torch is imported inside `bind`, not at the top. One that opens other models
says how many copies of the weights it holds beside the trained ones, in an attribute or property `teachers`.
"""
