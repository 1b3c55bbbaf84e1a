"""Curation in plain Python: lists of all documents and sets of n-grams, one step after the other. Slow, and easy to
check by eye; and text on which all that curation does comes up."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from graft.core.text.documents import doc_id
from graft.core.text.ngrams import ngrams
from graft.core.text.split import Split

WORDS = [f"w{i}" for i in range(3000)]
Row = dict[str, Any]


def prose(seed: int, num_words: int = 50) -> str:
    """Words in an order that no other seed has."""
    return " ".join(random.Random(seed).choices(WORDS, k=num_words))


def troubled() -> dict[str, list[str]]:
    """Two sources with empty texts, copies inside and across, and documents that share passages."""
    domain = [prose(i) for i in range(160)] + [f"{prose(i)}\r\n" for i in range(40, 50)]
    domain += ["", "  ", *(f"{prose(i, 40)} {prose(900 + i, 30)}" for i in range(60))]
    domain += [f"{prose(i)} {i}" for i in range(60, 90)]
    domain += [prose(i) for i in range(12)] + [""]
    general = [*(prose(2000 + i) for i in range(90)), *domain[5:25], "", *(prose(i)[:120] for i in range(100, 130))]
    small = [prose(5000), prose(5001), f"{prose(5000)} and more", prose(5002), prose(2001)]
    return {"domain": domain, "general": general, "small": small}


def curated(sources: Mapping[str, Sequence[str]], split: Split, n: int = 13, tolerance: float = 0.2) -> list[Row]:
    """Every document as {source, id, split, dropped, overlap}, after exact duplicates and overlap."""
    rows: list[Row] = [
        {"source": name, "text": text, "id": doc_id(text), "size": len(text.encode()), "split": "", "overlap": None,
         "dropped": "" if text.strip() else "dropped: empty"}
        for name, texts in sources.items() for text in texts
    ]  # fmt: skip
    for _ in range(8):
        beyond = _assign(rows, split, set())
        beyond = beyond if sum(row["size"] for row in rows) > split.most else set()
        _assign(rows, split, beyond)
        _drop_copies(rows)
        _assign(rows, split, beyond)
        _drop_overlaps(rows, n, tolerance)
        if not any(_lacking([row for row in rows if row["source"] == name]) for name in sources):
            break
    return rows


def _usable(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if not row["dropped"]]


def _assign(rows: Sequence[Row], split: Split, beyond: set[str]) -> set[str]:
    """Set the splits; returns the ids that are held out after `most` bytes of their source and split."""
    owner: dict[str, Row] = {}
    for row in _usable(rows):
        owner.setdefault(row["id"], row)
    found, many = {}, set()
    for source in dict.fromkeys(row["source"] for row in rows):
        ids = [one for one, row in owner.items() if row["source"] == source]
        ids.sort(key=lambda one: (split.place(one), one))
        places = [split.place(one) for one in ids]
        below = [sum(place < border for place in places) for border in (split.test, split.test + split.validation)]
        num_test, num_validation = split.counts(len(ids), *below)
        held = {"test": 0, "validation": 0, "train": 0}
        for rank, one in enumerate(ids):
            name = "test" if rank < num_test else "validation" if rank < num_test + num_validation else "train"
            if name != "train" and split.most and held[name] >= split.most:
                many.add(one)
            held[name] += owner[one]["size"]
            found[one] = "train" if one in beyond else name
    for row in _usable(rows):
        row["split"] = found[row["id"]]
    return many


def _drop_copies(rows: Sequence[Row]) -> None:
    first: dict[str, str] = {}
    for row in _usable(rows):
        if row["id"] not in first:
            first[row["id"]] = row["source"]
        else:
            known = first[row["id"]]
            row["dropped"] = "dropped: duplicate" + ("" if known == row["source"] else f" of {known}")


def _drop_overlaps(rows: Sequence[Row], n: int, tolerance: float) -> None:
    usable = _usable(rows)
    train = {gram for row in usable if row["split"] == "train" for gram in _grams(row["text"], n)}
    for row in usable:
        if row["split"] != "train":
            grams = _grams(row["text"], n)
            shared = sum(gram in train for gram in grams)
            row["overlap"] = [shared, len(grams)]
            if shared > tolerance * len(grams):
                row["dropped"] = "dropped: overlaps train"


def _grams(text: str, n: int) -> list[int]:
    return ngrams([text], n)[0].tolist()


def _lacking(rows: Sequence[Row]) -> bool:
    left = [row["split"] for row in _usable(rows)]
    return "test" not in left or ("validation" not in left and len(left) > 2)
