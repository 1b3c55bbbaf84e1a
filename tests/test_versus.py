"""Two models compared on any text: alignment, exact blame, planted causes, and every wrong request with its words."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from command import call
from conftest import OTHER, WORDS, World, write_texts
from graft.core.config.errors import FaultError, UsageError
from graft.core.models.base_model import Base
from graft.core.records.evidence import Evidence, read_evidence
from graft.core.records.span_alignment import ReadDocument, align, words
from graft.core.store.artifact import Artifact
from graft.data.curate import curate
from graft.data.ingest import ingest
from graft.data.tokenize import Tokenize, tokenize
from graft.evaluation.compare.pool_documents import Pool
from graft.evaluation.compare.token_differences import Contrast
from graft.evaluation.probes.left_out import LeftOut
from graft.evaluation.probes.terms import Terms
from graft.evaluation.score_documents import Evaluate
from graft.jobs.adapt import Adapt, Outcome
from graft.jobs.compare import Compare, labels
from graft.report.comparison.stage import Present
from graft.surgery.initialize import Initialize, initialize
from graft.training.settings import Train
from graft.training.train import train


def trained(world: World, base: Base, folder: Path, tokens: int) -> Base:
    """A model really trained on a folder."""
    docs = ingest([str(folder)], "domain", store=world.store)
    corpus = curate({"domain": docs}, store=world.store)
    shards = tokenize(corpus, base, Tokenize(), store=world.store)
    how = Train(tokens=tokens, batch_size=8, learning_rate=5e-3, evaluations=1, precision="fp32")
    made = train(base, shards, {"domain": 1.0}, how, store=world.store)
    return Base(made.name, made / "model")


@pytest.fixture(scope="module")
def before(world, tmp_path_factory) -> Base:
    """A tiny model that knows the made-up sentences and their line breaks."""
    return trained(world, world.base, world.domain, 150_000)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Path:
    """Text of the same kind that nobody was trained on."""
    return write_texts(tmp_path_factory.mktemp("fresh") / "fresh", WORDS, 12, seed=77)


@pytest.fixture(scope="module")
def stripped(world, before, tmp_path_factory) -> Base:
    """The planted cause: adapted to the same kind of text with its newlines stripped."""
    folder = write_texts(tmp_path_factory.mktemp("stripped") / "stripped", WORDS, 60, seed=5)
    for path in folder.iterdir():
        path.write_text(path.read_text().replace("\n", " "))
    return trained(world, before, folder, 60_000)


@pytest.fixture(scope="module")
def other_tokenizer(world, tmp_path_factory) -> Base:
    """A model with a tokenizer of its own: trained on other text, with other merges."""
    folder = write_texts(tmp_path_factory.mktemp("other") / "other", OTHER + WORDS[:6], 40, seed=8)
    corpus = curate({"domain": ingest([str(folder)], "domain", store=world.store)}, store=world.store)
    sizes = Initialize(vocabulary=400, width=32, layers=1, heads=2, feed_forward=64, window=64)
    made = initialize(corpus, sizes, store=world.store)
    return trained(world, Base("other", made / "model"), world.domain, 60_000)


def compared(world: World, before: Base, after: Base, text: Path, out: Path, **more: object) -> Outcome:
    job = Compare(str(before.folder), str(after.folder), (str(text),), out=str(out))
    return replace(job, **more)(world.store)


def made(outcome: Outcome, kind: str) -> list[Artifact]:
    return [one for one in outcome.artifacts if one.kind == kind]


def test_planted_newlines_are_named_first(world, before, stripped, fresh, tmp_path):
    outcome = compared(world, before, stripped, fresh, tmp_path / "out")
    row = outcome.summary["texts"]["fresh"]
    assert row["verdict"] == "worse" and row["interval"][0] > 0
    assert row["cause"]["item"]["text"] == "\n" and row["cause"]["class"]["class"] == "newline"
    assert row["cause"]["item"]["share"] > 0.5
    assert "Of this change the item ⏎ (newline) makes" in outcome.summary["verdict"]
    rest = row["without"]["newline"]
    assert rest["change"] < row["change"] / 2 and rest["share"] == pytest.approx(row["cause"]["class"]["share"])
    assert row["nats_per_token"] and row["unit"] == "token"
    page = (outcome.out / "report.html").read_text()
    assert "The change without them" in page and "The parts sum to the total change" in page
    assert "https:" not in page and "http:" not in page.replace('"http://www.w3.org/2000/svg"', "")


def test_a_planted_spelling_is_named_first(world, before, fresh, tmp_path):
    folder = write_texts(tmp_path / "kourt", ["kourt" if word == "court" else word for word in WORDS], 60, seed=6)
    after = trained(world, before, folder, 60_000)
    outcome = compared(world, before, after, fresh, tmp_path / "out")
    row = outcome.summary["texts"]["fresh"]
    assert row["verdict"] == "worse"
    assert row["cause"]["word"]["text"] == "court" and row["cause"]["word"]["share"] > 0.5
    assert row["cause"]["item"]["text"].strip() in "court"  # a piece of it: the vocabulary has no token for it
    assert "Of this change the word court (other) makes" in outcome.summary["verdict"]
    terms = json.loads((made(outcome, "contrast")[0] / "terms.json").read_text())
    assert terms[-1]["text"] == "court" and terms[-1]["mean_change"] > 1


def reading(offsets, length, nats, mark=None) -> ReadDocument:
    return ReadDocument.of(offsets, length, np.array(nats, float), mark)


def test_spans_by_hand():
    old = reading([(0, 2), (2, 3), (3, 6)], 6, [1, 2, 4], 0.5)  # ab|c| de
    new = reading([(0, 1), (1, 3), (3, 4), (4, 6)], 6, [1, 1, 1, 3], 0.25)  # a|bc| |de
    spans = align(6, old, new)
    assert spans.texts("abc de") == ["abc", " de", ""]
    assert spans.before_S.tolist() == [3, 4, 0.5] and spans.after_S.tolist() == [2, 4, 0.25]
    assert spans.tokens_before_S.tolist() == [2, 1, 1] and spans.tokens_after_S.tolist() == [2, 2, 1]
    assert words("abc de", spans).tolist() == [0, 1, 2]


def test_a_character_of_several_tokens_is_not_cut():
    old = reading([(0, 1)] * 4 + [(1, 2)], 2, [1, 1, 1, 1, 1])
    new = reading([(0, 1), (0, 1), (1, 2)], 2, [2, 2, 2])
    assert align(2, old, new).before_S.tolist() == [4, 1]


def test_a_space_that_a_tokenizer_leaves_out_belongs_to_what_follows():
    spans = align(4, reading([(0, 1), (2, 3)], 4, [1, 2]), reading([(0, 1), (1, 3), (3, 4)], 4, [1, 1, 1]))
    assert spans.texts("a b ") == ["a", " b "] and spans.after_S.tolist() == [1, 2]


def test_what_one_alone_scored_is_left_out_of_both_and_counted():
    old = reading([(0, 2), (2, 4), (4, 6)], 6, [np.nan, 1, 2], 0.5)
    new = reading([(0, 1), (1, 2), (2, 4), (4, 6)], 6, [1, 1, 1, np.nan])
    spans = align(6, old, new)
    assert (spans.texts("abcdef"), spans.left_out, spans.marks_left_out) == (["cd"], 4, 1)


def test_a_word_is_one_however_it_is_cut():
    text = "don_t stop,now"
    one = reading([(0, 3), (3, 5), (5, 10), (10, 11), (11, 14)], 14, [1] * 5)
    spans = align(14, one, one)
    assert words(text, spans).tolist() == [0, 0, 1, 2, 3]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_spans_add_up_to_what_was_measured(data):
    length = data.draw(st.integers(1, 60))
    sides = []
    for seed in data.draw(st.tuples(st.integers(0, 99), st.integers(0, 99))):
        draw = np.random.default_rng(seed)
        inner = draw.choice(np.arange(1, length), draw.integers(0, length), replace=False) if length > 1 else []
        ends = [*sorted(map(int, inner)), length]
        sides.append(
            reading(list(zip([0, *ends[:-1]], ends, strict=True)), length, draw.exponential(3, len(ends)), 1.0)
        )
    spans = align(length, *sides)
    for side, nats in zip(sides, (spans.before_S, spans.after_S), strict=True):
        assert nats.sum() == pytest.approx(side.nats_T.sum() + 1.0, rel=1e-12)
    assert "".join(spans.texts("x" * length)) == "x" * length
    shared = set(sides[0].end_T.tolist()) & set(sides[1].end_T.tolist())
    assert spans.end_S.tolist() == [*sorted(shared), length]


def evidence(nats, targets, vocabulary, source="domain") -> Evidence:
    """nats, targets: a list per document."""
    lengths = [len(one) for one in nats]
    return Evidence(
        source, np.arange(len(nats)), np.array(lengths), np.append(0, np.cumsum(lengths)),
        np.concatenate(targets).astype(np.uint32), np.concatenate(nats).astype(float), vocabulary,
    )  # fmt: skip


VOCABULARY = {0: "\n", 1: " law", 2: "x"}
TARGETS = [[0, 1, 2], [0, 1]]
OLD = evidence([[1, 2, 1], [1, 2]], TARGETS, VOCABULARY)
NEW = evidence([[4, 2.5, 1], [2, 1]], TARGETS, VOCABULARY)


def test_left_out_by_hand():
    rows = {row["left_out"]: row for row in LeftOut(top=(1, 2))({"domain": OLD}, {"domain": NEW})}
    assert set(rows) == {"top 1", "newline", "other"}  # no second item rose
    assert rows["top 1"]["items"] == ["\n"] and rows["top 1"]["count"] == 2
    assert rows["newline"]["share"] == pytest.approx(4 / 3.5)
    assert (rows["newline"]["before"], rows["newline"]["after"]) == (5 / 3, pytest.approx(4.5 / 3))
    assert rows["newline"]["change"] == pytest.approx(-0.1) and rows["newline"]["interval"]
    assert rows["other"]["change"] == pytest.approx(2)


def test_left_out_says_when_nothing_remains():
    one = evidence([[1.0], [2.0]], [[0], [0]], VOCABULARY)
    row = LeftOut(top=())({"domain": one}, {"domain": one})[0]
    assert row["verdict"] == "nothing remains" and row["change"] is None and row["share"] is None


def test_left_out_draws_anew_with_another_seed():
    draw = np.random.default_rng(3)
    nats = [draw.uniform(1, 3, 3) for _ in range(20)]
    old = evidence(nats, [[0, 1, 2]] * 20, VOCABULARY)
    new = evidence([one * draw.uniform(0.8, 1.2, 3) for one in nats], [[0, 1, 2]] * 20, VOCABULARY)
    intervals = [LeftOut(seed=seed)({"domain": old}, {"domain": new})[-1]["interval"] for seed in (0, 0, 1)]
    assert intervals[0] == intervals[1] != intervals[2]


def test_terms_are_of_letters_seen_often_enough_and_sorted_by_their_own_change():
    both = {"domain": OLD}, {"domain": NEW}
    assert [(row["text"], row["mean_change"]) for row in Terms(min_count=1)(*both)] == [(" law", -0.25), ("x", 0)]
    assert [row["text"] for row in Terms(min_count=2)(*both)] == [" law"]
    assert Terms()(*both) == []
    general = evidence([[1.0] * 9], [[2] * 9], VOCABULARY, "general")
    law = evidence([[1.0] * 9], [[1] * 9], VOCABULARY)
    beside = {"domain": law, "general": general}
    assert Terms()(beside, beside)[0]["class"] == "domain term"
    assert Terms(domain="general")(beside, beside)[0]["class"] == "other"
    assert Terms(term_ratio=1e9)(beside, beside)[0]["class"] == "other"


def test_shared_tokens_blame_adds_up_to_the_measured_change(world, before, stripped, fresh, tmp_path):
    outcome = compared(world, before, stripped, fresh, tmp_path / "out", reference=str(world.general))
    row = outcome.summary["texts"]["fresh"]
    old, new = (read_evidence(one)["fresh"] for one in made(outcome, "evidence"))
    found = json.loads((made(outcome, "contrast")[0] / "blame.json").read_text())
    change = new.nats_N.astype(float).mean() - old.nats_N.astype(float).mean()
    assert sum(one["blame"] for one in found if one["source"] == "fresh") == pytest.approx(change, rel=1e-6)
    text = "\0".join(path.read_text() for path in sorted(fresh.iterdir()))
    assert row["bits_per_byte"]["after"] == pytest.approx(
        new.nats_N.astype(float).sum() / math.log(2) / len(text.replace("\0", "").encode()), rel=1e-9
    )
    assert row["nats_per_word"]["before"] == pytest.approx(
        old.nats_N.astype(float).sum() / len(text.replace("\0", " ").split()), rel=1e-9
    )
    assert {one["class"] for one in found if one["source"] == "fresh"} >= {"domain term", "newline"}
    assert list(outcome.summary["texts"]) == ["fresh", "general"] and outcome.summary["reference"] == "general"


def test_other_tokenizers_are_compared_by_spans_that_add_up(world, before, other_tokenizer, fresh, tmp_path):
    outcome = compared(world, before, other_tokenizer, fresh, tmp_path / "out")
    row = outcome.summary["texts"]["fresh"]
    sides = [read_evidence(one)["fresh"] for one in made(outcome, "evidence")]
    assert len(sides[0].nats_N) != len(sides[1].nats_N)
    totals = [side.nats_N.astype(float).sum() for side in sides]
    found = json.loads((made(outcome, "contrast")[0] / "blame.json").read_text())
    assert sum(one["blame"] for one in found) * row["units"] == pytest.approx(totals[1] - totals[0], rel=1e-6)
    assert row["change"] == pytest.approx(totals[1] / totals[0] - 1, rel=1e-9)
    num_bytes = sum(len(path.read_bytes()) for path in fresh.iterdir())
    assert row["bytes"] == num_bytes
    for side, total in zip(("before", "after"), totals, strict=True):
        assert row["bits_per_byte"][side] == pytest.approx(total / math.log(2) / num_bytes, rel=1e-9)
    assert row["unit"] == "span" and row["perplexity"] is None and row["nats_per_token"] is None
    assert not any(row["left_out"].values())
    page = (outcome.out / "report.html").read_text()
    assert "The tokenizers differ" in page and "tokens differ" in page and "nats per span" in page
    documents = json.loads(page.partition('id="data">')[2].partition("</script>")[0])["documents"]
    assert len(documents) == 12
    first = next(one for one in documents if one["position"] == 0)
    assert "".join(token[0] for token in first["tokens"]) == sorted(fresh.iterdir())[0].read_text()


def test_cut_documents_are_compared_where_both_scored_them(world, before, other_tokenizer, fresh, tmp_path):
    scored = Evaluate(max_tokens=800)
    row = compared(world, before, other_tokenizer, fresh, tmp_path / "out", evaluate=scored).summary["texts"]["fresh"]
    assert row["left_out"]["characters"] > 0 and row["bytes"] < 4000
    assert any("scored by one of the models alone" in note for note in
               json.loads((tmp_path / "out" / "summary.json").read_text())["notes"])  # fmt: skip


def test_text_that_was_trained_on_is_refused_or_marked(world, before, stripped, fresh, tmp_path):
    folder = tmp_path / "mixed"
    shutil.copytree(fresh, folder)
    corpus = next(one for one in world.store.artifacts() if one.name == _corpus_of(world, stripped))
    table = pq.read_table(corpus / "domain.parquet").to_pylist()
    known = next(row["text"] for row in table if row["split"] == "train" and not row["dropped"])
    held_out = next(row["text"] for row in table if row["split"] == "test" and not row["dropped"])
    (folder / "known.txt").write_text("A new first line. " + known)
    (folder / "unseen.txt").write_text(held_out)
    with pytest.raises(UsageError, match="1 of the 14 documents of mixed were in the text") as refused:
        compared(world, before, stripped, folder, tmp_path / "out")
    assert "known.txt" in str(refused.value) and "--seen-too" in str(refused.value)
    outcome = compared(world, before, stripped, folder, tmp_path / "out", pool=Pool(seen_too=True))
    assert outcome.summary["texts"]["mixed"]["seen"] == 1
    assert any("1 documents of mixed were trained on" in note for note in outcome.summary["notes"])
    assert "(trained on)" in (outcome.out / "report.html").read_text()
    for lenient in (Pool(tolerance=1.0), Pool(n=10_000)):
        assert (
            compared(world, before, stripped, folder, tmp_path / "out", pool=lenient).summary["texts"]["mixed"]["seen"]
            == 0
        )


def _corpus_of(world: World, base: Base) -> str:
    tokens = Artifact(base.folder.parent).manifest["inputs"]["tokens"]
    return Artifact(world.store.root / tokens).manifest["inputs"]["corpus"]


def test_a_model_that_was_handed_over_is_known_by_its_mark(world, before, tmp_path):
    small = Train(tokens=2_000, batch_size=4, learning_rate=1e-4, evaluations=1)
    job = Adapt(str(before.folder), (str(world.domain),), (str(world.general),), out=str(tmp_path / "out"), train=small)
    job(world.store)
    with pytest.raises(UsageError, match="documents of domain were in the text"):
        Compare(str(before.folder), str(tmp_path / "out" / "model"), (str(world.domain),), out=str(tmp_path / "c"))(
            world.store
        )
    shutil.copytree(tmp_path / "out", tmp_path / "elsewhere")
    mark = tmp_path / "elsewhere" / ".graft.json"
    said = json.loads(mark.read_text())
    said["entries"]["model"]["from"] = "train-000000000000/model"
    mark.write_text(json.dumps(said))
    lone = Base("lone", tmp_path / "elsewhere" / "model")
    outcome = compared(world, world.base, lone, world.domain, tmp_path / "c")
    assert any("was not checked" in note for note in outcome.summary["notes"])


def test_copies_and_what_was_trained_from_them_are_known_too(world, before, tmp_path):
    """A bare copy by its content; a model that was adapted from an adapted one by the whole chain."""
    small = Train(tokens=2_000, batch_size=4, learning_rate=1e-4, evaluations=1)
    first = Adapt(
        str(before.folder), (str(world.domain),), (str(world.general),), out=str(tmp_path / "one"), train=small
    )
    first(world.store)
    shutil.copytree(tmp_path / "one" / "model", tmp_path / "bare")
    other = write_texts(tmp_path / "other", OTHER[::-1], 30, seed=77)
    chained = replace(first, base=str(tmp_path / "one" / "model"), domain=(str(other),), out=str(tmp_path / "two"))
    chained(world.store)
    shutil.copytree(world.domain, tmp_path / "renamed")
    for model in (tmp_path / "bare", tmp_path / "two" / "model"):
        job = Compare(str(before.folder), str(model), (str(tmp_path / "renamed"),), out=str(tmp_path / "c"))
        with pytest.raises(UsageError, match="documents of renamed were in the text"):
            job(world.store)


def test_the_same_model_twice_changes_nothing(world, before, fresh, tmp_path):
    summary = compared(world, before, before, fresh, tmp_path / "out").summary
    row = summary["texts"]["fresh"]
    assert (row["verdict"], row["change"], row["cause"]) == ("no change", 0, None)
    assert any("the same model" in note for note in summary["notes"])


def test_one_document_has_no_interval_and_says_so(world, before, stripped, fresh, tmp_path):
    one = sorted(fresh.iterdir())[0]
    summary = compared(world, before, stripped, one, tmp_path / "out").summary
    [row] = summary["texts"].values()
    assert row["interval"] is None and row["verdict"] == "no interval (one document)" and row["cause"] is None
    assert "one document: no interval" in summary["verdict"] and any(
        "one document" in note for note in summary["notes"]
    )
    assert "one document: no interval" in (tmp_path / "out" / "report.html").read_text()


def test_copies_count_once_and_the_reference_gives_way(world, before, stripped, fresh, tmp_path):
    folder = tmp_path / "twice"
    shutil.copytree(fresh, folder)
    shutil.copy(sorted(folder.iterdir())[0], folder / "copy.txt")
    reference = write_texts(tmp_path / "known", OTHER, 5, seed=4)
    shutil.copy(sorted(folder.iterdir())[1], reference / "shared.txt")
    outcome = compared(world, before, stripped, folder, tmp_path / "out", reference=str(reference))
    assert [row["documents"] for row in outcome.summary["texts"].values()] == [12, 5]
    fates = made(outcome, "corpus")[0].ledger.fates
    assert fates["twice"]["dropped: duplicate"].documents == 1
    assert fates["known"]["dropped: duplicate of twice"].documents == 1
    with pytest.raises(UsageError, match="stands nowhere else"):
        compared(world, before, stripped, folder, tmp_path / "out", reference=str(folder))


def test_losses_that_are_no_numbers_name_the_document(world, before, fresh, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(before.folder, broken)
    weights = load_file(broken / "model.safetensors")
    token = before.tokenizer.encode(" zzz", add_special_tokens=False).ids[-1]
    weights["model.embed_tokens.weight"][token] = math.nan
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    folder = tmp_path / "zzz"
    shutil.copytree(fresh, folder)
    (folder / "odd.txt").write_text("the court of law zzz shall hear")
    with pytest.raises(FaultError, match="not a number") as fault:
        compared(world, before, Base("broken", broken), folder, tmp_path / "out")
    assert "odd.txt" in str(fault.value)


def test_models_with_nothing_in_common_are_refused(world, before, fresh, tmp_path):
    sizes = Initialize(vocabulary=320, width=32, layers=1, heads=2, feed_forward=64, window=64, architecture="bert")
    masked = initialize(world.corpus, sizes, store=world.store)
    with pytest.raises(UsageError, match="nothing in common to compare: .* fills in hidden words"):
        compared(world, before, Base("masked", masked / "model"), fresh, tmp_path / "out")


def test_wrong_requests_say_what_is_allowed(world, before, fresh, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "blank.txt").write_text("  ")
    for job, words_said in (
        (lambda: Compare("embedded", "embedded"), "text names no path"),
        (lambda: Compare("embedded", "", ("x",)), "after names no model"),
        (lambda: Compare("embedded", "embedded", ("x",), evaluate=Evaluate(split="train")), "evaluate.split is train"),
        (lambda: compared(world, before, before, empty, tmp_path / "out"), "no usable document"),
        (lambda: compared(world, before, before, tmp_path / "nowhere", tmp_path / "out"), "no such file"),
        (lambda: Contrast(top=(0,)), "top is"),
        (lambda: Contrast(least=0), "min_count is 0"),
        (lambda: Contrast(term_ratio=0), "term_ratio is 0"),
        (lambda: Pool(n=0), "n is 0"),
        (lambda: Pool(tolerance=2), "tolerance is 2"),
        (lambda: Present(documents=0), "documents is 0"),
        (lambda: Present(spans=0), "spans is 0"),
    ):
        with pytest.raises(UsageError, match=words_said):
            job()


def test_every_setting_has_an_effect(world, before, stripped, fresh, tmp_path):
    def run(**more: object) -> tuple[dict, str]:
        outcome = compared(world, before, stripped, fresh, tmp_path / "out", **more)
        return outcome.summary["texts"]["fresh"], (outcome.out / "report.html").read_text()

    plain, _ = run()
    assert {"top 1", "top 3"} <= set(plain["without"])
    assert "top 2" in run(contrast=Contrast(top=(2,)))[0]["without"]
    assert run(contrast=Contrast(seed=1))[0]["interval"] != plain["interval"]
    assert "of those seen at least 60 times" in run(contrast=Contrast(least=60))[1]
    general = str(world.general)
    assert "domain term" in run(reference=general)[0]["without"]
    assert "domain term" not in run(reference=general, contrast=Contrast(term_ratio=1e9))[0]["without"]
    _, page = run(present=Present(title="Mine", documents=3))
    assert "<h1>Mine</h1>" in page and "3 of 12 documents are here" in page and "9 are scored and not shown" in page
    assert "1 of 12 documents are here" in run(present=Present(spans=20))[1]


def test_labels_are_the_last_parts_and_no_two_alike(tmp_path):
    (tmp_path / "v1.5").mkdir()
    paths = ["a/law.txt", "b/law.jsonl.zst", "embedded:prose", "hf://owner/some name/", str(tmp_path / "v1.5"), "/"]
    assert list(labels(paths)) == ["law", "law_2", "prose", "some_name", "v1.5", "text"]


def test_the_command_and_the_recipe_are_one(world, before, stripped, fresh, tmp_path):
    out, store = tmp_path / "out", world.store.root
    process = call(
        "compare", before.folder, stripped.folder, "--text", fresh, "--reference", world.general, "--out", out,
        "--store", store, "--set", "contrast.top=[2]",
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert summary["verdict"] in process.stdout and str(out / "report.html") in process.stdout
    assert "model:" not in process.stdout and sorted(one.name for one in out.glob("[!.]*")) == [
        "report.html",
        "summary.json",
    ]
    assert "top 2" in summary["texts"]["fresh"]["without"]
    recipe = tmp_path / "versus.yaml"
    recipe.write_text(
        f"compare:\n  before: {before.folder}\n  after: {stripped.folder}\n  text: [{fresh}]\n"
        f"  reference: {world.general}\n  out: {out}\n  contrast: {{top: [2]}}\n"
    )
    again = call("run", recipe, "--store", store)
    assert again.returncode == 0 and "Nothing to do" in again.stderr
    plan = call("plan", recipe, "--store", store)
    assert plan.returncode == 2 and "trains nothing" in plan.stderr
    proof = call("verify-resume", recipe, "--store", store)
    assert proof.returncode == 2 and "trains nothing" in proof.stderr


def numbers(value: object, path: str = "") -> set[str]:
    """The dotted path of every number."""
    if isinstance(value, dict):
        return {key for name, below in value.items() for key in numbers(below, f"{path}.{name}" if path else name)}
    if isinstance(value, list | tuple):
        return {key for place, below in enumerate(value) for key in numbers(below, f"{path}.{place}")}
    return {path} if isinstance(value, int | float) else set()


def test_the_keys_of_a_summary_are_known_before_it_is_there(world, before, stripped, other_tokenizer, fresh, tmp_path):
    for after in (stripped, other_tokenizer):  # of tokens, and of spans
        job = Compare(
            str(before.folder), str(after.folder), (str(fresh),), str(world.general), out=str(tmp_path / "out")
        )
        found = numbers(job(world.store).summary)
        beside = {key for key in found if ".cause." in key or ".without." in key}  # named by words of the text itself
        keys = set(job.number_keys())
        assert found - beside <= keys and {"texts.fresh.change", "texts.general.bits_per_byte.after"} <= keys
        if after is stripped:
            assert found - beside == keys


@pytest.mark.parametrize(
    ("condition", "code", "words"),
    [
        ("texts.fresh.change > 0%", 3, "texts.fresh.change is"),
        ("texts.fresh.change < 0%", 0, ""),
        ("texts.fresh.interval.0 > -1", 3, "texts.fresh.interval.0 is"),
        ("texts.fresh.chnge > 0", 2, 'did you mean "texts.fresh.change"?'),
        ("general.change > 0", 2, "summary.json has no number"),
    ],
)
def test_a_gate_closes_on_a_comparison(world, before, stripped, fresh, tmp_path, condition, code, words):
    out = tmp_path / "out"
    process = call(
        "compare", before.folder, stripped.folder, "--text", fresh, "--out", out, "--store", world.store.root,
        "--fail-if", condition,
    )  # fmt: skip
    assert process.returncode == code and words in process.stderr, process.stderr
    assert (out / "report.html").exists() == (code != 2)


def test_wrong_commands_exit_with_2(world, before, fresh, tmp_path):
    for arguments, words_said in (
        ((before.folder, "nowhere/at/all", "--text", fresh), "no such folder"),
        ((before.folder, before.folder, "--text", tmp_path / "none"), "no such file"),
        ((before.folder, before.folder), "--text"),
    ):
        process = call("compare", *arguments, "--out", tmp_path / "out", "--store", world.store.root)
        assert process.returncode == 2 and words_said in process.stderr, process.stderr
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.html").write_text("mine")
    taken = call("compare", before.folder, before.folder, "--text", fresh, "--out", tmp_path / "mine")
    assert taken.returncode == 2 and "graft did not put it there" in taken.stderr


@pytest.mark.parametrize(
    ("architecture", "vocabularies", "unit"),
    [("bert", (320, 300), "token"), ("t5", (400, 430), "span")],  # the first two read this text in the same tokens
)
def test_models_of_other_kinds_are_compared_with_their_like(world, fresh, tmp_path, architecture, vocabularies, unit):
    sizes = Initialize(width=32, layers=1, heads=2, feed_forward=64, window=64, architecture=architecture)
    bases = [
        Base(architecture, initialize(world.corpus, one, store=world.store) / "model")
        for one in (replace(sizes, vocabulary=size) for size in vocabularies)
    ]
    outcome = compared(world, *bases, fresh, tmp_path / "out", evaluate=Evaluate(max_tokens=400))
    row = outcome.summary["texts"]["fresh"]
    assert row["unit"] == unit and row["units"] > 20
    assert any("none of these numbers compares" in note for note in outcome.summary["notes"])


def test_no_text_becomes_markup(world, before, stripped, fresh, tmp_path):
    folder = tmp_path / "a <b> & 'c'"
    shutil.copytree(fresh, folder)
    (folder / "<img src=x>.txt").write_text("</script><img src=x onerror=alert(1)> " * 3 + "&amp; \u202e the court")
    outcome = compared(world, before, stripped, folder, tmp_path / "out", present=Present(title="<i>T</i>"))
    page = (outcome.out / "report.html").read_text()
    assert "<img" not in page and "<i>T" not in page and page.count("</script>") == 2
    assert list(outcome.summary["texts"]) == ["a__b_____c_"]
