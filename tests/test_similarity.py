"""Similarity of texts: every measure against an independent reference, intervals, runs, advice, and the command."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import linalg, spatial, stats
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import StandardScaler
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from browser.made_facts import HOSTILE
from browser.made_likened import made_likened
from conftest import OTHER, WORDS, write_texts
from graft.cli.app import app
from graft.core.config.errors import FaultError, GraftError, UsageError
from graft.core.models.base_model import Base
from graft.core.records.features import Features, read_features
from graft.core.stats.correlation import correlate
from graft.core.stats.random_streams import stream
from graft.data.ingest import Ingest, ingest
from graft.evaluation.similarity.advise import Advise
from graft.evaluation.similarity.embed import Embed, embed
from graft.evaluation.similarity.measure_similarity import Liken, liken, measured
from graft.evaluation.similarity.measures.base_loss import BaseLoss
from graft.evaluation.similarity.measures.frechet import Frechet
from graft.evaluation.similarity.measures.mean_cosine import MeanCosine
from graft.evaluation.similarity.measures.mmd import Mmd
from graft.evaluation.similarity.measures.ngram_overlap import NgramOverlap
from graft.evaluation.similarity.measures.two_sample import TwoSample
from graft.evaluation.similarity.parts import Parts, notes_of
from graft.evaluation.similarity.query import Similarity, names_of
from graft.evaluation.similarity.runs import AdaptationRun
from graft.jobs.adapt import Adapt
from graft.report.similarity.page import render_likened, turned
from graft.surgery.initialize import Initialize, initialize
from graft.training.settings import Train

UNHEARD = [word[::-1] for word in WORDS]
MEASURES = (MeanCosine(), Mmd(), Frechet(), NgramOverlap(), TwoSample(), BaseLoss())


def cloud(documents: int, width: int = 6, *, shift: float = 0.0, seed: int = 0) -> Features:
    """Made-up documents: a slanted Gaussian cloud, words at random, bits that grow with the shift."""
    draw = np.random.default_rng(seed)
    vectors_DW = draw.normal(size=(documents, width)) * np.linspace(0.5, 1.5, width) + shift
    vectors_DW[:, 0] += 3
    texts = [" ".join(draw.choice(UNHEARD if shift > 1 else OTHER + WORDS, 30)) for _ in range(documents)]
    bytes_D = draw.gamma(5, 100, documents)
    return Features.of(texts, vectors_DW, bytes_D * (1 + shift) * draw.lognormal(0, 0.2, documents), bytes_D)


TEXT, REFERENCE = cloud(40, shift=0.4, seed=1), cloud(50, seed=2)


def repeated(one: Features, times: np.ndarray) -> Features:
    """The same documents written out as often as they count."""
    rows = np.repeat(np.arange(len(one)), times)
    return Features.of([one.texts[i] for i in rows], one.vectors_DW[rows], one.bits_D[rows], one.bytes_D[rows])


# --- measures ---------------------------------------------------------------------------------------------------------


def test_the_cosine_is_scipys():
    expected = 1 - spatial.distance.cosine(TEXT.vectors_DW.mean(0), REFERENCE.vectors_DW.mean(0))
    assert MeanCosine()(TEXT, REFERENCE) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_mmd_is_the_unbiased_sum_over_scikit_learns_kernel(scale):
    together = np.concatenate([TEXT.vectors_DW, REFERENCE.vectors_DW])
    width = scale * np.median(spatial.distance.pdist(together))
    kernel = rbf_kernel(together, gamma=1 / (2 * width**2))
    n, m = len(TEXT), len(REFERENCE)
    within = (kernel[:n, :n].sum() - n) / (n * (n - 1)) + (kernel[n:, n:].sum() - m) / (m * (m - 1))
    assert Mmd(scale)(TEXT, REFERENCE) == pytest.approx(within - 2 * kernel[:n, n:].mean(), rel=1e-9)


def test_mmd_of_a_document_drawn_twice_is_no_pair_with_itself():
    """Two points at 0 and 1 against two at 4 and 5, worked by hand; the first counts twice."""
    text, reference = (Features.of(["a", "b"], np.array(one)[:, None], [1, 1], [1, 1]) for one in ([0, 1], [4, 5]))
    width = np.median([1, 1, 3, 4, 4, 5])

    def k(distance: float) -> float:
        return math.exp(-(distance**2) / (2 * width**2))

    across = (2 * k(4) + 2 * k(5) + k(3) + k(4)) / 6
    assert Mmd()(text.drawn(np.array([2, 1])), reference) == pytest.approx(k(1) + k(1) - 2 * across)


@pytest.mark.parametrize("width", [6, 60])  # fewer and more dimensions than documents
def test_frechet_is_the_formula_with_scipys_root(width):
    text, reference = cloud(40, width, shift=0.4, seed=1), cloud(50, width, seed=2)
    C1, C2 = (np.cov(one.vectors_DW, rowvar=False) for one in (text, reference))
    half = linalg.sqrtm(C1).real  # tr (C1 C2)^(1/2) = tr (C1^(1/2) C2 C1^(1/2))^(1/2)
    root = np.sqrt(np.maximum(linalg.eigvalsh(half @ C2 @ half), 0)).sum()
    apart = ((text.vectors_DW.mean(0) - reference.vectors_DW.mean(0)) ** 2).sum()
    assert Frechet()(text, reference) == pytest.approx(apart + np.trace(C1 + C2) - 2 * root, rel=1e-4)


def test_frechet_in_one_dimension_by_hand():
    text, reference = (Features.of(["a", "b"], np.array(one)[:, None], [1, 1], [1, 1]) for one in ([0, 2], [5, 11]))
    assert Frechet()(text, reference) == pytest.approx((8 - 1) ** 2 + (math.sqrt(18) - math.sqrt(2)) ** 2)


def test_ngram_overlap_by_hand():
    text = Features.of(["the cat sat on", "a dog"], np.ones((2, 1)), [1, 1], [1, 1])
    reference = Features.of(["The cat sat; here", "a", "dog"], np.ones((3, 1)), [1, 1, 1], [1, 1, 1])
    assert NgramOverlap(n=1)(text, reference) == pytest.approx(5 / 6)
    assert NgramOverlap(n=2)(text, reference) == pytest.approx(2 / 4)  # the cat, cat sat; not "sat on" nor "a dog"
    assert NgramOverlap(n=2)(text.drawn(np.array([1, 3])), reference) == pytest.approx(2 / 6)


@pytest.mark.parametrize("penalty", [1.0, 50.0])
def test_the_classifier_is_scikit_learns(penalty):
    text, reference = cloud(40, 30, shift=0.2, seed=1), cloud(60, 30, seed=2)
    folds = [stream(0, "folds", name).permutation(n) % 5 for name, n in (("text", 40), ("reference", 60))]
    held, side = np.concatenate(folds), np.repeat([1, -1], [40, 60])
    vectors = np.concatenate([text.vectors_DW, reference.vectors_DW])
    wrong = np.zeros(100)
    for fold in range(5):
        train = held != fold
        weight = np.where(side > 0, 50 / 40, 50 / 60)[train]  # folds hold a fifth of either
        scaler = StandardScaler().fit(vectors[train], sample_weight=weight)
        found = RidgeClassifier(alpha=penalty).fit(scaler.transform(vectors[train]), side[train], sample_weight=weight)
        wrong[~train] = found.predict(scaler.transform(vectors[~train])) != side[~train]
    expected = (wrong[:40].mean() + wrong[40:].mean()) / 2
    assert 0.05 < expected < 0.5
    assert TwoSample(penalty=penalty)(text, reference) == pytest.approx(expected)


def test_every_setting_of_the_classifier_counts():
    text, reference = cloud(40, 30, shift=0.2, seed=1), cloud(60, 30, seed=2)
    errors = [
        one(text, reference) for one in (TwoSample(), TwoSample(folds=3), TwoSample(seed=1), TwoSample(penalty=300))
    ]
    assert len(set(errors)) == 4


def test_the_classifier_never_sees_a_held_out_document_that_was_drawn_again():
    """One text twice: chance, also where documents count many times."""
    one, other = cloud(60, 40, seed=3), cloud(60, 40, seed=4)
    times = np.random.default_rng(0).multinomial(60, [1 / 60] * 60)
    assert TwoSample()(one.drawn(times), other.drawn(times)) > 0.35


def test_the_base_loss_is_all_bits_over_all_bytes():
    text = Features.of(["a", "b"], np.ones((2, 1)), [100.0, 20.0], [50.0, 10.0])
    reference = Features.of(["c", "d"], np.ones((2, 1)), [10.0, 60.0], [10.0, 90.0])
    assert BaseLoss()(text, reference) == pytest.approx(120 / 60 - 70 / 100)


@pytest.mark.parametrize(
    "measure", [MeanCosine(), Frechet(), NgramOverlap(), BaseLoss()], ids=lambda one: type(one).__name__
)
def test_drawn_twice_is_written_out_twice(measure):
    times = np.random.default_rng(5).multinomial(len(TEXT), [1 / len(TEXT)] * len(TEXT))
    assert measure(TEXT.drawn(times), REFERENCE) == pytest.approx(measure(repeated(TEXT, times), REFERENCE), rel=1e-9)


@pytest.mark.parametrize("measure", MEASURES, ids=lambda one: type(one).__name__)
def test_more_unlike_is_farther(measure):
    near, far = (measure(cloud(50, shift=shift, seed=1), REFERENCE) for shift in (0.1, 2.0))
    assert (near > far) == measure.larger_is_closer and near != far


@pytest.mark.parametrize(("measure", "word"), [(lambda: Mmd(0), "scale is 0"), (lambda: NgramOverlap(0), "n is 0"),
    (lambda: TwoSample(folds=1), "folds is 1"), (lambda: TwoSample(penalty=0), "penalty is 0"),
    (lambda: Advise(told_apart=0), "told_apart is 0"), (lambda: Embed(documents=0), "documents is 0"),
    (lambda: Embed(tokens=0), "tokens is 0"), (lambda: Liken(draws=3), "draws is 3"),
    (lambda: Liken(measures=()), "measures is empty"),
    (lambda: Liken(measures=(Mmd(), Mmd())), "one twice")])  # fmt: skip
def test_settings_that_mean_nothing_are_refused(measure, word):
    with pytest.raises(UsageError, match=word):
        measure()


# --- intervals --------------------------------------------------------------------------------------------------------


def test_one_document_has_no_interval_and_no_spread():
    rows = {type(one).__name__: measured(one, cloud(1, shift=1.0), REFERENCE, 100, 0) for one in MEASURES}
    assert all(row["interval"] is None and row["corrected"] is None and row["note"] for row in rows.values())
    assert rows["Frechet"]["value"] is rows["Mmd"]["value"] is rows["TwoSample"]["value"] is None
    assert rows["BaseLoss"]["value"] == BaseLoss()(cloud(1, shift=1.0), REFERENCE)


def test_draws_and_seed_count():
    rows = [
        measured(BaseLoss(), TEXT, REFERENCE, *given)["interval"] for given in ((100, 0), (400, 0), (100, 1), (100, 0))
    ]
    assert rows[0] == rows[3] and rows[0] != rows[1] and rows[0] != rows[2]


def test_an_interval_stays_within_the_bounds():
    row = measured(TwoSample(), cloud(30, shift=9.0, seed=1), REFERENCE, 100, 0)
    assert row["value"] == row["interval"][0] == 0
    # no error in any draw is not certainty: 0 of 30 documents leaves 3 / 30 (Hanley and Lippman-Hand)
    assert row["interval"][1] == pytest.approx(0.1) and "rule of three" in row["note"]
    alike = Features.of(["a", "b"] * 5, np.ones((10, 3)), np.ones(10), np.ones(10))
    assert measured(MeanCosine(), alike, alike, 100, 0)["interval"] is None  # a cosine is no share


@pytest.mark.parametrize("measure", [BaseLoss(), MeanCosine(), Mmd()], ids=lambda one: type(one).__name__)
def test_intervals_hold_what_many_documents_say(measure):
    """Of 100 pairs of samples; the truth from 20,000 (1,000 for MMD) documents. 95 are expected, 88 by bad luck."""
    many = 1000 if isinstance(measure, Mmd) else 20000
    truth = measure(cloud(many, shift=0.4, seed=7), cloud(many, seed=8))
    held = 0
    for k in range(100):
        row = measured(measure, cloud(40, shift=0.4, seed=1000 + k), cloud(40, seed=5000 + k), 100, k)
        held += row["interval"][0] <= truth <= row["interval"][1]
    assert held >= 88


def test_the_correction_is_nearer_to_what_many_documents_say():
    truth = Frechet()(cloud(5000, shift=0.4, seed=7), cloud(5000, seed=8))
    rows = [measured(Frechet(), cloud(30, shift=0.4, seed=k), cloud(30, seed=90 + k), 100, 0) for k in range(20)]
    off = [np.mean([row[key] for row in rows]) - truth for key in ("value", "corrected")]
    assert abs(off[1]) < abs(off[0]) / 2


# --- correlation ------------------------------------------------------------------------------------------------------


def test_coefficients_are_scipys_and_their_interval_is_over_texts():
    draw = np.random.default_rng(0)
    measure = np.repeat(draw.normal(size=12), 2)
    change = measure + draw.normal(size=24)
    told = correlate(measure.tolist(), change.tolist(), [f"t{k // 2}" for k in range(24)])
    assert (told.runs, told.texts) == (24, 12)
    assert told.pearson == pytest.approx(stats.pearsonr(measure, change).statistic)
    assert told.spearman == pytest.approx(stats.spearmanr(measure, change).statistic)
    assert told.pearson_interval and told.pearson_interval[0] < told.pearson < told.pearson_interval[1]
    apart = correlate(measure.tolist(), change.tolist(), [f"t{k}" for k in range(24)])
    assert apart.pearson == told.pearson and apart.pearson_interval != told.pearson_interval


@pytest.mark.parametrize(("values", "texts", "known", "interval"), [
    ([1.0, 2.0], ["a", "b"], False, False), ([1.0, 2.0, 4.0], ["a", "a", "b"], False, False),
    ([1.0, 1.0, 1.0], ["a", "b", "c"], False, False), ([1.0, 2.0, 4.0], ["a", "b", "c"], True, False),
    ([1.0, 2.0, 4.0, 3.0, 9.0], list("abcde"), True, True)])  # fmt: skip
def test_few_texts_have_no_coefficient_or_no_interval(values, texts, known, interval):
    told = correlate(values, [0.1 * k**2 for k in range(len(values))], texts)
    assert (told.pearson is not None, told.spearman is not None) == (known, known)
    assert (told.pearson_interval is not None, told.spearman_interval is not None) == (interval, interval)


# --- advice -----------------------------------------------------------------------------------------------------------


def row(name: str, low: float, high: float, larger: bool) -> dict[str, Any]:
    return {"measure": name, "interval": [low, high], "larger_is_closer": larger, "note": ""}


@pytest.mark.parametrize(("error", "excess", "advice"), [
    ((0.0, 0.1), (0.3, 0.6), "adapt"), ((0.4, 0.5), (-0.1, 0.05), "do not adapt"),
    ((0.0, 0.1), (-0.1, 0.05), "not clear"),
    ((0.2, 0.3), (0.3, 0.6), "not clear")])  # fmt: skip
def test_without_runs_two_measures_decide(error, excess, advice):
    rows = {"two_sample": row("two_sample", *error, True), "base_loss": row("base_loss", *excess, False)}
    told = Advise()(rows, [])
    assert told["advice"] == advice and "no run on this text" in told["rests_on"]
    turned = Advise(told_apart=0.05 if advice == "adapt" else 0.5, excess=0.9)(rows, [])
    assert turned["rests_on"] != told["rests_on"]


def test_what_was_left_out_or_has_no_interval_decides_nothing():
    rows = {"base_loss": row("base_loss", 0.3, 0.6, False) | {"interval": None, "note": "one document"}}
    told = Advise()(rows, [])
    assert told["advice"] == "not clear" and "left out" in told["rests_on"] and "one document" in told["rests_on"]


@pytest.mark.parametrize(("verdicts", "advice"), [
    (["improved"], "adapt"), (["improved", "no change"], "adapt"), (["worse", "no change"], "do not adapt"),
    (["improved", "worse"], "not clear"), (["no change"], "do not adapt")])  # fmt: skip
def test_runs_on_the_text_decide(verdicts, advice):
    runs = [AdaptationRun(f"r{k}", "law", 0.01, (0.0, 0.02), verdict, None, None) for k, verdict in enumerate(verdicts)]
    told = Advise()({}, runs)
    assert told["advice"] == advice and f"{len(runs)} run(s) on this text" in told["rests_on"]


def test_a_run_without_an_interval_decides_nothing():
    assert (
        Advise()({}, [AdaptationRun("r", "law", -0.1, None, "no interval (one document)", None, None)])["advice"]
        == "not clear"
    )


# --- what the model makes of a text -----------------------------------------------------------------------------------


def test_states_and_bits_are_transformers_own(world, tmp_path):
    """Short documents whole, a long one cut; one at a time through transformers, its own loss."""
    for k, text in enumerate(["the court may hear a case", "and the judge", "a claim " * 200]):
        (tmp_path / f"{k}.txt").write_text(text)
    made = embed(ingest([str(tmp_path)], "text", store=world.store), world.base, Embed(tokens=40), store=world.store)
    found = read_features(made)
    hf = AutoModelForCausalLM.from_pretrained(world.base.folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(world.base.folder)
    start, end = world.base.marks.start, world.base.marks.end
    assert start is not None and end is not None
    for d, text in enumerate(["the court may hear a case", "and the judge", "a claim " * 200]):
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids = torch.tensor([[start, *tokens, end][:41]])
        with torch.no_grad():
            out = hf(input_ids=ids[:, :-1], output_hidden_states=True)
        nats = torch.nn.functional.cross_entropy(out.logits[0], ids[0, 1:], reduction="sum")
        assert found.bits_D[d] == pytest.approx(float(nats) / math.log(2), rel=1e-4)
        np.testing.assert_allclose(found.vectors_DW[d], out.hidden_states[-1][0, 1:].mean(0), atol=1e-4)
    assert found.bytes_D[:2].tolist() == [25, 13] and found.texts[0] == "the court may hear a case"
    assert found.bytes_D[2] == pytest.approx(len(found.texts[2]), rel=0.02) and len(found.texts[2]) < 1600
    assert made.facts["cut"] == 1


def test_documents_are_different_ones_spread_over_the_text(world, tmp_path):
    for k in range(40):
        (tmp_path / f"{k:02}.txt").write_text(f"{'and a claim ' * (k // 4)}{k // 2}")
    docs = ingest([str(tmp_path)], "text", store=world.store)
    every, few = (embed(docs, world.base, Embed(documents=n), store=world.store) for n in (200, 5))
    assert (every.facts["documents"], every.facts["different"], few.facts["documents"]) == (20, 20, 5)
    places = [read_features(every).texts.index(one) for one in read_features(few).texts]
    assert max(places) - min(places) > 10


def test_the_precision_and_the_field_count(world, tmp_path):
    rows = [{"text": f"the court {k}", "body": f"near the sea {k}"} for k in range(4)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = Similarity(
        texts=(str(tmp_path),), to=(str(world.general),), model=str(world.base.folder), liken=Liken(draws=100)
    )
    changed = replace(asked, embed=Embed(precision="bf16")), replace(asked, ingest=Ingest(text_field="body"))
    cosines = [one(world.store)["texts"][0]["measures"][0]["value"] for one in (asked, *changed)]
    assert len(set(cosines)) == 3 and cosines[1] == pytest.approx(cosines[0], abs=0.02)


def test_an_encoder_reads_too(world):
    tiny = Initialize(vocabulary=320, width=32, layers=2, heads=2, feed_forward=64, window=64, architecture="bert")
    begun = initialize(world.corpus, tiny, store=world.store)
    docs = ingest([str(world.domain)], "text", store=world.store)
    made = embed(docs, Base("filled", begun / "model"), Embed(documents=4), store=world.store)
    found = read_features(made)
    assert found.vectors_DW.shape == (4, 32) and (found.bits_D > 0).all()
    assert any("hidden in turn" in note for note in made.facts["notes"])


def test_a_model_that_reads_with_one_half_is_refused(world, tmp_path):
    shutil.copytree(world.base.folder, tmp_path / "t5")
    config = json.loads((tmp_path / "t5" / "config.json").read_text())
    (tmp_path / "t5" / "config.json").write_text(json.dumps(config | {"is_encoder_decoder": True}))
    docs = ingest([str(world.domain)], "text", store=world.store)
    with pytest.raises(UsageError, match="no hidden states of a text"):
        embed(docs, Base("t5", tmp_path / "t5"), store=world.store)


def test_a_loss_that_is_no_number_names_its_document(world, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(world.base.folder, tmp_path / "broken")
    path = tmp_path / "broken" / "model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if "norm" in name)
    save_file(weights | {name: torch.full_like(weights[name], float("nan"))}, path, {"format": "pt"})
    docs = ingest([str(world.domain)], "text", store=world.store)
    with pytest.raises(FaultError, match=r"not a number") as raised:
        embed(docs, Base("broken", tmp_path / "broken"), Embed(documents=3), store=world.store)
    assert ".txt" in str(raised.value)


def test_texts_read_in_two_ways_are_not_compared(world):
    docs = [ingest([str(one)], "text", store=world.store) for one in (world.domain, world.general)]
    sides = [
        embed(one, world.base, Embed(documents=4, tokens=n), store=world.store)
        for one, n in zip(docs, (8, 16), strict=True)
    ]
    with pytest.raises(UsageError, match="not read by the same model in the same way"):
        liken(*sides, store=world.store)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapted(world, tmp_path_factory) -> Path:
    """A real, short run on the world's domain."""
    out = tmp_path_factory.mktemp("runs") / "law"
    job = Adapt(
        base=str(world.base.folder), domain=(str(world.domain),), general=(str(world.general),), out=str(out),
        train=Train(tokens=6000, batch_size=4, sequence_length=64, learning_rate=3e-3, precision="fp32"),
    )  # fmt: skip
    job(world.store)
    return out


