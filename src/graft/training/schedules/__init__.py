"""The learning rate over a run. Each file one class: __call__(step, steps) -> factor on the peak rate, in 0..1.

step counts from 0; a step at or past the end keeps the last factor, so that a longer run never trains at a rate of 0
by accident and never starts over.
"""
