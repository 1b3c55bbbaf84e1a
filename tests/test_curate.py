"""curate: all that was read is accounted for, test text is clean, and equal texts never part."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.core.config import settings as house
from graft.core.config.errors import UsageError
from graft.core.store.artifact import Artifact, Store
from graft.core.store.ledger import Amount
from graft.core.text.documents import SPLITS, doc_id
from graft.core.text.mark_table import SPLIT_NAMES
from graft.core.text.ngrams import PIECE, Held, ngrams
from graft.core.text.split import Ranks, Split
from graft.data.curate import Curate, curate
from graft.data.ingest import ingest
from graft.data.steps.contract import Document, Mark, Marks, Needs, Reason
from graft.data.steps.exact_duplicates import ExactDuplicates
from graft.data.steps.overlap import Overlap
from graft.embedded import text as embedded

WORDS = [f"w{i}" for i in range(5000)]


def prose(seed: int, num_words: int = 60) -> str:
    """Words in an order that no other seed has."""
    return " ".join(random.Random(seed).choices(WORDS, k=num_words))


def assign(split: Split, owners: dict[str, str], beyond: Collection[str] = ()) -> dict[str, str]:
    """The split of every id; owners: id -> the source that the text counts for."""
    return {one: "train" if one in beyond else name for one, name, _ in ranked(split, owners)}


def beyond(split: Split, owners: dict[str, str], sizes: dict[str, int]) -> set[str]:
    return {one for one, _, over in ranked(split, owners, sizes) if over}


def ranked(split: Split, owners: dict[str, str], sizes: dict[str, int] | None = None) -> list[tuple[str, str, bool]]:
    names = list(dict.fromkeys(owners.values()))
    ids = sorted(owners, key=lambda one: (split.place(one), one))
    counts = []
    for name in names:
        places = [split.place(one) for one in ids if owners[one] == name]
        below = [sum(place < border for place in places) for border in (split.test, split.test + split.validation)]
        counts.append(split.counts(len(places), *below))
    ranks, found = Ranks(split, counts), []
    for start in range(0, len(ids), 70):
        some = ids[start : start + 70]
        numbers = np.array([names.index(owners[one]) for one in some])
        splits, over = ranks.take(numbers, np.array([(sizes or {}).get(one, 0) for one in some]))
        found += [(one, SPLITS[name], bool(far)) for one, name, far in zip(some, splits, over, strict=True)]
    return found


def made(top: Path, store: Store, **sources: list[str]) -> dict[str, Artifact]:
    found: dict[str, Artifact] = {}
    for source, content in sources.items():
        folder = top / f"{source} {doc_id(json.dumps(content))[:8]}"
        folder.mkdir(exist_ok=True, parents=True)
        (folder / "d.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in content))
        found[source] = ingest([str(folder)], source, store=store)
    return found


def rows(corpus: Artifact, source: str) -> list[dict]:
    return pq.read_table(corpus / f"{source}.parquet").to_pylist()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


# ---- split


def test_splits_do_not_depend_on_the_other_documents() -> None:
    ids = [doc_id(str(i)) for i in range(3000)]
    alone = {one: place for one in ids for place in assign(Split(), {one: "a"}).values()}
    together = assign(Split(), dict.fromkeys(ids, "a"))
    assert alone == together
    assert assign(Split(), dict.fromkeys(ids[:500], "a") | dict.fromkeys(ids[500:], "b")) == together
    shares = {name: list(together.values()).count(name) / 3000 for name in SPLITS}
    assert shares == pytest.approx({"train": 0.9, "validation": 0.05, "test": 0.05}, abs=0.015)


def test_shares_and_seed_decide_the_split() -> None:
    owners = {doc_id(str(i)): "a" for i in range(2000)}
    plain = assign(Split(), owners)
    assert list(assign(Split(test=0.3), owners).values()).count("test") == pytest.approx(600, abs=70)
    assert list(assign(Split(validation=0.3), owners).values()).count("validation") == pytest.approx(600, abs=70)
    assert assign(Split(seed=1), owners) != plain
    larger = assign(Split(test=0.2), owners)
    assert all(larger[one] == "test" for one, name in plain.items() if name == "test")


def test_more_held_out_text_than_is_ever_scored_returns_to_training() -> None:
    """Golden by hand: in the order of the hash, a document is held out while fewer than `most` bytes come before it."""
    owners = {doc_id(str(i)): "ab"[i % 2] for i in range(2000)}
    sizes = {one: 10 + i % 90 for i, one in enumerate(owners)}
    free, split = assign(Split(most=0), owners), Split(most=1000)
    many = beyond(split, owners, sizes)
    found = assign(split, owners, many)
    order = sorted(owners, key=split.place)
    for source in "ab":
        for name in ("test", "validation"):
            rank = [one for one in order if owners[one] == source and free[one] == name]
            kept = [one for one in rank if found[one] == name]
            assert kept == rank[: len(kept)] and 0 < len(kept) < len(rank)
            total = sum(sizes[one] for one in kept)
            assert total >= 1000 > total - sizes[kept[-1]]
            assert {found[one] for one in rank[len(kept) :]} == {"train"} and set(rank[len(kept) :]) <= many
    assert all(found[one] == "train" for one, name in free.items() if name == "train")
    larger = Split(most=2000)
    more = assign(larger, owners, beyond(larger, owners, sizes))
    assert all(more[one] == name for one, name in found.items() if name != "train")


def test_the_cap_leaves_small_sources_as_they_were() -> None:
    """By the bytes of the embedded text, the splits that the shipped base was trained on stay as they are."""
    owners = {doc_id(str(i)): "a" for i in range(400)}
    split = Split()
    assert not beyond(split, owners, dict.fromkeys(owners, 100_000))  # 40 MB of text, 2 MB of it for each
    assert not beyond(Split(most=0), owners, dict.fromkeys(owners, 10**9))
    assert beyond(Split(most=10**6), owners, dict.fromkeys(owners, 100_000))
    assert {"embedded:prose-full", "embedded:code"} <= set(embedded.NAMES)
    for name in embedded.NAMES:
        assert embedded.Embedded.named(name).size < 10 * split.most  # of source code; a twentieth of its text is scored


def test_a_huge_first_document_is_still_tested_on() -> None:
    owners = {doc_id(str(i)): "a" for i in range(200)}
    split = Split(most=5)
    found = assign(split, owners, beyond(split, owners, dict.fromkeys(owners, 10**9)))
    assert list(found.values()).count("test") == list(found.values()).count("validation") == 1


def test_a_cap_below_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="most is -1"):
        Split(most=-1)


def test_the_cap_holds_in_the_stage(tmp_path: Path, store: Store) -> None:
    content = [prose(i) for i in range(600)]
    docs = made(tmp_path, store, domain=content)
    free = curate(docs, store=store)
    small = curate(docs, Curate(split=Split(most=1500)), store=store)
    sizes = {row["id"]: row["num_bytes"] for row in rows(free, "domain")}
    for name in ("test", "validation"):
        held = [row["id"] for row in rows(small, "domain") if row["split"] == name]
        assert set(held) < {row["id"] for row in rows(free, "domain") if row["split"] == name}
        assert 1500 <= sum(sizes[one] for one in held) < 1500 + max(sizes.values())
    assert small.ledger.read == free.ledger.read


@dataclass(frozen=True)
class DropTested:
    """A step of a user's own: marks the evaluated documents of an even size."""

    reasons: ClassVar = (Reason("even", "left out: an even number of bytes"),)

    def mark_corpus(self, needs: Needs) -> Iterator[Marks]:
        for part in needs.by_text():
            held_out = part.splits_N != SPLIT_NAMES.index("train")
            yield Marks(part.rows_N[held_out & (part.num_bytes_N % 2 == 0)], "even")