def ask(world, *words: object, model: object = None) -> tuple[str, dict[str, Any]]:
    """(screen, JSON) of `graft similarity`; its errors are raised."""
    path = world.store.root / "similarity.json"
    path.parent.mkdir(exist_ok=True)
    given = [*words, "--model", model or world.base.folder, "--store", world.store.root, "--json", path]
    outcome = CliRunner().invoke(app, ["similarity", *map(str, given)])
    if isinstance(outcome.exception, GraftError):
        raise outcome.exception
    assert outcome.exit_code == 0, outcome.output + repr(outcome.exception)
    told = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    return " ".join(outcome.stdout.split()), told


def test_the_whole_way_with_a_run(world, adapted, tmp_path):
    near = write_texts(tmp_path / "near", OTHER, 40, seed=9)
    quick = ("--documents", 40, "--set", "liken.draws=100")
    said, told = ask(world, world.domain, near, "--to", world.general, "--runs", adapted, *quick)
    law, like = told["texts"]
    assert [law["text"], like["text"]] == ["domain", "near"]
    rows = {one["text"]: {row["measure"]: row for row in one["measures"]} for one in told["texts"]}
    for name, larger in (("mean_cosine", 1), ("mmd", -1), ("ngram_overlap", 1), ("two_sample", 1)):
        assert larger * rows["near"][name]["value"] > larger * rows["domain"][name]["value"], name
    summary = json.loads((adapted / "summary.json").read_text())
    assert told["runs"][0]["change"] == summary["domain"]["change"] and told["runs"][0]["text"] == "domain"
    assert law["advice"] == {"improved": "adapt"}.get(summary["domain"]["verdict"], "do not adapt")
    assert "1 run(s) on this text" in law["rests_on"] and "no run on this text" in like["rests_on"]
    assert {row["texts"] for row in told["correlations"]} == {1} and told["correlations"][0]["pearson"] is None
    for words in (
        "classifier's error",
        "advice:",
        "rests on:",
        "correlation of measure",
        "takes 3 texts",
        "of 120 documents",
    ):
        assert words in said


