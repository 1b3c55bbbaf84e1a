"""Which words tell labels apart: pointwise mutual information of tokens with the labels of documents."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from graft.core.config.errors import UsageError
from graft.core.tokens.token_shards import NO_LABEL, TokenSource


def largest_pmi(sources: Iterable[TokenSource], vocabulary: int, prior: float) -> np.ndarray:
    """pmi_V in nats: of each token with the label that it says most about, max over c of log p(c | v) / p(c).

    v stands for "the document holds the token", counted once per labelled training document. p(c | v) is
    (documents with v and c + prior * p(c)) / (documents with v + prior), so that a token seen once says little and one
    never seen nothing (0). Errors: UsageError where there are no two labels.
    """
    labels: dict[str, int] = {}
    found: list[tuple[int, np.ndarray]] = []
    for source in sources:
        for document in source.documents("train"):
            number = int(source.label_D[document])
            if number != NO_LABEL:
                label = labels.setdefault(source.labels[number], len(labels))
                found.append((label, np.unique(source.tokens(int(document)))))
    if len(labels) < 2:
        raise UsageError(
            f"no labels to tell words apart by: {len(labels)} label(s) in {len(found)} labelled training documents",
            allowed="documents of two labels or more",
            do="name the column that holds them in ingest.label_field, or set words to random",
        )
    counts_CV = np.zeros((len(labels), vocabulary))
    for label, tokens in found:
        counts_CV[label, tokens] += 1
    share_C1 = np.bincount([label for label, _ in found], minlength=len(labels))[:, None] / len(found)
    count_V = counts_CV.sum(0)
    return np.log((counts_CV + prior * share_C1) / ((count_V + prior) * share_C1)).max(0)
