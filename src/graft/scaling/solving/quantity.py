"""Numbers as people write them: 1.8B parameters, a ratio of 0.33."""

from __future__ import annotations

COUNTS = ("size", "tokens", "unique")


def quantity(name: str, value: float) -> str:
    """A size or a token count with its letter, a share or any other number as it is."""
    return amount(value) if name in COUNTS else f"{value:.6g}"


def amount(value: float) -> str:
    """1.8e9 -> '1.8B'."""
    for border, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if border <= abs(value) < 1e15:
            return f"{value / border:.4g}{letter}"
    return f"{value:.4g}"


def factor_words(factor: float) -> str:
    """3.2; of a factor that is next to 1 so many digits that it does not look like it."""
    return next(text for digits in range(3, 10) if (text := f"{factor:.{digits}g}") != "1" or digits == 9)
