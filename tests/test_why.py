"""graft why: the inverse of the sampler against brute force, and every answer against files, shards and batches."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

import command
import graft.packing.sampler as sampler_module
from conftest import OTHER, WORDS, World, write_source, write_texts
from graft.core.config.errors import FaultError, UsageError
from graft.core.models.base_model import Base
from graft.core.stats.outliers import Spikes, standing_out
from graft.core.store.artifact import Artifact, Store
from graft.core.store.lineage import LineageGraph
from graft.core.text.documents import doc_id
from graft.core.text.split import Split
from graft.core.tokens.token_shards import CHOSEN, REJECTED
from graft.jobs.adapt import Adapt
from graft.lineage.exposure import expose
from graft.lineage.training_runs import RunSegment, legs
from graft.lineage.why.query import Why
from graft.packing.sampler import PACKINGS, Sampler

BATCHES = 120


# --- the inverse of the sampler ---------------------------------------------------------------------------------------


def walked(sampler: Sampler, batches: int) -> dict[str, list[tuple[int, ...]]]:
    """(row, place in it, document, first, last) of every piece of every batch, by going through all of them."""
    found: dict[str, list[tuple[int, ...]]] = {name: [] for name in sampler.names}
    for k in range(batches):
        for i, row in enumerate(sampler.pieces(k)):
            at = 0
            for piece in row:
                found[piece.source].append((k * sampler.rows + i, at, piece.document, piece.first, piece.last))
                at += piece.last - piece.first
    return found


lengths = st.lists(st.integers(1, 90), min_size=1, max_size=12)


@given(
    one=lengths, two=lengths, share=st.sampled_from([0.1, 0.37, 0.8, 1.0]), window=st.integers(3, 40),
    rows=st.integers(1, 5), batches=st.integers(1, 50), seed=st.integers(0, 5), packing=st.sampled_from(PACKINGS[:2]),
    chunk=st.sampled_from([7, 1 << 16]),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_the_inverse_is_every_batch_gone_through(
    tmp_path_factory, one, two, share, window, rows, batches, seed, packing, chunk
):
    folder = tmp_path_factory.mktemp("tokens")
    sources = {name: write_source(folder, name, [*sizes, 5]) for name, sizes in {"domain": one, "general": two}.items()}
    mixture = {"domain": share} | ({"general": 1 - share} if share < 1 else {})
    before = sampler_module.CHUNK
    sampler_module.CHUNK = chunk
    try:
        make = lambda: Sampler(sources, mixture, window=window, rows=rows, seed=seed, packing=packing)  # noqa: E731
        brute, asked = walked(make(), batches), make()
        for name, source in sources.items():
            every = source.documents("train")
            for documents in (every, every[::2], every[-1:]):
                places = asked.places(name, documents, batches)
                wanted = set(documents.tolist())
                found = [tuple(map(int, place)) for place in zip(*places[:5], strict=True)]
                assert found == [place for place in brute.get(name, []) if place[2] in wanted]
            read = asked.places(name, every, batches)
            if name in brute:
                assert int((read.last_N - read.first_N).sum()) == asked.tokens_by_source(batches)[name]
                laps = Counter[tuple[int, int, int]]()  # of every pair, in which pass it was read, once each
                for document, first, last, lap in zip(*(column.tolist() for column in read[2:]), strict=True):
                    laps.update((document, pair, lap) for pair in range(first, last))
                assert not laps or max(laps.values()) == 1
    finally:
        sampler_module.CHUNK = before


def test_the_inverse_of_pairs(tmp_path):
    """Chosen and rejected answers are documents of their own; a pair longer than a row is nowhere."""
    write_source(tmp_path, "domain", sizes := [9, 7, 30, 40, 12, 12, 5, 20])
    index = tmp_path / "domain-00000.npz"
    stored = dict(np.load(index))
    stored["role"] = np.array([CHOSEN, REJECTED] * 4, np.int8)
    stored["position"] = np.repeat(np.arange(4), 2)
    np.savez(index, **stored)
    from graft.core.tokens.token_shards import TokenSource

    source = TokenSource(tmp_path, "domain")
    make = lambda: Sampler({"domain": source}, {"domain": 1.0}, window=32, rows=3, seed=1, packing="pairs")  # noqa: E731
    places = make().places("domain", np.arange(len(sizes)), 10)
    assert [tuple(map(int, place)) for place in zip(*places[:5], strict=True)] == walked(make(), 10)["domain"]
    assert {2, 3}.isdisjoint(places.document_N.tolist()) and {0, 1, 4, 5, 6, 7} == set(places.document_N.tolist())


def test_the_inverse_costs_no_walk_through_batches(tmp_path):
    """Two million rows: a walk would take a minute."""
    import time

    source = write_source(tmp_path, "domain", np.random.default_rng(0).integers(20, 900, 200_000).tolist())
    other = write_source(tmp_path, "general", [400] * 1000)
    sampler = Sampler({"domain": source, "general": other}, {"domain": 0.8, "general": 0.2}, window=64, rows=64, seed=0)
    batches = 2_000_000 // 64
    started = time.process_time()
    places = sampler.places("domain", np.array([123_456]), batches)
    assert int((places.last_N - places.first_N).sum()) >= source.pairs_D[123_456] and time.process_time() - started < 10
    step = int(places.row_N[0]) // 64
    assert 123_456 in {piece.document for row in sampler.pieces(step) for piece in row}


# --- what stands out --------------------------------------------------------------------------------------------------


def wave(size: int = 60) -> np.ndarray:
    """Of any five neighbours the median is 3.0, and the median distance from it 0.1."""
    return 3.0 + 0.1 * np.array([0, 2, -1, 1, -2] * (size // 5))


def test_a_spike_stands_above_both_of_its_sides():
    loss = wave()
    loss[30] = 4.0
    assert Spikes()(loss) == [(30, pytest.approx(3.0))]
    falling = wave() + np.linspace(3, 0, 60)  # steep at first, and no step of it is a spike
    stairs = np.concatenate([wave(), wave() + 1])  # rises to stay
    assert Spikes()(falling) == [] and Spikes()(stairs) == []
    loss[30] = np.inf
    assert [place for place, _ in Spikes()(loss)] == [30]


def test_what_is_not_finite_stands_out_wherever_it_stands():
    for broken in (np.nan, np.inf):
        loss = wave()
        loss[[0, 2, 58]] = broken
        assert [place for place, _ in Spikes()(loss)] == [0, 2, 58]
        assert Spikes()(loss)[0][1] == pytest.approx(3.0)  # of those after it, where none came before
    [(place, usual)] = Spikes()([np.nan])
    assert place == 0 and np.isnan(usual)
    assert [place for place, _ in Spikes()([np.nan] * 3)] == [0, 1, 2]
    loss = wave()
    loss[2] = 9.0  # finite, and too few came before it
    assert Spikes()(loss) == []


def test_each_setting_of_the_rule_has_an_effect():
    loss = wave()
    loss[30] = 3.5  # 5 median distances of 0.1 above, and 17 % of 3.0
    found = lambda **borders: [place for place, _ in Spikes(**borders)(loss)]  # noqa: E731
    assert found(k=4) == [30] and found(k=6) == []
    assert found(k=4, least=0.2) == []
    loss[3] = 9.0  # three came before it
    assert found(k=4) == [30] and found(k=4, fewest=2) == [3, 30]
    loss[32:40] = 3.5  # a plateau: among 8 neighbours it is what is usual, among 25 it is not
    assert 30 in found(k=3, near=25) and 30 not in found(k=3, near=8)
    with pytest.raises(UsageError, match="fewest <= near"):
        Spikes(near=2)


def test_standing_out_is_in_median_distances():
    among = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0])  # median 5, distances 4 3 2 1 0 1 2 3 4: median 2
    assert standing_out(np.array([5.0, 30.0, -30.0]), among).tolist() == [0.0, 12.5, -17.5]
    assert standing_out(np.array([30.0]), among[:7]).tolist() == [0.0]  # too few
    assert standing_out(np.array([30.0]), np.ones(20)).tolist() == [0.0]  # all alike


# --- a real run -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """A small adaptation by the project's own stages, and the files it was made of."""

    store: Store
    folder: Path
    out: Path
    report: Artifact
    run: Artifact

    def ask(self, artifact: str | Artifact = "", document: str = "", **question: Any) -> dict[str, Any]:
        name = artifact.name if isinstance(artifact, Artifact) else artifact or self.report.name
        return Why(name, document, **question)(self.store)

    @property
    def leg(self) -> RunSegment:
        return RunSegment(self.run, "the run", LineageGraph(self.store.root))


