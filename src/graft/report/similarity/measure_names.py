"""What measures of likeness are called, how their values are written, and what they are for two texts of one kind."""

from __future__ import annotations

from dataclasses import dataclass

from graft.report.shared import wording


@dataclass(frozen=True)
class Measure:
    """Words for a measure. same: its value for two texts of one kind, None where that depends."""

    name: str
    meaning: str
    same: float | None


MEASURES = {
    "mean_cosine": Measure(
        "cosine of mean embeddings", "direction of the mean hidden states; values near 1 are the rule", 1.0
    ),
    "mmd": Measure("MMD^2", "whether documents of the two are as near to each other as to their own", 0.0),
    "frechet": Measure("Frechet distance^2", "how far the two clouds of documents lie apart, taken as Gaussians", 0.0),
    "ngram_overlap": Measure("n-gram overlap", "share of the text’s word n-grams that the reference has too", None),
    "two_sample": Measure(
        "classifier's error", "how often a linear classifier takes one for the other: 0 apart, 0.5 alike", 0.5
    ),
    "base_loss": Measure(
        "bits per byte above reference", "how much harder the text is to predict for the model as it is", 0.0
    ),
}


def measure_of(name: str) -> Measure:
    """Of a measure of the user's own there are no words but its name."""
    return MEASURES.get(name, Measure(name, "a measure of your own", None))


def wording_of(name: str) -> str:
    """The name of a measure as it is set on a page."""
    return measure_of(name).name.replace("^2", "²").replace("'", "’")


def closer(larger: bool) -> str:
    return "larger is closer" if larger else "smaller is closer"


def number(value: float | None) -> str:
    """To three digits; '–' where there is none."""
    return "–" if value is None else f"{value:.3g}".replace("-", wording.MINUS)
