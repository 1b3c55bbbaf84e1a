"""contrast: what two models made of the same text, by token or, where tokenizers differ, by common span."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from graft.core.config.errors import UsageError
from graft.core.models.base_model import Base
from graft.core.process.progress import Progress
from graft.core.records.evidence import Evidence, read_evidence
from graft.core.records.span_alignment import ReadDocument, Spans, Unit, align, words
from graft.core.stats.bootstrap import paired_change
from graft.core.store.artifact import Artifact, Draft, Store
from graft.evaluation.metrics.bits_per_byte import BitsPerByte
from graft.evaluation.metrics.nats_per_token import NatsPerToken
from graft.evaluation.probes.blame import Blame, by_class
from graft.evaluation.probes.forgetting import verdict
from graft.evaluation.probes.left_out import LeftOut
from graft.evaluation.probes.terms import Terms
from graft.models.runtime.settle_precision import check_same_precision

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BATCH = 64  # documents whose places are asked of a tokenizer at once
SIDES = ("before", "after")
Pair = tuple[Evidence, Evidence]


@dataclass(frozen=True)
class Contrast:
    """What is asked of the comparison; see the probes blame, left_out and terms."""

    top: tuple[int, ...] = (1, 3, 10, 30)  # how many items are left out together
    least: int = 5  # occurrences of a term, below which nothing is said of it
    term_ratio: float = 4.0  # how much more frequent than in the reference a domain term is
    seed: int = 0  # of the resampling

    def __post_init__(self) -> None:
        LeftOut(self.top)
        Terms(self.least)
        if self.term_ratio <= 0:
            raise UsageError(f"term_ratio is {self.term_ratio}", allowed="a number above 0", do="4 is usual")


@dataclass
class Laid:
    """One source laid side by side. shared: the tokens are the same, so that `items` are vocabulary items, else spans.

    spans: of each document, in the order of the evidence; documents: how many are left out, because none of their
    text was scored by both; left_out, marks: characters and end marks that were scored by one alone.
    """

    source: str
    shared: bool
    items: Pair
    words: Pair
    spans: list[Spans] = field(default_factory=list)
    num_words: int = 0
    documents: int = 0
    left_out: int = 0
    marks: int = 0


def contrast(
    bases: tuple[Base, Base],
    seen: tuple[Artifact, Artifact],
    corpus: Artifact,
    settings: Contrast = Contrast(),
    *,
    reference: str = "",
    store: Store,
) -> Artifact:
    """Kind "contrast": texts.json (numbers of every source), blame, left_out and terms as JSON rows, and the spans.

    seen: evidence of both models on all documents of the corpus. reference: the source that the class "domain term" is
    told by; without one no item is in it. SOURCE.parquet has of every document the spans (characters of its text) with
    both models' nats. Errors: UsageError where the models' numbers are of different kinds, and where they have no
    scored text in common.
    """
    check_same_precision({"before": seen[0], "after": seen[1]})
    for base, evidence in zip(bases, seen, strict=True):
        if evidence.facts["measure"] != seen[0].facts["measure"]:
            raise UsageError(
                f"{bases[0].name} is measured by {seen[0].facts['measure']}, {base.name} by "
                f"{evidence.facts['measure']}: they have nothing in common to compare",
                allowed="two models that predict in the same way",
            )
    inputs: dict[str, Artifact | str] = {"before": seen[0], "after": seen[1], "corpus": corpus}
    inputs |= {
        f"tokenizer {side}": one.tokenizer_fingerprint(store.prints) for side, one in zip(SIDES, bases, strict=True)
    }
    inputs |= {"reference": reference}
    return store.make(
        "contrast",
        settings,
        inputs,
        __name__,
        lambda draft: _build(draft, bases, seen, corpus, settings, reference),
        origins={f"tokenizer {side}": one.origin for side, one in zip(SIDES, bases, strict=True)},
    )


def _build(
    draft: Draft,
    bases: tuple[Base, Base],
    seen: tuple[Artifact, Artifact],
    corpus: Artifact,
    settings: Contrast,
    reference: str,
) -> None:
    old, new = (read_evidence(one) for one in seen)
    tokenizers = (_plain(bases[0]), _plain(bases[1]))
    shared = all(_same_tokens(old[name], new[name]) for name in old)
    laid = {name: _lay((old[name], new[name]), corpus, tokenizers, shared) for name in old}
    rows: dict[str, list[dict[str, Any]]] = {"blame": [], "left_out": [], "terms": []}
    texts: dict[str, dict[str, Any]] = {}
    for name, one in laid.items():
        beside = [name, reference] if reference and reference != name else [name]
        by_item = Blame(name, settings.term_ratio)
        items = [{key: laid[key].items[side] for key in beside} for side in (0, 1)]
        terms = [{key: laid[key].words[side] for key in beside} for side in (0, 1)]
        blame = _of(name, by_item(*items))
        rows["blame"] += blame
        rows["left_out"] += _of(name, LeftOut(settings.top, settings.seed, name, settings.term_ratio)(*items))
        rows["terms"] += _of(name, Terms(settings.least, name, settings.term_ratio)(*terms))
        texts[name] = _numbers(one, settings.seed) | {"seen": corpus.facts["seen"][name]}
        texts[name]["cause"] = _cause(texts[name], blame, _of(name, by_item(*terms)))
        _write_spans(draft, one)
    for probe, found in rows.items():
        (draft / f"{probe}.json").write_text(json.dumps(found, allow_nan=False), encoding="utf-8")
    (draft / "texts.json").write_text(json.dumps(texts, allow_nan=False), encoding="utf-8")
    draft.facts |= {"sources": list(texts), "shared": shared}


def _of(name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["source"] == name]


def _plain(base: Base) -> Tokenizer:
    """The tokenizer as it reads documents, a special token spelled out being text; its places leave no space out."""
    from tokenizers import Tokenizer

    found = Tokenizer.from_str(json.dumps(json.loads(base.tokenizer.to_str()) | {"post_processor": None}))
    found.encode_special_tokens = True
    return found


def _same_tokens(old: Evidence, new: Evidence) -> bool:
    return np.array_equal(old.targets_N, new.targets_N) and old.vocabulary == new.vocabulary


def _lay(seen: Pair, corpus: Artifact, tokenizers: tuple[Tokenizer, Tokenizer], shared: bool) -> Laid:
    """Errors: UsageError where no document has anything that both models scored."""
    name = seen[0].source
    spans, items, terms = [], Unit.empty(), Unit.empty()
    laid = Laid(name, shared, seen, seen, spans)
    sizes: list[int] = []
    positions: list[int] = []
    for position, text, readings in _readings(seen, corpus, tokenizers, shared):
        found = align(len(text), *readings)
        laid.left_out += found.left_out
        laid.marks += found.marks_left_out
        if not len(found.end_S):
            laid.documents += 1
            continue
        pieces = found.texts(text)
        word_S = words(text, found)
        first_W = np.flatnonzero(np.diff(word_S, prepend=-1))
        last_W = np.append(first_W[1:], len(word_S)) - 1
        runs = [text[a:b] for a, b in zip(found.begin_S[first_W], found.end_S[last_W], strict=True)]
        spelled = [run.strip() or run for run in runs]
        laid.num_words += sum(any(map(str.isalnum, word)) for word in spelled)
        items.add(pieces, found.before_S, found.after_S)
        terms.add(spelled, *(np.bincount(word_S, weights=side) for side in (found.before_S, found.after_S)))
        spans.append(found)
        positions.append(position)
        sizes.append(sum(len(piece.encode("utf-8", "surrogatepass")) for piece in pieces))
    if not spans:
        raise UsageError(
            f"of {name} the two models have scored no text in common",
            allowed="text of which both score at least one stretch",
            do="set evaluate.max_tokens to 0, so that all of every document is scored",
        )
    where = np.array(positions), np.array(sizes)
    laid.words = terms.evidence(name, *where)
    if not shared:
        laid.items = items.evidence(name, *where)
    return laid


def _readings(
    seen: Pair, corpus: Artifact, tokenizers: tuple[Tokenizer, Tokenizer], shared: bool
) -> Iterator[tuple[int, str, tuple[ReadDocument, ReadDocument]]]:
    """(position, text, both readings) of every document that both have scored, in the order of the source."""
    places = [{position: d for d, position in enumerate(one.position_D.tolist())} for one in seen]
    wanted = [position for position in places[0] if position in places[1]]
    progress = Progress(f"comparing {seen[0].source}", len(wanted))
    table = pq.read_table(corpus / f"{seen[0].source}.parquet", columns=["position", "text"])
    texts = dict(zip(table["position"].to_pylist(), table["text"].to_pylist(), strict=True))
    for number in range(0, len(wanted), BATCH):
        batch = wanted[number : number + BATCH]
        asked = [texts[position] for position in batch]
        encoded = [one.encode_batch(asked, add_special_tokens=False) for one in tokenizers[: 1 if shared else 2]]
        for i, position in enumerate(batch):
            readings = [
                _reading(one, places[side][position], encoded[0 if shared else side][i], len(asked[i]))
                for side, one in enumerate(seen)
            ]
            yield position, asked[i], (readings[0], readings[1])
        progress.advance(len(batch))
    progress.close()


def _reading(evidence: Evidence, document: int, encoded: Any, length: int) -> ReadDocument:
    """What is known of one document, with the characters of its targets. Where a tokenizer has nothing to put before a
    text its first token was not predicted; where not all was scored, the rest was not."""
    targets, nats = evidence.document(document)
    ids = np.array(encoded.ids, targets.dtype)
    for skipped in (0, 1):
        rest = ids[skipped:]
        common = min(len(rest), len(targets))
        if len(targets) <= len(rest) + 1 and np.array_equal(rest[:common], targets[:common]):
            nats_T = np.full(len(ids), np.nan)
            nats_T[skipped : skipped + common] = nats[:common]
            mark = float(nats[-1]) if len(targets) > len(rest) else None
            return ReadDocument.of(encoded.offsets, length, nats_T, mark)
    raise UsageError(
        f"the tokens of document {evidence.position_D[document]} of {evidence.source} are not those of its text",
        do="compare models that read plain text as it is",
    )


def _numbers(one: Laid, seed: int) -> dict[str, Any]:
    """What summary.json says of one source. nats_per_token and perplexity: None where the tokens are not the same."""
    nats, bits = ([metric(side) for side in one.items] for metric in (NatsPerToken(), BitsPerByte()))
    change = paired_change(nats[0], nats[1], seed=seed)
    num_bytes = int(bits[0].count.sum())
    per_byte = [float(side.total.sum() / num_bytes) if num_bytes else None for side in bits]
    per_word = [float(side.total.sum()) / one.num_words for side in nats] if one.num_words else None
    per_token = [change.before, change.after] if one.shared else None
    tokens = [sum(int(getattr(s, f"tokens_{side}_S").sum()) for s in one.spans) for side in SIDES]
    return {
        "verdict": verdict(change.interval),
        "change": change.change,
        "interval": change.interval,
        "documents": one.items[0].num_documents,
        "bytes": num_bytes,
        "words": one.num_words,
        "unit": "token" if one.shared else "span",
        "units": len(one.items[0].nats_N),
        "before": change.before,
        "after": change.after,
        "tokens": dict(zip(SIDES, tokens, strict=True)),
        "bits_per_byte": dict(zip(SIDES, per_byte, strict=True)),
        "nats_per_word": per_word and dict(zip(SIDES, per_word, strict=True)),
        "nats_per_token": per_token and dict(zip(SIDES, per_token, strict=True)),
        "perplexity": per_token and dict(zip(SIDES, map(_exp, per_token), strict=True)),
        "left_out": {"documents": one.documents, "characters": one.left_out, "marks": one.marks},
    }


def _exp(nats: float) -> float | None:
    """Perplexity; None where it is beyond what a number can hold."""
    return float(np.exp(nats)) if nats < 700 else None


def _cause(
    numbers: Mapping[str, Any], items: Sequence[dict[str, Any]], terms: Sequence[dict[str, Any]]
) -> dict[str, Any] | None:
    """The item, the class and the word (of letters or digits) with the most blame in the direction of the change.

    None where there is no certain change, or no word. share: of the whole change; it can be more than all of it where
    others went the other way.
    """
    if numbers["verdict"] not in ("improved", "worse"):
        return None
    total = numbers["after"] - numbers["before"]
    sign = 1.0 if total > 0 else -1.0

    def largest(rows: Sequence[dict[str, Any]], key: str, among: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        one = max(among or rows, key=lambda row: sign * row["blame"])
        return {key: one[key], "class": one["class"], "count": one["count"], "mean_change": one["mean_change"]} | {
            "share": one["blame"] / sum(row["blame"] for row in rows)
        }

    lettered = [row for row in terms if any(map(str.isalnum, row["text"]))]
    return {
        "item": largest(items, "text"),
        "class": largest(by_class(list(items)), "class"),
        "word": largest(terms, "text", lettered) if lettered else None,
    }


def _write_spans(draft: Draft, one: Laid) -> None:
    """SOURCE.parquet: a row per document, its spans as lists."""
    lists = {
        name: [getattr(spans, f"{name}_S") for spans in one.spans]
        for name in ("begin", "end", *SIDES, "tokens_before", "tokens_after")
    }
    kinds = {name: pa.float32() if name in SIDES else pa.int32() for name in lists}
    columns = {name: pa.array(values, pa.list_(kinds[name])) for name, values in lists.items()}
    columns["position"] = pa.array(one.words[0].position_D, pa.int64())
    pq.write_table(pa.table(columns), draft / f"{one.source}.parquet", compression="zstd")