def sentences(seed: int, words: list[str], count: int) -> str:
    draw = np.random.default_rng(seed)
    return "\n".join(" ".join(draw.choice(words, 9)) + "." for _ in range(count))


def rubbish(count: int) -> str:
    """A text like no other, in which what comes next cannot be known; one that the split gives to training."""
    for seed in range(100):
        draw = np.random.default_rng(seed)
        text = "".join(draw.choice(list("@#%~^&*|<>{}=+0123456789QZXJKV"), count))
        if Split().place(doc_id(text)) > 0.2:
            return text
    raise AssertionError


@pytest.fixture(scope="module")
def made(world: World, tmp_path_factory) -> Made:
    """Two passes and more over 80 documents with copies, an empty row and one that is like no other."""
    root = tmp_path_factory.mktemp("why")
    texts = [sentences(100 + i, WORDS, 3 + i % 7) for i in range(80)]
    texts[20] = texts[4]  # line 21 is a copy of line 5
    texts[33] = rubbish(90)
    texts[50] = ""
    (root / "domain" / "sub").mkdir(parents=True)
    (root / "domain" / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (root / "domain" / "sub" / "one.txt").write_text(sentences(999, WORDS, 12))
    write_texts(root / "general", OTHER, 60, seed=2)
    (root / "general" / "copy.txt").write_text(texts[7])  # a copy of line 8 in the other source
    adapt = Adapt(
        base=str(world.base.folder), domain=(str(root / "domain"),), general=(str(root / "general"),), replay=0.25,
        out=str(root / "out"),
    )  # fmt: skip
    adapt = replace(
        adapt,
        train=replace(
            adapt.train,
            tokens=64 * 4 * BATCHES,
            sequence_length=64,
            batch_size=4,
            learning_rate=3e-3,
            precision="fp32",
            evaluations=3,
        ),
    )
    store = Store(root / "store")
    outcome = adapt(store)
    kinds = {one.kind: one for one in outcome.artifacts}
    return Made(store, root, root / "out", kinds["report"], kinds["train"])


def text_of(made: Made, line: int) -> str:
    return json.loads((made.folder / "domain" / "rows.jsonl").read_text().splitlines()[line - 1])["text"]


def trained_line(made: Made) -> int:
    """The first line that is for training and that a row cuts."""
    for line in range(1, 80):
        told = made.ask(document=f"rows.jsonl#{line}")
        if told["runs"][0]["trained"] and len(told["runs"][0]["stretches"]) > 3:
            return line
    raise AssertionError


def test_from_a_line_of_a_file_to_the_tokens_of_its_steps(made):
    """Golden: the file's line, read by the tokenizers library alone, is what stands in the batches that are named."""
    line = trained_line(made)
    told = made.ask(document=f"rows.jsonl#{line}")
    assert told["document"]["path"] == str(made.folder / "domain" / "rows.jsonl")
    assert told["document"]["place"] == f"line {line}" and told["fate"]["fate"] == "train"
    tokenizer = Tokenizer.from_file(str(made.out / "model" / "tokenizer.json"))
    end = json.loads((made.out / "model" / "config.json").read_text())["eos_token_id"]
    targets = [*tokenizer.encode(text_of(made, line), add_special_tokens=False).ids, end]
    run = told["runs"][0]
    assert run["tokens"] == len(targets)
    counted = Counter[int]()
    for one in run["stretches"]:
        batch = made.leg.sampler.batch(one["step"] - 1)
        stretch = targets[one["from"] - 1 : one["to"]]
        row = batch.targets_BT[one["row"] - 1].tolist()
        assert row[one["at"] - 1 : one["at"] - 1 + len(stretch)] == stretch
        counted.update(range(one["from"], one["to"] + 1))
    assert set(counted) == set(range(1, len(targets) + 1)) and sum(counted.values()) == run["read"]
    passes = made.run.facts["passes"]["domain"]
    assert int(passes) <= min(counted.values()) and max(counted.values()) <= int(passes) + 1
    assert [lap["share"] for lap in run["passes"]][: int(passes) - 1] == [1.0] * (int(passes) - 1)
    entry = made.leg.curve[run["stretches"][0]["step"]]
    total, count = entry["loss"]["domain"]
    assert run["stretches"][0]["loss"] == pytest.approx(total / count) and run["stretches"][0]["rate"] == entry["rate"]


def test_all_documents_together_are_all_tokens_that_the_run_noted(made):
    for source, tokens in made.leg.sources.items():
        positions = tokens.position_D.tolist()
        exposed = [expose(made.leg, source, [position]) for position in positions]
        reads = [one.read for one in exposed if one]
        assert sum(reads) == made.run.facts["tokens"][source] == expose(made.leg, source, positions).read
        held_out = set(tokens.documents("test").tolist()) | set(tokens.documents("validation").tolist())
        assert held_out and all(exposed[document].read == 0 for document in held_out)


def test_a_document_is_found_by_every_name(made):
    line = trained_line(made)
    by_line = made.ask(document=f"rows.jsonl#{line}")
    path = made.folder / "domain" / "rows.jsonl"
    position = by_line["document"]["document"]
    for name in (f"{path}#{line}", f"./domain/rows.jsonl#{line}", position, by_line["document"]["id"][:12]):
        assert made.ask(document=name)["document"] == by_line["document"], name
    assert made.ask(document="one.txt")["document"]["file"] == "sub/one.txt"


@pytest.mark.parametrize("kind", ["train", "report", "findings", "evidence", "tokens", "corpus", "docs"])
def test_any_artifact_leads_to_the_run(made, kind):
    line = trained_line(made)
    for artifact in (one for one in made.store.artifacts() if one.kind == kind):
        if artifact.facts.get("source") == "general":
            continue
        told = made.ask(artifact, f"rows.jsonl#{line}")
        assert [run["run"] for run in told["runs"]] == [made.run.name] and told["runs"][0]["trained"]


def test_results_lead_to_the_run(made, tmp_path):
    line = trained_line(made)
    wanted = made.ask(document=f"rows.jsonl#{line}")["runs"][0]["stretches"]
    shutil.copytree(made.out / "model", tmp_path / "elsewhere")  # without the mark: known by its content
    for name in (made.out, made.out / "model", made.out / "report.html", tmp_path / "elsewhere", made.run.path):
        assert made.ask(str(name), f"rows.jsonl#{line}")["runs"][0]["stretches"] == wanted, name


def test_a_file_is_the_sum_of_its_documents(made):
    told = made.ask(document="rows.jsonl")
    assert told["of"] == 80 and sum(one["documents"] for one in told["fates"].values()) == 80
    singles = [made.ask(document=f"rows.jsonl#{line}") for line in range(1, 81)]
    own = [one["runs"][0] for one in singles if not one["fate"]["fate"].startswith("dropped")]
    run = told["runs"][0]
    assert run["read"] == sum(one["read"] for one in own) and run["documents"] == sum(one["trained"] for one in own)
    assert len(made.ask(document="rows.jsonl", most=3)["documents"]) == 3


def test_what_was_dropped_says_by_which_step_and_for_what(made):
    copy = made.ask(document="rows.jsonl#21")
    assert (copy["fate"]["fate"], copy["fate"]["by"]) == ("dropped: duplicate", "exact_duplicates")
    assert copy["fate"]["kept"]["from"] == ["rows.jsonl#5"]
    first = made.ask(document="rows.jsonl#5")
    assert [one["from"] for one in first["fate"]["copies"]] == [["rows.jsonl#21"]]
    assert copy["runs"][0]["as"] == [first["document"]["document"]]
    assert copy["runs"][0]["stretches"] == first["runs"][0]["stretches"]
    other = made.ask(document="copy.txt")
    assert other["fate"]["fate"] == "dropped: duplicate of domain" and other["fate"]["kept"]["from"] == ["rows.jsonl#8"]
    empty = made.ask(document="rows.jsonl#51")
    assert empty["fate"]["by"] == "reading" and not empty["runs"][0]["trained"]
    assert "left out before training (dropped: empty)" in empty["runs"][0]["why"]


@pytest.mark.parametrize(("split", "words"), [("test", "never trained on"), ("validation", "watched while training")])
def test_what_was_held_out_says_so_and_where_it_was_scored(made, split, words):
    from graft.core.records.evidence import read_evidence

    tokens = made.leg.sources["domain"]
    position = int(tokens.position_D[tokens.documents(split)[0]])
    told = made.ask(document=f"domain:{position}")
    assert not told["runs"][0]["trained"] and words in told["runs"][0]["why"]
    if split == "validation":
        (look,) = told["scored"]
        assert look["watched"] == made.run.name and look["looks"] == [0, 40, 80, 120] and look["tokens"] > 0
        return
    assert [one["when"] for one in told["scored"]] == [f"before {made.run.name}", f"after {made.run.name}"]
    for one in told["scored"]:
        evidence = read_evidence(made.store.get(one["evidence"]))["domain"]
        _, nats = evidence.document(int(np.flatnonzero(evidence.position_D == position)[0]))
        assert one["nats_per_token"] == pytest.approx(float(nats.mean()), rel=1e-5)


def test_a_step_is_told_row_by_row(made):
    told = made.ask(f"{made.run.name}@7")
    assert (
        told["step"] == 7
        and told == made.ask(made.run, step=7)
        and told == made.ask(step=7) | {"artifact": made.run.name}
    )
    batch = made.leg.sampler.batch(6)
    tokenizer = Tokenizer.from_file(str(made.out / "model" / "tokenizer.json"))
    names = list(made.leg.sampler.names)
    assert [row["source"] for row in told["in_rows"]] == [names[i] for i in batch.source_B.tolist()]
    for row in told["in_rows"]:
        assert sum(piece["to"] - piece["from"] + 1 for piece in row["pieces"]) == 64
        for piece in row["pieces"]:
            begin, size = piece["at"] - 1, piece["to"] - piece["from"] + 1
            ids = batch.targets_BT[row["row"] - 1, begin : begin + min(24, size)].tolist()
            assert piece["excerpt"] == tokenizer.decode(ids, skip_special_tokens=False)
            back = made.ask(document=piece["document"])["runs"][0]["stretches"]
            wanted = (7, row["row"], piece["at"], piece["from"], piece["to"])
            assert wanted in [tuple(one[key] for key in ("step", "row", "at", "from", "to")) for one in back]
    entry = made.leg.curve[7]
    assert told["norm"] == entry["norm"] and told["rate"] == entry["rate"]
    assert {name: one["loss"] for name, one in told["sources"].items()} == {
        name: pytest.approx(total / count) for name, (total, count) in entry["loss"].items()
    }


def test_the_spike_that_one_document_makes_leads_to_it(made):
    strange = made.ask(document="rows.jsonl#34")["runs"][0]
    told = made.ask(spikes=True)
    assert told["found"] == len(told["spikes"]) > 0 and "8 median distances" in told["rule"]
    worst = told["spikes"][0]
    assert worst["step"] in {one["step"] for one in strange["stretches"]} and worst["loss"] > worst["usual"]
    assert any(one["from_file"] == ["rows.jsonl#34"] for one in worst["documents"])
    step = made.ask(made.run, step=worst["step"])
    odd = [piece for row in step["in_rows"] for piece in row["pieces"] if piece["unusual"]]
    assert {piece["from_file"][0] for piece in odd} == {"rows.jsonl#34"}
    assert step["sources"]["domain"]["usual"] == pytest.approx(worst["usual"])
    assert made.ask(spikes=True, rule=Spikes(k=1000))["found"] == 0
    assert len(made.ask(spikes=True, rule=Spikes(k=2), most=1)["spikes"]) == 1
    page = (made.out / "report.html").read_text()
    assert f"graft why {made.run.name} --spikes" in page and f"domain step {worst['step']}" in page


# --- rows of a report -------------------------------------------------------------------------------------------------


def test_an_item_of_the_blame_table_leads_to_its_documents(made):
    """Golden: the table's own row, the documents' text, and a count of every stored token."""
    (findings,) = [one for one in made.store.artifacts() if one.kind == "findings"]
    rows = json.loads((findings / "blame.json").read_text())
    row = max((one for one in rows if one["source"] == "domain" and one["text"].strip()), key=lambda one: one["count"])
    told = made.ask(item=row["text"], most=1000)
    scored = next(one for one in told["scored"] if one["source"] == "domain")
    assert scored["count"] == row["count"] and scored["blame"] == pytest.approx(row["blame"])
    assert sum(one["blame"] for one in scored["holders"]) == pytest.approx(row["blame"])
    for one in scored["holders"]:
        name = one["from_file"][0]
        file, _, line = name.partition("#")
        text = text_of(made, int(line)) if line else (made.folder / "domain" / file).read_text()
        for place in one["places"]:
            assert text[place["character"] - 1 :].startswith(row["text"]) and place["excerpt"][1] == row["text"]
            assert text.splitlines()[place["line"] - 1][place["column"] - 1 :].startswith(row["text"])
    (run,) = told["training"]
    for source in run["sources"]:
        tokens, read, steps = made.leg.sources[source["source"]], 0, set()
        for k in range(BATCHES):
            batch = made.leg.sampler.batch(k)
            mine = batch.source_B.numpy() == list(made.leg.sampler.names).index(source["source"])
            hits = int((batch.targets_BT.numpy()[mine] == row["token"]).sum())
            read += hits
            steps |= {k + 1} if hits else set()
        held = [int((tokens.tokens(d, 1) == row["token"]).sum()) for d in tokens.documents("train")]
        assert (source["occurrences"], source["read"], source["steps"]) == (sum(held), read, len(steps))
        assert [one["step"] for one in source["first"]] == sorted(steps)[:5]


def test_a_class_and_a_word_of_several_tokens(made):
    (findings,) = [one for one in made.store.artifacts() if one.kind == "findings"]
    rows = [one for one in json.loads((findings / "blame.json").read_text()) if one["source"] == "domain"]
    told = made.ask(sort="newline", source="domain")
    wanted = [one for one in rows if one["class"] == "newline"]
    assert told["scored"][0]["count"] == sum(one["count"] for one in wanted) > 0
    assert told["scored"][0]["blame"] == pytest.approx(sum(one["blame"] for one in wanted))
    assert made.ask(item="\\n")["words"] == "\n"
    tokenizer = Tokenizer.from_file(str(made.out / "model" / "tokenizer.json"))
    tokens = made.leg.sources["domain"]
    train, test = (
        [tokenizer.decode(tokens.tokens(d, 1).tolist(), skip_special_tokens=True) for d in tokens.documents(split)]
        for split in ("train", "test")
    )
    phrase = " ".join(max(test, key=len).split("\n")[0].split()[2:4])  # two words, so that no item is both
    assert phrase not in {one["text"].strip() for one in rows}
    told = made.ask(item=phrase, most=1000)
    scored = next(one for one in told["scored"] if one["source"] == "domain")
    assert scored["count"] == sum(f" {text}".count(f" {phrase}") for text in test) > 0
    domain = next(one for one in told["training"][0]["sources"] if one["source"] == "domain")
    assert domain["occurrences"] == sum(f" {text}".replace("\n", "\n ").count(f" {phrase}") for text in train)
    assert domain["read"] >= domain["occurrences"] * int(made.run.facts["passes"]["domain"]) > 0


def test_a_fate_leads_to_its_documents(made):
    by_step = made.ask(fate="exact_duplicates")
    assert [(one["source"], one["documents"]) for one in by_step["groups"]] == [("domain", 1), ("general", 1)]
    assert by_step["groups"][0]["first"][0]["kept"]["from"] == ["rows.jsonl#5"]
    assert made.ask(fate="duplicate")["groups"] == by_step["groups"][:1]
    assert made.ask(fate="dropped: duplicate of domain", source="general")["groups"] == by_step["groups"][1:]
    corpus = next(one for one in made.store.artifacts() if one.kind == "corpus")
    for fate in ("train", "test", "empty"):
        for group in made.ask(fate=fate)["groups"]:
            amount = corpus.ledger.fates[group["source"]][group["fate"]]
            assert (group["documents"], group["bytes"]) == (amount.documents, amount.bytes)
    with pytest.raises(UsageError, match="met the fate") as error:
        made.ask(fate="overlap train")
    assert "duplicate" in str(error.value)


# --- branches, chains, packings, budgets ------------------------------------------------------------------------------


def test_a_branch_says_which_steps_its_trunk_made(made, world):
    from graft.training.decay_branch import DecayNow
    from graft.training.settings import Train
    from graft.training.train import train

    tokens = next(one for one in made.store.artifacts() if one.kind == "tokens")
    plain = Train(
        tokens=64 * 4 * 12,
        sequence_length=64,
        batch_size=4,
        learning_rate=1e-3,
        precision="fp32",
        evaluations=1,
        keep_every=6,
        seed=5,
    )
    mixture = {"domain": 0.75, "general": 0.25}
    trunk = train(world.base, tokens, mixture, plain, store=made.store)
    branch = train(world.base, tokens, mixture, replace(plain, decay_now=DecayNow(at=6, over=2)), store=made.store)
    line = trained_line(made)
    long, short = (made.ask(one, f"rows.jsonl#{line}")["runs"] for one in (trunk, branch))
    assert len(long) == len(short) == 1 and short[0]["trunk"] == (trunk.name, 6)
    keys = ("step", "row", "at", "from", "to", "loss")
    told = [[tuple(one[key] for key in keys) for one in run[0]["stretches"]] for run in (long, short)]
    assert told[1] == [one for one in told[0] if one[0] <= 6] + [one for one in told[1] if one[0] > 6]
    assert {one[:5] for one in told[1]} == {one[:5] for one in told[0] if one[0] <= 8}
    assert made.ask(branch, step=6)["trunk"] == (trunk.name, 6) and made.ask(branch, step=7)["trunk"] is None
    several = made.ask(tokens, f"rows.jsonl#{line}")["runs"]
    assert {run["run"] for run in several} == {made.run.name, trunk.name, branch.name}
    with pytest.raises(UsageError, match="3 runs have to do with"):
        made.ask(tokens, step=1)


def test_a_chain_of_models_is_followed_to_its_beginning(made, tmp_path):
    """The second run begins from the folder that the first one left, on other text that shares a document."""
    (tmp_path / "second").mkdir()
    line = trained_line(made)
    for i in range(20):
        (tmp_path / "second" / f"{i}.txt").write_text(sentences(5000 + i, OTHER, 9))
    (tmp_path / "second" / "again.txt").write_text(text_of(made, line))
    adapt = Adapt(
        base=str(made.out / "model"), domain=(str(tmp_path / "second"),), general=(str(made.folder / "general"),),
        out=str(tmp_path / "out"),
    )  # fmt: skip
    adapt = replace(
        adapt,
        train=replace(
            adapt.train, tokens=64 * 4 * 6, sequence_length=64, batch_size=4, precision="fp32", evaluations=1
        ),
    )
    second = next(one for one in adapt(made.store).artifacts if one.kind == "train")
    told = made.ask(str(tmp_path / "out"), "again.txt")
    assert [(run["run"], run["role"]) for run in told["runs"]] == [
        (second.name, "the run"), (made.run.name, f"before {second.name}"),
    ]  # fmt: skip
    assert told["runs"][1]["as"] == [made.ask(document=f"rows.jsonl#{line}")["document"]["document"]]
    first = made.ask(document=f"rows.jsonl#{line}")["runs"][0]
    assert told["runs"][1]["stretches"] == first["stretches"]
    other = next(
        row for row in range(1, 60) if row != line and made.ask(document=f"rows.jsonl#{row}")["runs"][0]["trained"]
    )
    earlier = made.ask(str(tmp_path / "out"), f"rows.jsonl#{other}")  # only the first run's text holds it
    assert [run["trained"] for run in earlier["runs"]] == [False, True]
    with pytest.raises(UsageError, match="nowhere.jsonl"):
        made.ask(str(tmp_path / "out"), "nowhere.jsonl#3")
    family = LineageGraph(made.store.root)
    assert [leg.run.name for leg in legs(second, family)] == [second.name, made.run.name]
    shutil.rmtree(made.out / "model")  # the folder is gone: its content is known
    assert [leg.run.name for leg in legs(second, family)] == [second.name, made.run.name]
    shutil.copytree(made.run / "model", made.out / "model")


def test_whole_documents_in_rows(made, world):
    from graft.training.settings import Train
    from graft.training.train import train

    tokens = next(one for one in made.store.artifacts() if one.kind == "tokens")
    plain = Train(
        tokens=64 * 4 * 20,
        sequence_length=64,
        batch_size=4,
        learning_rate=1e-3,
        precision="fp32",
        evaluations=1,
        packing="whole",
        seed=2,
    )
    run = train(world.base, tokens, {"domain": 0.6, "general": 0.4}, plain, store=made.store)
    leg = RunSegment(run, "the run", LineageGraph(made.store.root))
    for source, held in leg.sources.items():
        assert expose(leg, source, held.position_D.tolist()).read == run.facts["tokens"][source]
    step = made.ask(run, step=3)
    assert all(row["pieces"][0]["at"] == 1 for row in step["in_rows"])
    one = step["in_rows"][0]["pieces"][-1]
    back = made.ask(run, one["document"])["runs"][0]["stretches"]
    assert (3, 1, one["at"]) in [(stretch["step"], stretch["row"], stretch["at"]) for stretch in back]


def test_preference_pairs(world, tmp_path):
    from graft.data.curate import curate
    from graft.data.ingest import ingest
    from graft.data.tokenize import Tokenize, tokenize
    from graft.training.objectives.preference import Preference
    from graft.training.settings import Train
    from graft.training.train import train

    draw = np.random.default_rng(0)
    (tmp_path / "pairs").mkdir()
    rows = [
        {
            "prompt": f"{i} " + " ".join(draw.choice(WORDS, 3)), "chosen": " ".join(draw.choice(WORDS, 3)),
            "rejected": " ".join(draw.choice(OTHER, 40 if i == 11 else 3)),
        }
        for i in range(40)
    ]  # fmt: skip
    (tmp_path / "pairs" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    store = Store(tmp_path / "store")
    corpus = curate({"domain": ingest([str(tmp_path / "pairs")], "domain", store=store)}, store=store)
    tokens = tokenize(corpus, world.base, Tokenize(pairs=True), store=store)
    asked = Train(
        objective=Preference(),
        tokens=64 * 4 * 8,
        sequence_length=64,
        batch_size=4,
        learning_rate=1e-4,
        precision="fp32",
        evaluations=1,
    )
    run = train(world.base, tokens, {"domain": 1.0}, asked, store=store)
    leg = RunSegment(run, "the run", LineageGraph(store.root))
    assert expose(leg, "domain", leg.sources["domain"].position_D.tolist()).read == run.facts["tokens"]["domain"]
    line = next(n for n in range(1, 41) if Why(run.name, f"rows.jsonl#{n}")(store)["runs"][0]["trained"])
    told = Why(run.name, f"rows.jsonl#{line}")(store)["runs"][0]
    assert [one["rejected"] for one in told["stretches"][:2]] == [False, True]
    assert told["stretches"][0]["row"] == told["stretches"][1]["row"] and told["counted"] < told["tokens"]
    left = Why(run.name, "rows.jsonl#12")(store)
    assert left["fate"]["fate"] != "train" or "longer than a row" in left["runs"][0]["why"]


@pytest.mark.slow
def test_a_budget_lists_its_run_and_its_pilots(world, tmp_path):
    from graft.core.config.errors import GateClosed
    from graft.jobs.budget import Budget

    adapt = Adapt(
        base=str(world.base.folder), domain=(str(world.domain),), general=(str(world.general),), out=str(tmp_path / "o")
    )
    training = replace(
        adapt.train,
        tokens=64 * 4 * 120,
        sequence_length=64,
        batch_size=4,
        learning_rate=4e-3,
        precision="fp32",
        evaluations=1,
    )
    store = Store(tmp_path / "store")
    job = Budget(forget=0.9, adapt=replace(adapt, train=training))
    with suppress(GateClosed):  # its report is written all the same
        job(store)
    report = next(one for one in store.artifacts() if one.kind == "report")
    told = Why(report.name, "domain:3")(store)
    roles = [run["role"] for run in told["runs"]]
    assert roles[0] == "the run" and roles.count("pilot") >= 2
    assert told["runs"][0]["run"] == report.manifest["inputs"]["trained"]


def test_a_comparison_of_two_models(made, world, tmp_path):
    """Its documents are found in the training text of the model after; items by the tokenizer that both share."""
    from graft.jobs.compare import Compare

    line = trained_line(made)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "seen.txt").write_text(text_of(made, line))
    for i in range(4):
        (tmp_path / "texts" / f"{i}.txt").write_text(sentences(7000 + i, WORDS, 9))
    job = Compare(
        before=str(world.base.folder), after=str(made.out / "model"), text=(str(tmp_path / "texts"),),
        out=str(tmp_path / "out"),
    )  # fmt: skip
    job = replace(job, pool=replace(job.pool, seen_too=True))
    contrast = next(one for one in job(made.store).artifacts if one.kind == "contrast")
    for name in (str(tmp_path / "out"), contrast.name):
        told = made.ask(name, "seen.txt")
        assert told["fate"]["words"].startswith("scored, like all text of a comparison")
        (run,) = told["runs"]
        first = made.ask(document=f"rows.jsonl#{line}")
        assert (run["run"], run["role"], run["as"]) == (made.run.name, "after", [first["document"]["document"]])
        assert run["stretches"] == first["runs"][0]["stretches"]
        assert {one["when"] for one in told["scored"]} == {f"before {made.run.name}", f"after {made.run.name}"}
        assert len(told["scored"]) == 2
    page = (tmp_path / "out" / "report.html").read_text()
    assert contrast.name in page
    item = max(json.loads((contrast / "blame.json").read_text()), key=lambda one: one["count"])
    told = made.ask(str(tmp_path / "out"), item=item["text"])
    assert told["scored"][0]["count"] == item["count"] and told["scored"][0]["blame"] == pytest.approx(item["blame"])
    assert told["training"][0]["sources"][0]["read"] > 0


# --- a stream of domains ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def streamed(world: World, tmp_path_factory) -> tuple[Store, Artifact]:
    """Two domains, of which joint learns both at once, in its last turn."""
    from graft.continual.methods.joint import Joint
    from graft.continual.methods.naive import Naive
    from graft.continual.methods.replay import Replay
    from graft.continual.settings import Judge
    from graft.evaluation.score_documents import Evaluate
    from graft.jobs.continual import Continual
    from graft.training.settings import Train

    root = tmp_path_factory.mktemp("streamed")
    job = Continual(
        base=str(world.base.folder), domains={"law": str(world.domain), "sea": str(world.general)},
        general=(str(write_texts(root / "rest", OTHER + WORDS, 40, seed=7)),), methods=(Naive(), Replay(0.25), Joint()),
        train=Train(tokens=64 * 4 * 60, sequence_length=64, batch_size=4, learning_rate=2e-3, evaluations=1,
        precision="fp32"), evaluate=Evaluate(max_tokens=2000), judge=Judge(draws=100), out=str(root / "out"),
    )  # fmt: skip
    store = Store(root / "store")
    return store, job(store).artifacts[-1]


def test_a_document_of_a_stream_is_told_by_method_and_turn(streamed):
    """Each training as it tells of itself; a domain is read in its own turn, and by joint in the last."""
    store, stream = streamed
    family = LineageGraph(store.root)
    every = legs(stream, family)
    assert [leg.role for leg in every] == [
        "naive, seed 0, turn 1", "naive, seed 0, turn 2", "replay 25 %, seed 0, turn 1", "replay 25 %, seed 0, turn 2",
        "joint, seed 0, turn 2",
    ]  # fmt: skip
    law = every[0].sources["law"]
    places = every[0].places("law", law.documents("train"))
    document = f"law:{law.position_D[places.document_N[0]]}"
    told = Why(stream.name, document)(store)
    assert told["corpus"] == every[0].corpus.name and told["fate"]["fate"] == "train" and told["gone"] == []
    assert [run["run"] for run in told["runs"]] == [leg.run.name for leg in every]
    by_role = {run["role"]: run for run in told["runs"]}
    assert by_role["naive, seed 0, turn 1"]["trained"] and by_role["naive, seed 0, turn 1"]["turns"] == [
        {"method": "naive", "seed": 0, "turn": 1}
    ]
    assert by_role["naive, seed 0, turn 2"]["why"] == "this run read no law text: its share was 0"
    for run in told["runs"]:
        (alone,) = (one for one in Why(run["run"], document)(store)["runs"] if one["run"] == run["run"])
        assert alone["stretches"] == run["stretches"] and alone["read"] == run["read"]
    assert sum(run["trained"] for run in told["runs"]) >= 3


def test_what_stream_models_made_of_a_document_is_told_by_turn(streamed):
    store, stream = streamed
    leg = legs(stream, LineageGraph(store.root))[0]
    source = leg.sources["sea"]
    document = f"sea:{source.position_D[source.documents('test')[0]]}"
    whens = [one["when"] for one in Why(stream.name, document)(store)["scored"]]
    roles = [f"after {one.role}" for one in legs(stream, LineageGraph(store.root))]
    assert sorted(whens) == sorted(["before the stream", *roles])


def test_a_training_that_methods_share_is_told_once_and_one_that_is_gone_is_named(streamed, tmp_path):
    copied = Store(shutil.copytree(streamed[0].root, tmp_path / "store"))
    first, second, third = [leg.run for leg in legs(copied.get(streamed[1].name), LineageGraph(copied.root))][:3]
    start = copied.get(streamed[1].manifest["inputs"]["start"])
    inputs = {"start": start, "a, b, seed 0, turn 1: trained": first, "c: d, seed 0, turn 1: trained": first}
    inputs |= {"a, b, seed 0, turn 2: trained": second, "c: d, seed 0, turn 2: trained": third}
    stream = copied.make("stream", {}, inputs, (), lambda draft: None)
    every = legs(stream, LineageGraph(copied.root))
    assert [leg.role for leg in every] == [
        "a, b, seed 0, turn 1; c: d, seed 0, turn 1", "a, b, seed 0, turn 2", "c: d, seed 0, turn 2"
    ]  # fmt: skip
    shutil.rmtree(third.path)
    told = Why(stream.name, "law:0")(copied)
    assert [run["run"] for run in told["runs"]] == [first.name, second.name] and told["gone"] == [third.name]


def test_a_step_of_a_stream_is_asked_of_one_training(streamed):
    store, stream = streamed
    for question in ({"step": 3}, {"spikes": True}):
        with pytest.raises(UsageError, match="has 5 trainings") as error:
            Why(stream.name, **question)(store)
        assert "(replay 25 %, seed 0, turn 2)" in str(error.value) and "name one of them" in str(error.value)


def test_the_terminal_shows_a_stream_line_by_line(streamed):
    store, stream = streamed
    leg = legs(stream, LineageGraph(store.root))[0]
    law = leg.sources["law"]
    place = leg.places("law", law.documents("train")).document_N[0]
    process = call(stream.name, f"law:{law.position_D[place]}", "--store", store.root)
    assert process.returncode == 0, process.stderr
    rows = [line.split() for line in process.stdout.splitlines()]
    assert ["naive", "0", "1"] in [row[:3] for row in rows] and ["joint", "0", "2"] in [row[:3] for row in rows]
    assert "of 5 runs of the stream" in process.stdout and f"graft why {leg.run.name}" in process.stdout


def test_the_answers_of_a_run_s_model_lead_to_its_text(made):
    """Evidence of no text of its own: what it was made from is the run, and the run has a corpus."""
    from graft.evaluation.benchmarks.run_benchmark import answer
    from graft.evaluation.benchmarks.settings import Answer

    asked = answer(
        Base(made.run.name, made.run / "model"), ("embedded:quiz",), Answer(limit=4), store=made.store
    )  # fmt: skip
    told = made.ask(asked, "domain:3")
    assert [run["run"] for run in told["runs"]] == [made.run.name]


# --- what cannot be answered ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({"document": "domian:3"}, ['no source "domian"', "domain, general", 'did you mean "domain"?']),
        ({"document": "domain:900"}, ["domain has no document 900", "0 to 80"]),
        ({"document": "rows.json#3"}, ["is no document of corpus-", 'did you mean "rows.jsonl#3"?']),
        ({"document": "deadbeefdeadbeef"}, ["is no document of", "FILE#ROW"]),
        ({"step": 0}, ["has no step 0", "1 to 120", "look at validation text"]),
        ({"step": 121}, ["has no step 121", "1 to 120"]),
        ({"item": "qqqqq"}, ['holds no token or word "qqqqq"', "vocabulary item"]),
        ({"sort": "newlines"}, ['no item of class "newlines"', 'did you mean "newline"?']),
        ({"item": ".", "source": "doman"}, ['no text of source "doman"', 'did you mean "domain"?']),
        ({"document": "domain:3", "spikes": True}, ["a document and --spikes are asked at once"]),
        ({"source": "domain"}, ["--item, --class or --fate"]),
        ({"most": 0}, ["most is 0", "1 or more"]),
    ],
)
def test_wrong_questions_say_what_is_allowed(made, question, words):
    with pytest.raises(UsageError) as error:
        made.ask(**question)
    assert all(word in str(error.value) for word in words), error.value


