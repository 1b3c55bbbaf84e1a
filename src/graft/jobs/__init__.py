"""Compositions of stages. A recipe's one top-level key names the job: `adapt:` or `pretrain:`."""