def test_what_returned_to_training_does_not_come_back_unseen_by_overlap(tmp_path: Path, store: Store) -> None:
    """A step after overlap drops test text: nothing that overlap took for training may fill the room."""
    docs = made(tmp_path, store, domain=[prose(i) for i in range(600)])
    plain = curate(docs, Curate(steps=(Overlap(),), split=Split(most=3000)), store=store)
    dropping = curate(docs, Curate(steps=(Overlap(), DropTested(), Overlap(n=5)), split=Split(most=3000)), store=store)
    for name in ("test", "validation"):
        held = {row["id"] for row in rows(plain, "domain") if row["split"] == name}
        left = {row["id"] for row in rows(dropping, "domain") if row["split"] == name and not row["dropped"]}
        assert left and left < held


@given(st.integers(2, 30), st.integers(0, 50), st.floats(0.001, 0.6), st.floats(0.001, 0.39))
def test_a_small_source_gets_what_it_needs(num_docs: int, seed: int, validation: float, test: float) -> None:
    owners = {doc_id(f"{seed} {i}"): "a" for i in range(num_docs)}
    split = Split(validation, test, seed)
    found = assign(split, owners)
    names = list(found.values())
    assert names.count("train") >= 1 and names.count("test") >= 1
    assert names.count("validation") >= (num_docs > 2)
    order = {"test": 0, "validation": 1, "train": 2}
    ranks = [order[found[one]] for one in sorted(found, key=split.place)]
    assert ranks == sorted(ranks), "those with the smallest hashes are promoted"


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ({"test": 0.0}, "test is 0.0"),
        ({"validation": 1.5}, "validation is 1.5"),
        ({"validation": 0.6, "test": 0.5}, "validation 0.6 and test 0.5 leave nothing to train on"),
    ],
)
def test_impossible_shares_are_refused(shares: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError) as error:
        Split(**shares)
    assert words in str(error.value) and "allowed:" in str(error.value)