def test_five_runs_have_a_correlation_with_an_interval(world, tmp_path):
    """Five texts between two, a run on each, a second one of the first: the coefficients are SciPy's."""
    texts = [write_texts(tmp_path / f"t{k}", OTHER[: 4 * k] + WORDS[4 * k :], 30, seed=k) for k in range(5)]
    words: list[object] = []
    for number, text in enumerate([*texts, texts[0]]):
        job = Adapt(
            base=str(world.base.folder), domain=(str(text),), general=(str(world.general),), out=str(tmp_path /
            f"run{number}"), train=Train(tokens=2000, batch_size=4, sequence_length=64, learning_rate=3e-3,
            precision="fp32", seed=number),
        )  # fmt: skip
        words += ["--runs", job(world.store).out]
    quick = ("--documents", 20, "--set", "liken.draws=100")
    said, told = ask(world, *texts, "--to", world.general, *words, *quick)
    assert [run["text"] for run in told["runs"]] == ["t0", "t1", "t2", "t3", "t4", "t0"] and not told["runs_left_out"]
    values = {one["text"]: {row["measure"]: row["value"] for row in one["measures"]} for one in told["texts"]}
    for one in told["correlations"]:
        measure = [values[run["text"]][one["measure"]] for run in told["runs"]]
        change = [run["change"] for run in told["runs"]]
        assert (one["runs"], one["texts"]) == (6, 5)
        assert one["pearson"] == pytest.approx(stats.pearsonr(measure, change).statistic, abs=1e-9)
        assert one["spearman"] == pytest.approx(stats.spearmanr(measure, change).statistic, abs=1e-9)
        low, high = one["pearson_interval"]
        assert -1 <= low <= high <= 1
    assert "6 run(s) on 5 text(s)" in said