def test_models_of_others_are_refused(made, world, tmp_path):
    shutil.copytree(world.base.folder, tmp_path / "model")
    for name in ("embedded", str(tmp_path / "model")):
        with pytest.raises(UsageError, match="was not made in this store"):
            made.ask(name, "domain:3")
    with pytest.raises(UsageError, match="graft did not make this"):
        made.ask(str(tmp_path), "domain:3")
    with pytest.raises(UsageError, match="which is not in the store") as error:
        Why(str(made.out), "domain:3")(Store(tmp_path / "empty"))
    assert "--store" in str(error.value)


def test_a_run_whose_tokens_are_gone_says_what_to_do(made, tmp_path):
    copied = Store(shutil.copytree(made.store.root, tmp_path / "store"))
    tokens = copied.get(made.run.manifest["inputs"]["tokens"])
    shutil.rmtree(tokens.path)
    for question in (Why(made.run.name, "domain:3"), Why(made.run.name, step=3), Why(made.run.name, spikes=True)):
        with pytest.raises(UsageError, match=f"was trained on {tokens.name}, which is not in the store") as error:
            question(copied)
        assert "run the same command or recipe again" in str(error.value)
    told = Why(made.report.name, "domain:3")(copied)  # the corpus is there
    assert "not in the store any more" in told["runs"][0]["why"] and told["document"]["from"]