# ---- n-grams


def slow_ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    words = "".join(c if c.isalnum() else " " for c in text.lower()).split()
    return [tuple(words[i : i + n]) for i in range(max(len(words) - n + 1, int(bool(words))))]


@given(st.lists(st.text("abAB c.d\n", max_size=40), max_size=8), st.integers(1, 5))
@settings(deadline=None)
def test_ngrams_agree_with_a_plain_count(texts: list[str], n: int) -> None:
    hashes, owners = ngrams(texts, n)
    expected = [(gram, index) for index, text in enumerate(texts) for gram in slow_ngrams(text, n)]
    assert owners.tolist() == [index for _, index in expected]
    number: dict[tuple[str, ...], int] = {}
    known: dict[int, int] = {}
    for (gram, _), found in zip(expected, hashes.tolist(), strict=True):
        assert number.setdefault(gram, len(number)) == known.setdefault(found, len(known)), gram


@pytest.mark.parametrize(
    ("text", "num_words"),
    [
        ("The end. THE END!", 4),
        ("人工智能的历史", 7),  # no spaces: characters
        ("AI在中国 2024年", 6),  # ai 在 中 国 2024 年
        ("ข้อความ", 7),
        ("القانون المدني", 2),
        ("हिन्दी पाठ", 2),  # vowel signs are marks, and part of their word
        ("snake_case x1", 2),
        ("한국어 문장", 2),
        ("...", 0),
        ("", 0),
    ],
)
def test_what_counts_as_a_word(text: str, num_words: int) -> None:
    assert len(ngrams([text], 1)[0]) == num_words


def test_case_and_signs_do_not_matter_and_order_does() -> None:
    assert ngrams(["One, TWO three"], 3)[0].tolist() == ngrams(["one two -- Three!"], 3)[0].tolist()
    assert ngrams(["one two three"], 3)[0].tolist() != ngrams(["one three two"], 3)[0].tolist()


def test_batches_do_not_change_ngrams() -> None:
    texts = [prose(seed, 40) for seed in range(30)] + ["", "one"]
    hashes, owners = ngrams(texts, 13)
    each = [ngrams([text], 13)[0] for text in texts]
    assert hashes.tolist() == np.concatenate(each).tolist()
    assert owners.tolist() == [index for index, found in enumerate(each) for _ in found]
    long = prose(1, 60) + " " * PIECE + prose(2, 60)
    found, owner = ngrams([long, "end"], 13)
    assert len(found) == 48 + 48 + 1 and owner.tolist() == [0] * 96 + [1]


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1), st.lists(st.integers(0, 2**64 - 1)))
@settings(deadline=None)
def test_looking_up_agrees_with_a_set(held: list[int], asked: list[int]) -> None:
    table = Held.of(np.array(held, np.uint64))
    found = table.hits(np.array(asked + held[:2], np.uint64))
    assert {int(table.sorted[place]) for place in found} == set(held) & {*asked, *held[:2]}


# ---- steps and stage


