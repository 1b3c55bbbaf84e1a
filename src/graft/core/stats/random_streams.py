"""One seed, named streams: randomness is a pure function of a seed and a path of names."""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """A generator that depends on (seed, names) alone, never on the order in which streams are asked for."""
    path = "\x1f".join([str(seed), *map(str, names)])
    digest = hashlib.blake2b(path.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