def test_a_run_of_another_sampler_is_not_guessed_at(made, tmp_path):
    copied = Store(shutil.copytree(made.store.root, tmp_path / "store"))
    path = copied.root / made.run.name / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["settings"]["seed"] += 1  # as if batches had been drawn otherwise
    path.write_text(json.dumps(manifest))
    with pytest.raises(FaultError, match="cannot tell which step read what"):
        Why(made.run.name, step=3)(copied)


def test_a_source_that_is_only_measured(made, world):
    from graft.training.settings import Train
    from graft.training.train import train

    tokens = next(one for one in made.store.artifacts() if one.kind == "tokens")
    plain = Train(
        tokens=64 * 4 * 3, sequence_length=64, batch_size=4, learning_rate=1e-3, precision="fp32", evaluations=1, seed=9
    )
    run = train(world.base, tokens, {"domain": 1.0}, plain, store=made.store)
    general = made.leg.sources["general"]
    position = int(general.position_D[general.documents("train")[0]])
    told = made.ask(run, f"general:{position}")["runs"][0]
    assert not told["trained"] and "its share was 0" in told["why"]
    domain = made.leg.sources["domain"]
    never = [
        told["runs"][0]["why"]
        for d in domain.documents("train")
        if not (told := made.ask(run, f"domain:{domain.position_D[d]}"))["runs"][0]["trained"]
    ]
    assert never and all("it never came up: the run made 0." in words for words in never)