def test_everything_read_is_in_the_table_in_order(tmp_path: Path, store: Store) -> None:
    content = [prose(i) for i in range(40)] + ["", prose(3), "  "]
    corpus = curate(made(tmp_path, store, domain=content), store=store)
    table = rows(corpus, "domain")
    assert [row["position"] for row in table] == list(range(43))
    assert [row["text"].strip() for row in table] == [one.strip() for one in content]
    assert [row["dropped"] for row in table[40:]] == ["dropped: empty", "dropped: duplicate", "dropped: empty"]
    assert all((row["split"] in SPLITS) == (row["dropped"] in ("", "dropped: duplicate")) for row in table)
    corpus.ledger.check()
    assert corpus.ledger.read["domain"] == Amount(43, sum(row["num_bytes"] for row in table))
    for fate, amount in corpus.ledger.fates["domain"].items():
        met = [row["num_bytes"] for row in table if (row["dropped"] or row["split"]) == fate]
        assert amount == Amount(len(met), sum(met))


def test_the_first_of_equal_texts_is_kept_over_all_sources(tmp_path: Path, store: Store) -> None:
    shared, own = [prose(i) for i in range(5)], [prose(i) for i in range(100, 110)]
    docs = made(tmp_path, store, domain=[*shared, shared[0]], general=[*own, shared[1]])
    corpus = curate(docs, Curate(steps=(ExactDuplicates(),)), store=store)
    assert [row["dropped"] for row in rows(corpus, "domain")] == [""] * 5 + ["dropped: duplicate"]
    assert rows(corpus, "general")[-1]["dropped"] == "dropped: duplicate of domain"
    turned = curate(dict(reversed(docs.items())), Curate(steps=(ExactDuplicates(),)), store=store)
    assert rows(turned, "domain")[1]["dropped"] == "dropped: duplicate of general"
    assert rows(turned, "general")[-1]["dropped"] == ""


def test_without_the_step_duplicates_stay_in_the_same_split(tmp_path: Path, store: Store) -> None:
    content = [prose(i) for i in range(60)]
    docs = made(tmp_path, store, domain=content * 2, general=[*content[:9], prose(100), prose(101)])
    corpus = curate(docs, Curate(steps=()), store=store)
    assert corpus.ledger.fates["domain"].keys() == set(SPLITS)
    split_of: dict[str, set[str]] = {}
    for source in ("domain", "general"):
        for row in rows(corpus, source):
            split_of.setdefault(row["id"], set()).add(row["split"])
    assert all(len(names) == 1 for names in split_of.values())


def planted(tmp_path: Path, store: Store, num_copied: int, step: Overlap, *, into: str = "domain") -> str:
    """What becomes of a test document of 20 words of which num_copied words in a row stand in a train document."""
    split = Split()
    test_seed = next(s for s in range(20_000, 21_000) if split.place(doc_id(prose(s, 20))) < split.test)
    copied = " ".join(prose(test_seed, 20).split()[3 : 3 + num_copied]).upper()
    train = next(
        text
        for text in (f"{prose(seed)} {copied}, {prose(seed + 1)}" for seed in range(6000, 9000))
        if split.place(doc_id(text)) > 0.5
    )
    content = {"domain": [prose(s) for s in range(40)], "general": [prose(s) for s in range(50, 90)]}
    content["domain"].append(prose(test_seed, 20))
    content[into].append(train)
    corpus = curate(made(tmp_path, store, **content), Curate(steps=(step,)), store=store)
    found = rows(corpus, "domain")[40]
    assert found["split"] == "test"
    return found["dropped"]


@pytest.mark.parametrize("into", ["domain", "general"])
def test_a_planted_copy_of_13_words_is_found_and_one_of_12_is_not(tmp_path: Path, store: Store, into: str) -> None:
    strict = Overlap(tolerance=0.0)
    assert planted(tmp_path, store, 13, strict, into=into) == "dropped: overlaps train"
    assert planted(tmp_path, store, 12, strict, into=into) == ""


def test_n_and_tolerance_decide(tmp_path: Path, store: Store) -> None:
    assert planted(tmp_path, store, 12, Overlap(n=12, tolerance=0.0)) == "dropped: overlaps train"
    # 20 words have 8 places of 13-grams; a copy of 14 words covers 2 of them: 25 %
    assert planted(tmp_path, store, 14, Overlap(tolerance=0.24)) == "dropped: overlaps train"
    assert planted(tmp_path, store, 14, Overlap(tolerance=0.25)) == ""


