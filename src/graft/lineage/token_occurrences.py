"""holders: which documents hold a vocabulary item, a word or a class of items, scored and trained on."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.core.config.errors import UsageError, nearest
from graft.core.records.evidence import Evidence
from graft.core.store.artifact import Artifact
from graft.core.store.lineage import LineageGraph
from graft.core.text.token_text import locate as spell
from graft.core.tokens.token_shards import TokenSource
from graft.lineage.find_documents import SourceDocuments
from graft.lineage.scored_documents import Sides
from graft.lineage.training_runs import RunSegment

if TYPE_CHECKING:
    from tokenizers import Tokenizer

AROUND = 30  # characters on either side of a place that is shown
EXCERPTS = 3  # places of each document that are shown


@dataclass(frozen=True)
class Items:
    """What is looked for: ids of the vocabulary, by a text that they are written as or a class that blame put them in;
    or runs of ids, ways in which a word of several tokens is written.

    sources: of the scored text, in which a class has these items.
    """

    words: str
    ids: tuple[int, ...]
    sources: tuple[str, ...]
    runs: tuple[tuple[int, ...], ...] = ()

    def starts(self, targets: np.ndarray) -> np.ndarray:
        """Where in these tokens they begin, ascending."""
        found = [np.flatnonzero(np.isin(targets, self.ids))]
        for run in self.runs:
            length = max(0, len(targets) - len(run) + 1)
            fits = np.ones(length, bool)
            for j, item in enumerate(run):
                fits &= targets[j : j + length] == item
            found.append(np.flatnonzero(fits))
        return np.unique(np.concatenate(found))

    def covered(self, targets: np.ndarray) -> np.ndarray:
        """Which of these tokens belong to them."""
        mask = np.isin(targets, self.ids)
        for run in self.runs:
            for start in replace(self, ids=(), runs=(run,)).starts(targets).tolist():
                mask[start : start + len(run)] = True
        return mask


def find_item(words: str, sides: Sides, tokenizer: Tokenizer | None) -> Items:
    r"""The vocabulary items written so, or a word of several tokens; "\n" and "\t" may stand for what they mean.

    Errors: UsageError where scored text holds no such thing, naming the nearest item that it holds.
    """
    vocabulary: dict[int, str] = {}
    for one in sides.evidence[0].values():
        vocabulary |= one.vocabulary
    text = unescaped(words)
    for spelled in dict.fromkeys((text, words, text.replace("␣", " ").replace("⏎", "\n").replace("⇥", "\t"))):
        ids = tuple(item for item, known in vocabulary.items() if known == spelled)
        if ids:
            return Items(spelled, ids, tuple(sides.evidence[0]))
    if tokenizer is not None and text.strip():
        spellings = (text, f" {text}") if text[0].isalnum() else (text,)
        encoded = {tuple(tokenizer.encode(one, add_special_tokens=False).ids) for one in spellings}
        found = Items(text, (), tuple(sides.evidence[0]), tuple(sorted(encoded)))
        if any(len(found.starts(one.targets_N)) for one in sides.evidence[0].values()):
            return found
    known = {text.strip(): text for text in vocabulary.values() if text.strip()}
    near = difflib.get_close_matches(text.strip(), list(known), n=1)
    hint = f"did you mean {json.dumps(known[near[0]], ensure_ascii=False)}?" if near else ""
    raise UsageError(
        f"the scored text holds no token or word {json.dumps(text, ensure_ascii=False)}",
        where=sides.after.name,
        allowed="a vocabulary item as the blame table has it, with the space in front where it has one, or a word",
        do=hint or "look it up in the report's blame table",
    )


def find_class(words: str, sides: Sides, source: str) -> Items:
    """The items of a class ("newline", "domain term" ...) of one source. Errors: UsageError for an unknown one."""
    path = sides.findings and sides.findings / "blame.json"
    if not path or not path.exists():
        raise UsageError(
            "classes are told by the probe blame, which was left out", do="add blame to examine.probes, and run again"
        )
    rows = [row for row in json.loads(path.read_text(encoding="utf-8")) if row["source"] == source]
    classes = dict.fromkeys(row["class"] for row in rows)
    ids = tuple(int(row["token"]) for row in rows if row["class"] == words)
    if not ids:
        raise UsageError(
            f'{source} has no item of class "{words}"', allowed=", ".join(classes), do=nearest(words, classes)
        )
    return Items(words, ids, (source,))


def unescaped(words: str) -> str:
    r"""What was typed with "\n", "\t" or "\r" as these characters."""
    return words.replace("\\n", "\n").replace("\\t", "\t").replace("\\r", "\r")


def holders(items: Items, sides: Sides, source: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(sums, scored documents that hold items), those that changed the mean loss most first.

    blame: sum of the changes of these tokens / all scored tokens of the source, in nats per token, exactly the table's;
    a document's `blame` is its part of that, and the parts add up to it.
    """
    old, new = (side[source] for side in sides.evidence)
    start_N = np.zeros(len(old.targets_N), bool)
    start_N[items.starts(old.targets_N)] = True
    change_N = np.where(items.covered(old.targets_N), new.nats_N.astype(np.float64) - old.nats_N, 0.0)
    count_D, change_D = old.sum_D(start_N), old.sum_D(change_N)
    total = len(start_N)
    order = np.argsort(-abs(change_D), kind="stable")
    rows = [
        {
            "position": int(old.position_D[d]),
            "count": int(count_D[d]),
            "mean_change": float(change_D[d] / count_D[d]),
            "blame": float(change_D[d] / total),
        }
        for d in order.tolist()
        if count_D[d]
    ]
    count = int(start_N.sum())
    return {
        "source": source,
        "count": count,
        "documents": len(rows),
        "mean_change": float(change_N.sum() / count) if count else 0.0,
        "blame": float(change_N.sum() / total) if total else 0.0,
    }, rows