def test_runs_that_do_not_count_are_named_with_the_reason(world, adapted):
    summary = (adapted / "summary.json").read_text()  # other tests leave reports in this store, too
    reports = [one for one in world.store.artifacts() if one.kind == "report"]
    report = next(one for one in reports if (one / "summary.json").read_text() == summary)
    quick = ("--documents", 20, "--set", "liken.draws=100", "--set", "liken.measures=[base_loss]")
    said, told = ask(world, world.general, "--to", "embedded:prose", "--runs", adapted, "--runs", report.name, *quick)
    assert told["runs"] == [] and "its domain text is none of TEXT" in told["runs_left_out"][0]
    assert "the same run again" in told["runs_left_out"][1] and "left out:" in said
    other = ("--documents", 2, "--tokens", 16, "--set", "liken.draws=100")
    _, told = ask(world, world.domain, "--to", world.general, "--runs", adapted, *other, model="embedded")
    assert "another model than --model" in told["runs_left_out"][0]


def test_one_document_is_said(world, tmp_path):
    (tmp_path / "one.txt").write_text("the court of law shall hear a case")
    quick = ("--documents", 20, "--set", "liken.draws=100")
    said, told = ask(world, tmp_path / "one.txt", "--to", world.general, *quick)
    assert all(row["interval"] is None for row in told["texts"][0]["measures"])
    assert told["texts"][0]["advice"] == "not clear"
    assert "one.txt: 1 document; no interval can be made" in said