def test_overlap_is_found_in_scripts_without_spaces(tmp_path: Path, store: Store) -> None:
    def chinese(seed: int) -> str:
        return "".join(random.Random(seed).choices([chr(c) for c in range(0x4E00, 0x5E00)], k=40))

    split = Split()
    test_seed = next(s for s in range(5000) if split.place(doc_id(chinese(s))) < split.test)
    copies = (f"{chinese(s)}。{chinese(test_seed)[5:30]}" for s in range(6000, 9000))
    copy = next(text for text in copies if split.place(doc_id(text)) > 0.5)
    content = [chinese(s) for s in range(9000, 9040)] + [chinese(test_seed), copy]
    corpus = curate(made(tmp_path, store, domain=content), store=store)
    assert rows(corpus, "domain")[40]["dropped"] == "dropped: overlaps train"


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12)), min_size=12, max_size=60), st.sampled_from([0.0, 0.2])
)
@settings(deadline=None, max_examples=20)
def test_after_the_step_no_test_document_is_above_the_tolerance(
    tmp_path_factory: pytest.TempPathFactory, mixes: list[tuple[int, int]], tolerance: float
) -> None:
    """Documents are spliced from two passages each, so that many overlap; checked against a count with plain sets."""
    top = tmp_path_factory.mktemp("tolerance")
    content = [f"{prose(a, 30)} {prose(100 + b, 20)} {i % 7}" for i, (a, b) in enumerate(mixes)]
    content += [prose(1000 + i, 30) for i in range(40)]
    step = Overlap(tolerance=tolerance)
    corpus = curate(made(top, Store(top), domain=content), Curate(steps=(ExactDuplicates(), step)), store=Store(top))
    corpus.ledger.check()
    usable = [row for row in rows(corpus, "domain") if row["dropped"] in ("", "dropped: overlaps train")]
    train = {gram for row in usable if row["split"] == "train" for gram in slow_ngrams(row["text"], 13)}
    total = count = 0
    for row in usable:
        if row["split"] != "train":
            grams = slow_ngrams(row["text"], 13)
            shared = sum(gram in train for gram in grams)
            assert bool(row["dropped"]) == (shared > tolerance * len(grams))
            assert json.loads(row["notes"])["overlap"] == [shared, len(grams)]
            total, count = (total, count) if row["dropped"] else (total + shared, count + len(grams))
    noted = corpus.facts["notes"]["overlap"]["domain"].values()
    assert (sum(one["total"] for one in noted), sum(one["count"] for one in noted)) == (total, count)


def test_equal_texts_are_never_in_both_train_and_test(tmp_path: Path, store: Store) -> None:
    content = [prose(i % 37, 20) for i in range(200)]
    corpus = curate(made(tmp_path, store, domain=content, general=[*content[:20], prose(99), prose(98)]), store=store)
    kept = [row for source in ("domain", "general") for row in rows(corpus, source) if not row["dropped"]]
    assert len({row["text"] for row in kept}) == len(kept) == 39


def test_same_bytes_for_same_documents(tmp_path: Path) -> None:
    content = [prose(i) for i in range(300)] + [prose(5)]
    made_by = []
    for number in range(2):
        store = Store(tmp_path / f"store {number} [x]")
        corpus = curate(made(tmp_path, store, domain=content, general=[prose(i) for i in range(400, 450)]), store=store)
        made_by.append([(corpus / f"{source}.parquet").read_bytes() for source in ("domain", "general")])
    assert made_by[0] == made_by[1]


def test_settings_are_rebuilt_from_their_json() -> None:
    given = Curate(steps=(Overlap(n=8, tolerance=0.5), ExactDuplicates()), split=Split(test=0.1))
    assert house.build(Curate, json.loads(json.dumps(house.to_json(given)))) == given
    assert house.build(Curate, {"steps": ["exact_duplicates"]}).steps == (ExactDuplicates(),)


# ---- errors


def said(error: pytest.ExceptionInfo[UsageError], *words: str) -> None:
    for word in words:
        assert word in str(error.value), f"{word!r} is not said in:\n{error.value}"


