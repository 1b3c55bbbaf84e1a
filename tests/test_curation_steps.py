"""Steps of a user's own: both kinds work, what they say is data, and every way to break the contract has its words."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest

import graft
from curation_reference import prose
from graft.core.config import settings as house
from graft.core.config.errors import UsageError
from graft.core.config.plugins import HOUSE
from graft.core.store.artifact import Artifact, Store
from graft.core.store.lineage import LineageGraph
from graft.core.text.documents import SPLITS, doc_id
from graft.core.text.drop_reasons import meanings
from graft.core.text.mark_table import MarkTable
from graft.core.text.marked_text import MarkedText
from graft.data.curate import Curate, curate
from graft.data.ingest import Ingest, ingest
from graft.data.mark_documents import Marking, groups
from graft.data.steps.contract import Document, Mark, Marks, Narrow, Needs, Reason, Sample
from graft.data.steps.exact_duplicates import ExactDuplicates
from graft.data.steps.overlap import Overlap
from graft.lineage import document_fate as fate
from graft.planning.expected_drops import expect_drops
from graft.report.adaptation.accounts import _meaning

SHORT = Reason("short", "left out: few words")
ODD = Reason("odd", "left out: an odd length", "odd by {}")


@dataclass(frozen=True)
class Short:
    """Drops texts of few words, and notes how many there are."""

    reasons: ClassVar[tuple[Reason, ...]] = (SHORT,)
    least: int = 30

    def mark(self, documents):
        counts = [len(one.text.split()) for one in documents]
        return [
            Mark("short", detail=f"{count} words") if count < self.least else Mark(notes={"words": [count, 1]})
            for count in counts
        ]


@dataclass(frozen=True)
class Lower:
    """Rewrites texts in lower case, without what is in brackets."""

    reasons: ClassVar[tuple[Reason, ...]] = ()

    def mark(self, documents):
        texts = [one.text.partition("[")[0].strip().lower() for one in documents]
        return [Mark(text=text, changed=3) if text else None for text in texts]


@dataclass(frozen=True)
class Odd:
    """Drops training documents of an odd number of bytes, by source."""

    reasons: ClassVar[tuple[Reason, ...]] = (ODD,)

    def mark_corpus(self, needs: Needs) -> Iterator[Marks]:
        for part in needs.by_text():
            assert isinstance(part, Narrow)
            for number, source in enumerate(needs.sources):
                yield Marks(part.rows_N[(part.num_bytes_N % 2 == 1) & (part.sources_N == number)], "odd", source)

    def expect(self, sample: Sample) -> dict[str, float]:
        return {"odd": 0.5}


@dataclass(frozen=True)
class Says:
    """Says of documents what a test wants it to."""

    reasons: ClassVar[tuple[Reason, ...]] = (SHORT, ODD)

    def mark(self, documents):
        return type(self)._told(documents)

    _told: ClassVar[Any] = None


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def read(store: Store, name: str = "domain", texts: list[str] | None = None) -> Artifact:
    folder = store.root.parent / f"{name} {doc_id(json.dumps(texts))[:6]}"
    folder.mkdir(exist_ok=True)
    texts = [prose(i) for i in range(40)] if texts is None else texts
    (folder / "d.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return ingest([str(folder)], name, store=store)


def rows(corpus: Artifact, source: str = "domain") -> list[dict]:
    return pq.read_table(corpus / f"{source}.parquet").to_pylist()


def words_of(error: pytest.ExceptionInfo[UsageError], *words: str) -> None:
    for word in words:
        assert word in str(error.value), f"{word!r} is not in:\n{error.value}"


# ---- what steps say is data


def test_a_step_by_its_dotted_path_drops_with_a_reason_that_page_and_why_read(store: Store) -> None:
    texts = [prose(i) for i in range(40)] + ["few words", "three words here", *(prose(i) for i in range(3))]
    name = f"{Short.__module__}.Short"
    settings = house.build(Curate, {"steps": [{name: {"least": 20}}, "exact_duplicates", f"{Odd.__module__}.Odd"]})
    assert settings.steps == (Short(20), ExactDuplicates(), Odd())
    corpus = curate({"domain": read(store, texts=texts)}, settings, store=store)
    table = rows(corpus)
    assert [table[40][key] for key in ("dropped_by", "reason", "detail")] == [name, "short", "2 words"]
    assert table[41]["detail"] == "3 words" and table[41]["dropped"] == "dropped: short"
    assert [table[42][key] for key in ("dropped_by", "reason")] == ["exact_duplicates", "duplicate"]
    odd = [row for row in table if row["reason"] == "odd"]
    assert odd and {(row["dropped"], row["detail"]) for row in odd} == {("dropped: odd by domain", "domain")}
    for row in table:
        told = [row[key] for key in ("dropped_by", "reason")]
        assert all(told) if row["dropped"] else not any([*told, row["detail"]])
    assert corpus.ledger.fates["domain"]["dropped: short"].documents == 2
    known = meanings([corpus.facts])
    assert known["dropped: short"] == SHORT.sentence and known["dropped: odd by domain"] == ODD.sentence
    family = LineageGraph(store.root)
    for words in ("short", name, "dropped: short"):
        assert fate.with_fate(words, corpus, None, family) == {("domain", "dropped: short"): [40, 41]}
    assert fate.decided_by("dropped: odd by domain", corpus) == f"{Odd.__module__}.Odd"
    total = corpus.facts["notes"]["words"]["domain"]
    kept = [row for row in table if not row["dropped"]]
    assert sum(one["count"] for one in total.values()) == len(kept)
    assert json.loads(kept[0]["notes"])["words"] == [50, 1]


def test_neighbours_share_one_pass_and_get_what_is_left(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []

    @dataclass(frozen=True)
    class Counts:
        reasons: ClassVar = (SHORT,)
        name: str = ""
        every: int = 0

        def mark(self, documents):
            seen.append((self.name, len(documents)))
            return [Mark("short") if self.every and i % self.every == 0 else None for i in range(len(documents))]

    passes: list[tuple] = []
    batches = MarkedText.batches
    monkeypatch.setattr(MarkedText, "batches", lambda self, *a: passes.append(a) or batches(self, *a, most=30))
    docs = {"domain": read(store)}
    # A class inside a function has no place that its code could be known by: the stage's part is called as it is.
    tables = {"domain": docs["domain"] / "docs.parquet"}
    marks = MarkTable.read(store.root / "marks", tables, Curate().split)
    steps = [Counts("a", 3), Counts("b", 2), Counts("c")]
    [(alone, together)] = groups(steps)
    Marking(marks, MarkedText(tables, marks), Curate().split).by_document(together, lambda: None)
    assert alone and len(passes) == 1
    assert seen == [("a", 30), ("b", 20), ("c", 10), ("a", 10), ("b", 6), ("c", 3)]
    assert [len(some) for _, some in groups([*steps, Odd(), Odd(), *steps[:2]])] == [3, 1, 1, 2]


def test_a_rewritten_text_is_a_text_of_its_own_and_every_byte_is_accounted_for(store: Store, world: Any) -> None:
    texts = [prose(i) for i in range(40)] + [f"{prose(3).upper()} [x]", f"{prose(77)} [gone]", "[]", prose(5)]
    docs = {"domain": read(store, texts=texts)}
    corpus = curate(docs, Curate(steps=(Lower(), ExactDuplicates(), Short(), Overlap())), store=store)
    table = rows(corpus)
    assert table[40]["text"] == prose(3) and table[40]["id"] == table[3]["id"] == doc_id(prose(3))
    assert table[40]["reason"] == "duplicate" and table[43]["reason"] == "duplicate"
    assert table[41]["text"] == prose(77) and table[41]["num_bytes"] == len(prose(77))
    assert table[42]["text"] == "[]" and table[42]["reason"] == "short"
    assert all(row["id"] == doc_id(row["text"]) and row["num_bytes"] == len(row["text"]) for row in table)
    assert all(row["split"] in SPLITS for row in table if not row["dropped"])
    shrunk = len(" [x]") + len(" [gone]")
    name = f"{Lower.__module__}.Lower"
    fates = corpus.ledger.fates["domain"]
    assert (fates[f"rewritten by {name}"].documents, fates[f"rewritten by {name}"].bytes) == (0, shrunk)
    assert corpus.ledger.read == docs["domain"].ledger.read
    assert corpus.facts["rewritten"] == {name: {"documents": 2, "changed_bytes": 6, "shrunk_bytes": shrunk}}
    assert "Lower made texts shorter" in _meaning(f"rewritten by {name}")
    tokens = graft.tokenize(corpus, world.base, store=store)
    assert tokens.ledger.read["domain"].bytes == docs["domain"].ledger.read["domain"].bytes
    tokens.ledger.check()


def test_a_text_that_grows_is_accounted_for_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Says, "_told", lambda documents: [Mark(text=f"{one.text} é", changed=3) for one in documents])
    docs = {"domain": read(store)}
    corpus = curate(docs, Curate(steps=(Says(), Odd(), Says())), store=store)
    name = f"rewritten by {Says.__module__}.Says"
    left = [row for row in rows(corpus) if row["reason"] != "odd"]
    assert corpus.ledger.fates["domain"][name].bytes == -3 * (40 + len(left))
    assert all(row["text"].endswith(" é é") for row in left)
    assert corpus.ledger.read == docs["domain"].ledger.read


def test_without_steps_the_limit_of_held_out_text_holds_too(store: Store) -> None:
    split = graft.Split(test=0.4, validation=0.4, most=900)
    table = rows(curate({"domain": read(store)}, Curate(steps=(), split=split), store=store))
    for name in ("test", "validation"):
        held = [row["num_bytes"] for row in table if row["split"] == name]
        assert 900 <= sum(held) < 900 + max(held)


def test_a_plan_asks_the_steps_themselves() -> None:
    ids = [{"id": str(i % 8), "text": "x " * (i % 10), "num_bytes": 2 * (i % 10), "notes": "{}"} for i in range(40)]
    found = expect_drops((Short(5), Odd()), ids, 1.0, 0.0)
    assert found.shares == {"dropped: short": pytest.approx(0.5), "dropped: odd by ": pytest.approx(0.25)}
    assert found.left == pytest.approx(0.5 * sum(range(5, 10)) / sum(range(10)))
    assert not expect_drops((Overlap(),), ids, 1.0, 0.0).shares and not expect_drops((Short(),), [], 1.0, 0.0).shares
    copies = expect_drops((ExactDuplicates(),), ids, 1.0, 0.0)
    assert copies.shares == {"dropped: duplicate": pytest.approx(0.8)} and copies.left == pytest.approx(0.2)
    rewritten = expect_drops((Lower(), ExactDuplicates()), [one | {"text": "A [1]"} for one in ids], 1.0, 0.0)
    assert rewritten.shares["dropped: duplicate"] == pytest.approx(39 / 40)


def test_no_reason_is_spelled_outside_of_its_declaration() -> None:
    for path in HOUSE.rglob("*.py"):
        every = (node.value for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Constant))
        found = [one for one in every if isinstance(one, str) and re.fullmatch(r"dropped: .+", one)]
        assert not found, (path, found)


# ---- what breaks the contract


BAD_MARKS = {
    "too few": (lambda documents: [None] * (len(documents) - 1), "given 40 documents and gave back 39 marks"),
    "too many": (lambda documents: [None] * (len(documents) + 1), "given 40 documents and gave back 41 marks"),
    "no list": (lambda documents: (None for _ in documents), "gave back a generator"),
    "a word": (lambda documents: ["short"] * len(documents), "gave back a str for a document"),
    "a bool": (lambda documents: [True] * len(documents), "gave back a bool for a document"),
    "undeclared": (lambda documents: [Mark("shrot")] * len(documents), 'the reason "shrot"|did you mean "short"'),
    "no text": (lambda documents: [Mark(3)] * len(documents), "the reason 3"),  # type: ignore[arg-type]
    "detail alone": (lambda documents: [Mark(detail="x")] * len(documents), "the detail 'x'|no detail alone"),
    "notes": (lambda documents: [Mark(notes={"a": {1, 2}})] * len(documents), "notes that are no JSON"),
    "not a number": (lambda documents: [Mark(notes={"a": float("nan")})] * len(documents), "notes that are no JSON"),
    "of reading": (lambda documents: [Mark(notes={"label": "x"})] * len(documents), "other than dialogue, label"),
    "list of notes": (lambda documents: [Mark(notes=["a"])] * len(documents), "a mapping by names"),  # type: ignore[arg-type]
    "emptied": (lambda documents: [Mark(text=" ", changed=1)] * len(documents), "rewrites|a reason to drop"),
    "bytes": (lambda documents: [Mark(text=b"x", changed=1)] * len(documents), "rewrites|text in UTF-8"),  # type: ignore[arg-type]
    "surrogate": (lambda documents: [Mark(text="a\ud800", changed=1)] * len(documents), "text in UTF-8"),
    "both": (lambda documents: [Mark("short", text="x", changed=1)] * len(documents), "and rewrites it too"),
    "uncounted": (lambda documents: [Mark(text="other")] * len(documents), "changed = 0"),
}


@pytest.mark.parametrize("name", BAD_MARKS)
def test_what_is_no_mark_names_the_step(store: Store, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    told, words = BAD_MARKS[name]
    monkeypatch.setattr(Says, "_told", told)
    with pytest.raises(UsageError) as error:
        curate({"domain": read(store)}, Curate(steps=(Says(),)), store=store)
    words_of(error, f'step "{Says.__module__}.Says"', *words.split("|"), "allowed:")


def test_a_dialogue_is_not_rewritten(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store.root.parent / "spoken"
    folder.mkdir()
    turns = [[{"role": "user", "content": prose(i, 5)}, {"role": "assistant", "content": "yes"}] for i in range(5)]
    (folder / "d.jsonl").write_text("".join(json.dumps({"messages": one}) + "\n" for one in turns))
    docs = {"domain": ingest([str(folder)], "domain", Ingest(), store=store)}
    monkeypatch.setattr(Says, "_told", lambda documents: [Mark(text="other", changed=5)] * len(documents))
    with pytest.raises(UsageError) as error:
        curate(docs, Curate(steps=(Says(),)), store=store)
    words_of(error, "rewrites the dialogue", "turns are places in its text")
    seen: list[Document] = []
    monkeypatch.setattr(Says, "_told", lambda documents: seen.extend(documents) or [None] * len(documents))
    curate(docs, Curate(steps=(Says(),)), store=store)
    assert len(seen) == 5 and all("dialogue" in one.notes and one.source == "domain" for one in seen)


@dataclass(frozen=True)
class SaysOfCorpus:
    """Says of rows what a test wants it to."""

    reasons: ClassVar[tuple[Reason, ...]] = (SHORT,)

    def mark_corpus(self, needs):
        return type(self)._told(needs)

    _told: ClassVar[Any] = None


BAD_ROWS = {
    "beyond": ([Marks(np.array([99]), "short")], "rows that are not usable"),
    "below": ([Marks(np.array([-1]), "short")], "rows that are not usable"),
    "twice": ([Marks(np.array([3, 3]), "short")], "or twice"),
    "again": ([Marks(np.array([3]), "short"), Marks(np.array([3]), "short")], "or twice"),
    "no rows": ([Marks(np.array(["a"]), "short")], "row numbers"),
    "shares": ([Marks(np.array([0.5]), "short")], "row numbers"),
    "undeclared": ([Marks(np.array([3]), "short_")], 'did you mean "short"'),
    "notes": ([Marks(np.array([3, 4]), notes=[{}])], "gave 1 notes for 2 documents"),
    "a mark": ([Mark("short")], "gave back a Mark"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_what_is_no_row_names_the_step(store: Store, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    told, words = BAD_ROWS[name]
    monkeypatch.setattr(SaysOfCorpus, "_told", lambda needs: told)
    with pytest.raises(UsageError) as error:
        curate({"domain": read(store)}, Curate(steps=(SaysOfCorpus(),)), store=store)
    words_of(error, f'step "{SaysOfCorpus.__module__}.SaysOfCorpus"', words, "allowed:")


def test_texts_are_given_by_split_and_without_what_was_dropped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[int]] = {}

    def look(needs: Needs) -> Iterator[Marks]:
        for of in ("train", "held out", "all"):
            found = list(needs.texts(lambda rows_N, texts: list(zip(rows_N.tolist(), texts, strict=True)), of))
            assert all(text == prose(row) for batch in found for row, text in batch)
            seen[of] = [row for batch in found for row, _ in batch]
        yield from ()

    monkeypatch.setattr(SaysOfCorpus, "_told", look)
    table = rows(curate({"domain": read(store)}, Curate(steps=(Odd(), SaysOfCorpus())), store=store))
    left = [row["position"] for row in table if not row["dropped"]]
    assert seen["all"] == left == sorted([*seen["train"], *seen["held out"]]) and 5 < len(left) < 35
    assert seen["train"] == [row["position"] for row in table if not row["dropped"] and row["split"] == "train"]


@dataclass(frozen=True)
class Misspelt:
    reasons: ClassVar = (SHORT,)

    def marks(self, documents):
        return []


@dataclass(frozen=True)
class Undeclared:
    reason: ClassVar = (SHORT,)

    def mark(self, documents):
        return []


@dataclass(frozen=True)
class Expcts(Odd):
    def expct(self, sample):
        return {}


@dataclass(frozen=True)
class Neither:
    reasons: ClassVar = ()


@dataclass(frozen=True)
class Both(Odd):
    def mark(self, documents):
        return []


@dataclass(frozen=True)
class NoReasons:
    def mark(self, documents):
        return []


@dataclass(frozen=True)
class Words(NoReasons):
    reasons: ClassVar = ("short",)


@dataclass(frozen=True)
class Twice(NoReasons):
    reasons: ClassVar = (SHORT, SHORT)


@dataclass(frozen=True)
class Spaced(NoReasons):
    reasons: ClassVar = (Reason("too short", "left out"),)


@dataclass(frozen=True)
class Silent(NoReasons):
    reasons: ClassVar = (Reason("short", ""),)


@dataclass(frozen=True)
class Loose(NoReasons):
    reasons: ClassVar = (SHORT,)
    least = 20


@dataclass(frozen=True)
class OldKind:
    def __call__(self, docs):
        return docs


class Plain:
    reasons = ()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Misspelt, '"marks", which nothing reads|did you mean "mark"'),
        (Undeclared, '"reason", which nothing reads|did you mean "reasons"'),
        (Expcts, '"expct", which nothing reads|did you mean "expect"'),
        (Neither, "has no verb|mark_corpus(needs)"),
        (Both, "mark"),
        (NoReasons, "declares no reasons|ClassVar"),
        (Words, "('short',)|a tuple of Reason"),
        (Twice, 'declares the reason "short"|each once'),
        (Spaced, 'declares the reason "too short"|lower-case'),
        (Silent, 'declares the reason "short" without a sentence'),
        (Loose, '"least", which nothing reads|annotate it with its type'),
        (OldKind, "has no verb|mark(documents)"),
        (Plain, "is no dataclass"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_no_step_is_refused_before_any_work(kind: type, words: str) -> None:
    with pytest.raises(UsageError) as error:
        Curate(steps=(ExactDuplicates(), kind()))
    words_of(error, f'"{kind.__module__}.{kind.__name__}"', *words.split("|"), "allowed:")


def test_a_recipe_says_so_too(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        house.build(Curate, {"steps": [f"{Misspelt.__module__}.Misspelt"]})
    words_of(error, "Misspelt", 'did you mean "mark"')