def test_documents_that_the_reference_has_too_are_counted(world, tmp_path):
    write_texts(tmp_path / "text", WORDS, 6, seed=3)
    shutil.copy(tmp_path / "text" / "001.txt", write_texts(tmp_path / "to", OTHER, 6, seed=4) / "same.txt")
    said, told = ask(world, tmp_path / "text", "--to", tmp_path / "to", "--set", "liken.draws=100")
    assert told["texts"][0]["in_reference_too"] == 1 and "stand in the reference too" in said


@pytest.mark.parametrize(("words", "said"), [
    (("{domain}", "--to", "{domain}"), "is the reference itself"),
    (("{domain}", "{domain}", "--to", "{general}"), "a text is given twice"),
    (("{domain}/nothing", "--to", "{general}"), "there is no such file or folder"),
    (("{domain}", "--to", "{general}", "--tokens", "0"), "tokens is 0"),
    (("{domain}", "--to", "{general}", "--set", "liken.draws=5"), "draws is 5"),
    (("{domain}", "--to", "{general}", "--set", "liken.measures=[mmdd]"), 'did you mean "mmd"'),
    (("{domain}", "--to", "{general}", "--runs", "{domain}"), "this is no finished run"),
    (("{domain}", "--to", "{general}", "--model", "no-such-model"), 'there is no base model "no-such-model"'),
])  # fmt: skip
def test_bad_words(world, words, said):
    known = {"domain": world.domain, "general": world.general}
    filled = [word.format(**known) for word in words]
    model = filled.pop(filled.index("--model") + 1) if "--model" in filled else None
    with pytest.raises(UsageError) as raised:
        ask(world, *(word for word in filled if word != "--model"), model=model)
    assert said in str(raised.value)