@pytest.mark.parametrize("content", [["only one"], ["twice", "twice"], ["one", "", " "]])
def test_a_source_with_one_document_is_refused(tmp_path: Path, store: Store, content: list[str]) -> None:
    docs = made(tmp_path, store, domain=content)
    with pytest.raises(UsageError) as error:
        curate(docs, store=store)
    said(error, docs["domain"].facts["paths"][0], "source 'domain' has 1 usable document of its own")
    said(error, "one to train on, one to test on", "split the file into several")


def test_a_source_inside_another_is_refused(tmp_path: Path, store: Store) -> None:
    content = [prose(i) for i in range(6)]
    docs = made(tmp_path, store, domain=content, general=content[2:])
    with pytest.raises(UsageError) as error:
        curate(docs, store=store)
    said(error, "domain and general are the same text", docs["general"].facts["paths"][0], "another path")


def test_a_small_source_replaces_a_test_document_that_was_dropped(tmp_path: Path, store: Store) -> None:
    content = [prose(i) for i in range(12)]
    order = sorted(content, key=lambda one: Split().place(doc_id(one)))
    copy = next(t for t in (f"{order[0]} {prose(s)}" for s in range(100, 200)) if Split().place(doc_id(t)) > 0.5)
    corpus = curate(made(tmp_path, store, domain=[*content, copy]), store=store)
    table = rows(corpus, "domain")
    assert table[content.index(order[0])]["dropped"] == "dropped: overlaps train"
    assert sorted(row["split"] for row in table if not row["dropped"]) == ["test"] + ["train"] * 10 + ["validation"]
    assert [table[content.index(one)]["split"] for one in order[1:3]] == ["test", "validation"]


def test_a_source_without_a_clean_test_document_is_refused(tmp_path: Path, store: Store) -> None:
    content = [f"{prose(1, 200)} {i}" for i in range(40)]
    with pytest.raises(UsageError) as error:
        curate(made(tmp_path, store, domain=content), store=store)
    said(error, "source 'domain' has no test document left", "x dropped: overlaps train", "documents that differ")


def test_a_source_needs_a_name_that_a_file_can_have(tmp_path: Path, store: Store) -> None:
    docs = made(tmp_path, store, domain=["one", "two"])
    with pytest.raises(UsageError) as error:
        curate({"a/b": docs["domain"]}, store=store)
    said(error, 'a source is called "a/b"', "allowed: letters")


@dataclass(frozen=True)
class Deletes:
    """A step that breaks the contract."""

    reasons: ClassVar = ()

    def mark(self, documents: Sequence[Document]) -> list[Mark | None]:
        return [None for _ in documents[1:]]


@dataclass(frozen=True)
class DropShort:
    """A step of a user's own: marks what is short."""

    reasons: ClassVar = (Reason("short", "left out: hardly any text"),)

    least: int = 20

    def mark(self, documents: Sequence[Document]) -> list[Mark | None]:
        return [Mark("short") if one.num_bytes < self.least else None for one in documents]


def test_a_step_that_deletes_is_refused(tmp_path: Path, store: Store) -> None:
    with pytest.raises(UsageError) as error:
        curate(made(tmp_path, store, domain=["one", "two", "three"]), Curate(steps=(Deletes(),)), store=store)
    said(error, "Deletes", "was given 3 documents and gave back 2 marks", "it never deletes")


def test_a_step_of_ones_own_leaves_every_source_its_splits(tmp_path: Path, store: Store) -> None:
    content = [f"s{i}" for i in range(60)] + [prose(i) for i in range(3)]
    corpus = curate(made(tmp_path, store, domain=content), Curate(steps=(DropShort(), Overlap())), store=store)
    fates = corpus.ledger.fates["domain"]
    assert fates["dropped: short"].documents == 60
    assert {name: fates[name].documents for name in SPLITS} == dict.fromkeys(SPLITS, 1)


def test_daft_is_told_not_to_report_its_use() -> None:
    script = (
        "import urllib.request as r\n"
        "def opened(*a, **k): print('called', a)\n"
        "r.urlopen = opened\n"
        "import graft.core.text.daft_frames, graft.data.curate, threading, sys\n"
        "[t.join(5) for t in threading.enumerate() if t is not threading.main_thread()]\n"
        "print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False"]