# --- the command line -------------------------------------------------------------------------------------------------


def call(*arguments: object) -> CompletedProcess[str]:
    return command.call("why", *arguments)


def test_the_command_line_prints_and_writes_every_answer(made, tmp_path):
    store, name, out = ("--store", made.store.root), made.report.name, tmp_path / "told.json"
    line = trained_line(made)
    said = {
        (f"rows.jsonl#{line}",): ["trained on", "rows.jsonl, line", "pass", f"graft why {made.run.name}@"],
        ("rows.jsonl",): ["80 documents", "dropped: empty", "and 70 documents more"],
        ("--step", "5"): ["step 5 of 120", "gradient norm", "rows.jsonl#"],
        ("--spikes",): ["stand out", "rows.jsonl#34"],
        ("--item", "\\n"): ["⏎", "in training", "first in step"],
        ("--fate", "exact_duplicates"): ["copy of", "rows.jsonl#21"],
    }
    for arguments, words in said.items():
        process = call(name, *arguments, *store, "--json", out)
        assert process.returncode == 0, process.stderr
        assert all(word in process.stdout for word in words), process.stdout
        assert json.loads(out.read_text())["artifact"] == name
    tree = call(name, *store)
    assert f"trained: {made.run.name}" in tree.stdout and str(made.folder / "domain") in tree.stdout
    wrong = call(name, "domain:900", *store)
    assert wrong.returncode == 2 and "allowed: 0 to 80" in wrong.stderr
    assert call(name, "--k", "3", *store).returncode == 2