def test_an_artifact_that_is_no_report_and_a_lost_store_are_named(world, adapted, tmp_path):
    docs = ingest([str(world.domain)], "text", store=world.store)
    with pytest.raises(UsageError, match="no report"):
        ask(world, world.domain, "--to", world.general, "--runs", docs.name)
    lost = replace(world, store=replace(world.store, root=tmp_path / "store"))
    with pytest.raises(UsageError, match="is not in the store"):
        ask(lost, world.domain, "--to", world.general, "--runs", adapted)


def test_names_are_short_where_that_is_enough():
    assert names_of(["a/law", "b/law", "c/tea"]) == {"a/law": "a/law", "b/law": "b/law", "tea": "c/tea"}


def test_asked_twice_is_made_once(world):
    asked = Similarity(
        texts=(str(world.domain),), to=(str(world.general),), model=str(world.base.folder), embed=Embed(documents=5),
        liken=Liken(draws=100),
    )  # fmt: skip
    first = asked(world.store)
    made: list[bool] = []
    again = asked(replace(world.store, on_made=lambda _, fresh: made.append(fresh)))
    assert again == first and made and not any(made)


# --- a reference of several kinds -------------------------------------------------------------------------------------


def test_a_text_like_one_part_of_a_mixed_reference_is_told_apart_from_the_whole():
    """Two clouds far apart as the reference, the text from one of them: half of the reference is taken for the text."""
    near, far = cloud(60, shift=0.0, seed=2), cloud(60, shift=3.0, seed=3)
    text = cloud(60, shift=3.0, seed=4)
    both = Features.of([*near.texts, *far.texts], *(np.concatenate(pair) for pair in (
        (near.vectors_DW, far.vectors_DW), (near.bits_D, far.bits_D), (near.bytes_D, far.bytes_D))))  # fmt: skip
    parts = Parts({"near": near, "far": far}, MEASURES)
    assert 0.2 < TwoSample()(text, both) < 0.4  # a quarter for the best classifier
    assert all(one["error"] == TwoSample()(near, far) or one["error"] < 0.1 for one in parts.told())
    against = {row["part"]: row["measures"] for row in parts.against(text)}
    assert against["near"]["base_loss"] == BaseLoss()(text, near) and against["far"]["two_sample"] > 0.35
    near_words, *about = notes_of(parts.told(), {"mine": parts.against(text)}, 0.25)
    assert "of several kinds" in near_words and "give one kind as --to" in near_words
    assert about == [f"mine: the classifier hardly tells it from far (error {against['far']['two_sample']:.2g})"]
    assert not notes_of(parts.told(), {}, 0.0)  # the border of the advice decides


