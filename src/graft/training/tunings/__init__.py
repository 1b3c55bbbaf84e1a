"""Which weights train. Each file one class: apply(model) -> model before training, fold(model) -> model after it.

`apply` decides what takes gradients, and may put modules in; `fold` takes them out again, so that what is saved is a
plain model of its type that anything can read. Both change the model in place and return it. A plug-in here is read
by `graft plan`, so torch is imported inside its verbs, not at the top.
"""
