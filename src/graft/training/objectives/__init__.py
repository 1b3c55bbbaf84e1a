"""What training minimises. Each file one class: bind(start, load) -> (model, batch) -> Tally, one entry per row.

start: what may be known before the first step (graft.training.contract); load(name): another model, frozen, "" being
the one that training starts from. A plug-in here is read by `graft plan`, so torch is imported inside `bind`, not at
the top. One that holds other models beside the trained one names them, as `load` takes them, in an attribute or
property `teachers`; one that reads something else than a stream of text says which rows it wants in an attribute
`packing`.
"""