def test_parts_of_one_kind_are_no_note_and_few_documents_no_number():
    parts = Parts({"one": cloud(50, seed=2), "other": cloud(50, seed=3)}, MEASURES)
    assert all(one["error"] > 0.35 for one in parts.told()) and not notes_of(parts.told(), {}, 0.25)
    few = Parts({"one": cloud(50, seed=2), "other": cloud(3, seed=3)}, MEASURES)
    assert [one["error"] for one in few.told()] == [None, None] and not notes_of(few.told(), {}, 0.25)


def test_the_command_says_that_the_reference_is_mixed(world, tmp_path):
    like = write_texts(tmp_path / "like", OTHER, 40, seed=9)
    quick = ("--documents", 40, "--set", "liken.draws=100")
    words = (like, "--to", world.domain, "--to", world.general)
    said, told = ask(world, *words, *quick)
    assert [one["part"] for one in told["reference"]["parts"]] == ["domain", "general"]
    assert {one["documents"] for one in told["reference"]["parts"]} == {20}  # as many as the whole, together
    assert "the reference is of several kinds" in said and "like: the classifier hardly tells it from general" in said
    errors = {row["part"]: row["measures"]["two_sample"] for row in told["texts"][0]["parts"]}
    assert errors["general"] > 0.3 > errors["domain"]
    said, told = ask(world, like, "--to", world.general, *quick)
    assert told["reference"]["parts"] == told["texts"][0]["parts"] == [] and "several kinds" not in said


# --- the page ---------------------------------------------------------------------------------------------------------


def cells(page: str, table: str) -> list[list[str]]:
    """Rows of the first table of a class, its cells in words, parts apart by a bar."""
    body = re.search(rf'<table class="{table}.*?<tbody>(.*?)</tbody>', page, re.DOTALL)
    assert body, table
    rows = re.findall(r"<tr.*?</tr>", body[1], re.DOTALL)
    parted = [re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL) for row in rows]
    found = [[re.sub(r"\s*(<[^>]*>\s*)+", "|", cell).strip("|") for cell in row] for row in parted]
    return [[re.sub(r"\s+", " ", cell.replace("−", "-")) for cell in row] for row in found]


def test_the_page_holds_every_number_and_is_handed_over_with_care(world, adapted, tmp_path):
    near = write_texts(tmp_path / "near", OTHER, 40, seed=9)
    place = tmp_path / "pages" / "likened.html"
    quick = ("--documents", 30, "--set", "liken.draws=100", "--page", place)
    said, told = ask(world, world.domain, near, "--to", world.general, "--runs", adapted, *quick)
    assert f"written: {place}" in said
    page = place.read_text()
    for row, shown in zip(told["texts"][0]["measures"], cells(page, "likeness"), strict=True):
        assert shown[1] == f"{row['corrected']:.3g}|measured {row['value']:.3g}"
        assert shown[0].endswith("larger is closer" if row["larger_is_closer"] else "smaller is closer")
        assert shown[2].startswith(" to ".join(f"{end:.3g}" for end in row["interval"]))
    run, change = told["runs"][0], cells(page, "wide-table trained")[0]
    assert change[0] == str(adapted) and change[4].startswith(f"{100 * run['change']:+.1f}")
    assert run["report"] in page and told["texts"][0]["artifact"] in page
    assert [row[1][2:] for row in cells(page, "advised")] == [one["advice"] for one in told["texts"]]
    again = ("--documents", 20, "--set", "liken.draws=100", "--page", place)
    ask(world, near, "--to", world.general, *again)  # another answer replaces an earlier page
    assert place.read_text() != page and "No run is on this page" in place.read_text()
    ask(world, world.domain, near, "--to", world.general, "--runs", adapted, *quick)
    assert place.read_text() == page