def test_hostile_names_are_printed_as_they_are(made, world, tmp_path):
    (tmp_path / "texts").mkdir()
    for i in range(8):
        (tmp_path / "texts" / f"[red]{i}[bold].txt").write_text(f"[bold]{i}[/bold] " + sentences(i, WORDS, 6))
    store = Store(tmp_path / "store")
    from graft.data.curate import curate
    from graft.data.ingest import ingest

    corpus = curate({"domain": ingest([str(tmp_path / "texts")], "domain", store=store)}, store=store)
    process = call(corpus.name, "[red]3[bold].txt", "--store", store.root)
    assert process.returncode == 0 and "[red]3[bold].txt" in process.stdout and "[bold]3[/bold]" in process.stdout
    assert "no training run in this store" in process.stdout


def test_no_torch_is_loaded_to_answer(made):
    line = trained_line(made)
    code = (
        "import sys; from pathlib import Path; from graft.lineage.why.query import Why; "
        "from graft.core.store.artifact import Store; "
        f"Why({made.report.name!r}, 'rows.jsonl#{line}')(Store(Path({str(made.store.root)!r}))); "
        f"Why({made.run.name!r}, spikes=True)(Store(Path({str(made.store.root)!r}))); print('torch' in sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500, check=True)
    assert process.stdout.strip() == "False"


def test_the_model_of_a_run_is_its_own_base(made):
    """What `graft why` follows is what training wrote down: the origin of the base."""
    assert made.run.origins["base"] and Base(made.run.name, made.run / "model").origin == made.run.name