def in_text(items: Items, sides: Sides, table: SourceDocuments, position: int) -> list[dict[str, Any]]:
    """Where in the text of a scored document items stand, those that changed most first: {line, column, character,
    excerpt, before, after}. Lines, columns and characters count from 1; none where tokens do not spell the text."""
    old, new = (side[table.source] for side in sides.evidence)
    d = int(np.flatnonzero(old.position_D == position)[0])
    targets, before = old.document(d)
    _, after = new.document(d)
    text = table.text(position)
    data = text.encode("utf-8", "surrogatepass")
    ends = spell(data, [old.vocabulary.get(int(item), "") for item in targets])
    if ends is None:
        return []
    hits = items.starts(targets)
    hits = hits[np.argsort(-abs(after[hits] - before[hits]), kind="stable")][:EXCERPTS]
    return [
        _place(text, data, ends[i - 1] if i else 0, ends[i]) | {"before": float(before[i]), "after": float(after[i])}
        for i in hits.tolist()
    ]


def _place(text: str, data: bytes, begin: int, end: int) -> dict[str, Any]:
    first, last = (len(data[:at].decode("utf-8", "ignore")) for at in (begin, end))
    line = text.count("\n", 0, first)
    return {
        "character": first + 1,
        "line": line + 1,
        "column": first - (text.rfind("\n", 0, first) + 1) + 1,
        "excerpt": [text[max(0, first - AROUND) : first], text[first:last], text[last : last + AROUND]],
    }


def trained_on(leg: RunSegment, source: str, items: Items, most: int) -> dict[str, Any]:
    """Where a run's training text of a source holds these items, and which steps met them first.

    {occurrences (in training text), documents, read (as often as they were read), steps, first: `most` of
    {step, row, position, tokens}}. tokens: places among the document's targets, from 1, where an item begins.
    """
    tokens = leg.sources[source]
    document_O, place_O = occurrences(tokens, items)
    documents = np.unique(document_O)
    places = leg.places(source, documents)
    key = int(tokens.pairs_D.max(initial=0)) + 1
    key_O = document_O * key + place_O  # ascending, as documents and places are
    low_N, high_N = (np.searchsorted(key_O, places.document_N * key + edge) for edge in (places.first_N, places.last_N))
    met = np.flatnonzero(high_N > low_N)
    _, begins = np.unique(places.row_N[met] // leg.rows, return_index=True)  # of each step the first meeting in it
    return {
        "source": source,
        "occurrences": len(key_O),
        "documents": len(documents),
        "read": int((high_N - low_N).sum()),
        "steps": len(begins),
        "first": [
            {
                "step": int(places.row_N[n]) // leg.rows + 1,
                "row": int(places.row_N[n]) % leg.rows + 1,
                "position": int(tokens.position_D[places.document_N[n]]),
                "tokens": (place_O[low_N[n] : high_N[n]] + 1).tolist(),
            }
            for n in met[begins[:most]].tolist()
        ],
    }


def occurrences(tokens: TokenSource, items: Items) -> tuple[np.ndarray, np.ndarray]:
    """(document, place among its targets from 0) of these tokens in training text, ascending; weight 0 counts too."""
    documents = tokens.documents("train")
    documents = np.sort(np.concatenate([documents, tokens.pairs("train") + 1]))
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for document in documents.tolist():
        places = items.starts(tokens.tokens(document, 1))
        found.append((np.full(len(places), document), places))
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate([one for one, _ in found]), np.concatenate([one for _, one in found])


def sources_with(evidence: Mapping[str, Evidence], items: Items) -> list[str]:
    """The sources whose scored text holds any of these items."""
    return [name for name in items.sources if len(items.starts(evidence[name].targets_N))]


def corpus_of(sides: Sides, family: LineageGraph) -> Artifact | None:
    """The corpus of the text that was scored."""
    tokens = family.input(sides.after, "tokens")
    return tokens and family.input(tokens, "corpus")