def test_a_page_replaces_nothing_that_graft_did_not_make(world, tmp_path):
    mine = tmp_path / "mine.html"
    mine.write_text("mine")
    (tmp_path / "text").mkdir()
    text = tmp_path / "text" / "text.html"
    text.write_text("<p>the court of law</p>")
    before = {one.name for one in world.store.artifacts()}
    asked = (text, "--to", world.general, "--documents", 3, "--page")
    for place, words in (
        (mine, "graft did not put it there"),
        (tmp_path / "text", "this is no name of a page"),
        (tmp_path / "likened.json", "ends in .html"),
        (text, "over or beside the text"),
        (world.store.root / "likened.html", "into a store"),
        (mine / "likened.html", "Not a directory"),
    ):
        with pytest.raises(UsageError) as raised:
            ask(world, *asked, place)
        assert words in str(raised.value) and "--page" in str(raised.value) and "--out" not in str(raised.value)
    assert mine.read_text() == "mine" and {one.name for one in world.store.artifacts()} == before
    assert not (tmp_path / ".graft.json").exists()


def test_a_page_in_the_folder_of_a_text_is_not_read_as_text(world, tmp_path):
    text = write_texts(tmp_path / "text", WORDS, 6, seed=3)
    words = (text, "--to", world.general, "--documents", 6, "--set", "liken.draws=100", "--page", text / "likened.html")
    _, first = ask(world, *words)
    _, again = ask(world, *words)
    assert again == first and first["texts"][0]["of"] == 6


def test_coefficients_on_the_page_are_of_likeness():
    """Of a measure of which smaller is closer they are turned, its interval end for end."""
    row = {"spearman": -0.8, "spearman_interval": [-0.9, -0.1], "pearson": None, "pearson_interval": None}
    assert turned(row, larger=True) == {key: row[key] for key in turned(row, larger=True)}
    assert turned(row, larger=False)["spearman"] == 0.8 and turned(row, larger=False)["spearman_interval"] == [0.1, 0.9]
    assert turned(row, larger=False)["pearson"] is turned(row, larger=False)["pearson_interval"] is None
    told = made_likened(9)
    raw = {one["measure"]: one["spearman"] for one in told["correlations"]}
    assert raw["base_loss"] < -0.5 and raw["two_sample"] > 0.5  # the made texts: less alike, more gained
    shown = cells(render_likened(told), "wide-table correlated")
    assert [float(one[1].split("|")[0]) for one in shown] == [
        pytest.approx(abs(value), abs=0.006) for value in raw.values()
    ]


def test_lines_of_the_page_run_to_the_right_for_what_is_more_alike():
    """The most alike text stands farthest right on every line, and on the same line in all tables."""
    told = made_likened(6, runs=0)
    page = render_likened(told)
    dots = [float(left) for left in re.findall(r'<i class="dot" style="left:([\d.]+)%">', page)]
    same = [float(left) for left in re.findall(r'<i class="same" style="left:([\d.]+)%">', page)]
    for place, row in enumerate(told["texts"][0]["measures"]):
        mine = dots[place::6]
        order = [one["measures"][place]["corrected"] for one in told["texts"]]
        ranked = sorted(range(6), key=lambda k: order[k], reverse=not row["larger_is_closer"])
        assert sorted(range(6), key=lambda k: mine[k]) == ranked
    assert len(same) == 5 * 6 and same[:5] == same[5:10]


def test_a_page_of_many_texts_counts_and_without_runs_says_how_to_give_them():
    page = render_likened(made_likened(9))
    assert re.search(r"Adapt: \d of 9 texts\.", page) and "Full marks" in page
    bare = render_likened(made_likened(2, runs=0))
    assert "--runs FOLDER" in bare and 'id="runs"' not in bare and "novels: " in bare
    parts = render_likened(made_likened(2, parts=True))
    assert 'id="parts"' in parts and 'id="parts"' not in bare
    assert "it started from another model" in parts


def test_a_number_that_is_none_is_said_on_the_page():
    told = made_likened(2)
    lost = {"value": None, "corrected": None, "interval": None, "note": "not defined for 1 and 60 document(s)"}
    told["texts"][0]["measures"][1] |= lost
    told["correlations"] = [row | {"runs": 1, "texts": 1} for row in told["correlations"]]
    shown = cells(render_likened(told), "likeness")[1]
    assert shown[1:] == ["–|measured –", lost["note"]]
    assert "no coefficient: it takes 3 texts" in render_likened(told)


def test_what_a_user_wrote_is_never_markup():
    told = made_likened(3, parts=True)
    told["texts"][0]["text"] = told["runs"][0]["text"] = HOSTILE[0]
    told["runs"][1]["run"] = told["model"] = HOSTILE[2]
    told["runs_left_out"] = told["notes"] = list(HOSTILE)
    page = render_likened(told)
    assert page.count("<script") == 2 and "<img" not in page and "{{ 7" in page


def test_help_loads_neither_torch_nor_scipy():
    code = (
        "import sys; sys.argv = ['graft', 'similarity', '--help']\n"
        "from graft.cli.app import main\n"
        "try: main()\nexcept SystemExit as end: code = end.code\n"
        "sys.exit(code or any(name in sys.modules for name in ('torch', 'transformers', 'scipy', 'sklearn')))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500, check=False)
    assert process.returncode == 0, process.stderr
