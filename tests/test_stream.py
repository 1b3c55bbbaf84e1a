"""Streams of domains: metrics against matrices worked by hand, the job on real small runs, kills, bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from command import call
from conftest import OTHER, WORDS, World, write_texts
from fork_server import Popen
from graft.cli.gate import check_gate, read_conditions
from graft.continual.methods.anchor import Anchor
from graft.continual.methods.block_expansion import BlockExpansion
from graft.continual.methods.combined import Combined
from graft.continual.methods.joint import Joint
from graft.continual.methods.lora import Lora
from graft.continual.methods.naive import Naive
from graft.continual.methods.o_lora import OLora
from graft.continual.methods.replay import Replay
from graft.continual.methods.stay_close import StayClose
from graft.continual.metrics.backward_transfer import BackwardTransfer
from graft.continual.metrics.forgetting import Forgetting
from graft.continual.metrics.forward_transfer import ForwardTransfer
from graft.continual.metrics.fuar import Fuar
from graft.continual.metrics.general_change import GeneralChange
from graft.continual.metrics.learning_accuracy import LearningAccuracy
from graft.continual.metrics.overall_performance import OverallPerformance
from graft.continual.score_matrix import ScoreMatrix
from graft.continual.settings import Judge
from graft.continual.turn import Turn
from graft.core.config.errors import GateClosed, UsageError
from graft.core.config.plugin_labels import labelled
from graft.core.config.recipe import read_recipe
from graft.core.records.benchmark_answers import read_answers
from graft.core.records.evidence import read_evidence
from graft.core.stats.document_resamples import Sightings
from graft.core.stats.tally import Tally
from graft.core.store.artifact import Store
from graft.core.text.split import Split
from graft.data.curate import Curate
from graft.evaluation.benchmarks.settings import Answer
from graft.evaluation.score_documents import Evaluate
from graft.jobs.continual import Continual
from graft.training.objectives.denoise import Denoise
from graft.training.objectives.stay_close import StayClose as Leash
from graft.training.settings import Train

# Accuracies in percent; rows: after each turn, columns: domains. Worked by hand below.
R = np.array([[80.0, 30.0, 10.0], [70.0, 90.0, 20.0], [50.0, 85.0, 60.0]])
START = np.array([20.0, 25.0, 12.0])
BY_HAND = [
    (OverallPerformance(), (50 + 85 + 60) / 3),
    (OverallPerformance(after=2), (70 + 90) / 2),
    (OverallPerformance(after=1), 80),
    (LearningAccuracy(), (80 + 90 + 60) / 3),
    (BackwardTransfer(), ((50 - 80) + (85 - 90)) / 2),
    (BackwardTransfer("trace"), ((50 - 80) + (85 - 90)) / 3),
    (ForwardTransfer(), ((30 - 25) + (20 - 12)) / 2),
    (Forgetting(), ((80 - 50) + (90 - 85)) / 2),
    (Forgetting("first_minus_last"), 17.5),
    (GeneralChange(), 55 - 70),
    (Fuar(), 15 / ((30 + 60 + 48) / 3)),
]


def scores(after: np.ndarray = R, *, smaller_is_better: bool = False) -> ScoreMatrix:
    return ScoreMatrix(after, START, np.array([66.0, 60.0, 55.0]), np.array(70.0), smaller_is_better)


@pytest.mark.parametrize(("metric", "value"), BY_HAND, ids=lambda value: str(value))
def test_metrics_equal_a_matrix_worked_by_hand(metric, value):
    assert metric(scores()) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(("metric", "value"), BY_HAND, ids=lambda value: str(value))
def test_of_losses_the_sign_of_every_difference_is_turned(metric, value):
    """Losses as 100 minus accuracies: levels become losses, differences and ratios stay."""
    turned = ScoreMatrix(100 - R, 100 - START, 100 - np.array([66.0, 60.0, 55.0]), np.array(30.0), True)
    level = isinstance(metric, OverallPerformance | LearningAccuracy)
    assert metric(turned) == pytest.approx(100 - value if level else value, rel=1e-12)


def test_the_best_may_come_before_or_after_a_domain_s_own_turn():
    """Forgetting is from the best of all earlier turns: 40 of the second domain was reached before its own turn."""
    early = np.array([[80.0, 40.0, 10.0], [90.0, 35.0, 20.0], [50.0, 45.0, 60.0]])
    assert Forgetting()(scores(early)) == pytest.approx(((90 - 50) + (40 - 45)) / 2)
    assert Forgetting("first_minus_last")(scores(early)) == pytest.approx(((80 - 50) + (35 - 45)) / 2)


@pytest.mark.parametrize("metric", [metric for metric, _ in BY_HAND], ids=str)
def test_metrics_take_any_leading_dimensions(metric):
    """Draws at once are what each is by itself, by loops over the definition's own indices."""
    draw = np.random.default_rng(0)
    after, start, general, before = draw.random((5, 4, 4)), draw.random((5, 4)), draw.random((5, 4)), draw.random(5)
    whole = metric(ScoreMatrix(after, start, general, before, False))
    assert whole.shape == (5,)
    for k in range(5):
        one = metric(ScoreMatrix(after[k], start[k], general[k], before[k], False))
        assert whole[k] == pytest.approx(float(one), rel=1e-12, nan_ok=True)


def test_metrics_equal_loops_over_their_definitions():
    """The formulas as GEM, Chaudhry et al. and the survey write them, with indices from 1."""
    draw = np.random.default_rng(1)
    size = 5
    after, start = draw.random((size, size)), draw.random(size)
    one = ScoreMatrix(after, start, draw.random(size), np.array(0.5), False)

    def r(i: int, j: int) -> float:
        return float(after[i - 1, j - 1])

    last = range(1, size)
    assert BackwardTransfer()(one) == pytest.approx(sum(r(size, j) - r(j, j) for j in last) / (size - 1))
    assert ForwardTransfer()(one) == pytest.approx(
        sum(r(j - 1, j) - start[j - 1] for j in range(2, size + 1)) / (size - 1)
    )
    lost = [max(r(i, j) for i in last) - r(size, j) for j in last]
    assert Forgetting()(one) == pytest.approx(sum(lost) / (size - 1))
    assert OverallPerformance()(one) == pytest.approx(sum(r(size, j) for j in range(1, size + 1)) / size)


def test_without_gain_or_with_one_domain_a_metric_is_undefined():
    worse = scores(R - 80)
    assert np.isnan(Fuar()(worse))
    single = ScoreMatrix(np.array([[5.0]]), np.array([3.0]), np.array([2.0]), np.array(1.0), False)
    assert all(np.isnan(metric(single)) for metric in (BackwardTransfer(), ForwardTransfer(), Forgetting()))
    assert OverallPerformance()(single) == 5 and BackwardTransfer()(scores()) < 0


def test_rows_that_are_not_there_leave_what_needs_them_undefined():
    last = np.full((3, 3), np.nan)
    last[2] = R[2]
    joint = ScoreMatrix(last, START, np.array([np.nan, np.nan, 55.0]), np.array(70.0), False)
    assert OverallPerformance()(joint) == 65 and GeneralChange()(joint) == -15 and np.isfinite(Fuar()(joint))
    for metric in (LearningAccuracy(), BackwardTransfer(), ForwardTransfer(), Forgetting()):
        assert np.isnan(metric(joint))


# Methods


def test_what_each_method_trains_in_a_turn():
    first, second = Turn(("a",), (100,), 2), Turn(("a", "b"), (100, 300), 2, adapters=("x",))
    assert dict(Naive()(second).mixture) == {"b": 1.0}
    assert dict(Replay(0.1)(first).mixture) == {"a": 0.9, "general": 0.1}
    assert dict(Replay(0.1)(second).mixture) == {"b": 0.9, "a": 0.05, "general": 0.05}
    assert dict(Replay(0.1, "domains")(first).mixture) == {"a": 1.0}
    assert dict(Replay(0.1, "domains")(second).mixture) == {"b": 0.9, "a": 0.1}
    assert dict(Replay(0.1, "general")(second).mixture) == {"b": 0.9, "general": 0.1}
    assert Joint()(first) is None
    joint = Joint(general=0.2)(second)
    assert joint and joint.fresh and joint.tokens == 400 and Replay(0.1)(second).tokens == 300
    assert dict(joint.mixture) == pytest.approx({"b": 0.6, "a": 0.2, "general": 0.2})
    assert (
        Anchor("l2", 0.3)(second).objective.form == "l2" and Anchor("l2", 0.3)(second).objective.penalty_weight == 0.3
    )
    assert StayClose(0.7)(second).objective.kl_weight == 0.7
    assert OLora(rank=4, penalty_weight=2.0)(second).tuning.earlier == ("x",) and OLora()(first).tuning.earlier == ()
    lora = Lora(rank=4, alpha=8.0, rate=2.0)(second)
    assert (lora.tuning.rank, lora.tuning.alpha, lora.rate) == (4, 8.0, 2.0)
    assert BlockExpansion(blocks=2, rate=0.5)(second).tuning.blocks == 2
    mixed = Combined(objective=Leash(), tuning=Lora()(first).tuning, replay=0.25, of="domains", rate=3.0)(second)
    assert dict(mixed.mixture) == {"b": 0.75, "a": 0.25} and isinstance(mixed.objective, Leash) and mixed.rate == 3


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Replay(1.0), "share is 1.0"),
        (lambda: Replay(-0.1), "share is -0.1"),
        (lambda: Joint(general=1.5), "general is 1.5"),
        (lambda: Lora(rate=0.0), "rate is 0"),
        (lambda: Lora(rank=0), "rank is 0"),
        (lambda: OLora(penalty_weight=-1.0), "penalty_weight is -1"),
        (lambda: BlockExpansion(blocks=0), "blocks is 0"),
        (lambda: StayClose(kl_weight=-1.0), "kl_weight is -1"),
        (lambda: Combined(replay=2.0), "replay is 2"),
        (lambda: OverallPerformance(after=-1), "after is -1"),
        (lambda: Judge(draws=10), "draws is 10"),
        (lambda: Judge(metrics=(Fuar(),)), "do not hold overall_performance"),
        (lambda: Judge(metrics=(OverallPerformance(), Fuar(), Fuar())), "metrics hold fuar twice"),
    ],
)
def test_settings_that_cannot_be_are_refused(make, said):
    with pytest.raises(UsageError, match=said):
        make()


def test_labels_tell_methods_apart():
    methods = (Naive(), Replay(0.01), Replay(0.05), Anchor("ewc"), Anchor("ewc", 0.25))
    assert list(labelled(methods, "methods")) == [
        "naive", "replay 1 %", "replay 5 %",
        "anchor form ewc, penalty_weight 1", "anchor form ewc, penalty_weight 0.25",
    ]  # fmt: skip
    assert list(labelled([Replay(), Replay(0.05, "general")], "methods")) == [
        "replay share 5 %, of all", "replay share 5 %, of general",
    ]  # fmt: skip
    assert list(labelled([Replay()], "methods")) == ["replay 5 %"]
    assert list(labelled([Forgetting(), Forgetting("first_minus_last")], "metrics")) == [
        "forgetting form max", "forgetting form first minus last",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="methods hold naive twice"):
        labelled([Naive(), Naive()], "methods")


# Draws


def test_draws_are_paired_and_centred():
    draw = np.random.default_rng(0)
    count = draw.integers(20, 200, 80).astype(float)
    first = Tally(count * draw.normal(3, 0.5, 80), count)
    seen = Sightings.of([{"a": first}, {"a": Tally(first.total * 1.1, count)}])
    drawn = seen.drawn("a", 3000, 0)
    assert drawn.shape == (3000, 2)
    np.testing.assert_allclose(drawn[:, 1] / drawn[:, 0], 1.1, rtol=1e-12)  # the same documents for both models
    assert drawn.mean(0) == pytest.approx(seen.means("a"), rel=2e-3)
    assert np.array_equal(drawn, seen.drawn("a", 3000, 0)) and not np.array_equal(drawn, seen.drawn("a", 3000, 1))
    with pytest.raises(UsageError, match='not scored on the same documents of "a"'):
        Sightings.of([{"a": first}, {"a": Tally(first.total[:-1], count[:-1])}])


# The job


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("texts")
    spoken = {"law": WORDS, "sea": OTHER, "mirror": [word[::-1] for word in WORDS], "rest": OTHER + WORDS}
    return {name: write_texts(root / name, words, 60, seed) for seed, (name, words) in enumerate(spoken.items())}


def small(world: World, texts: dict[str, Path], **changes: Any) -> Continual:
    job = Continual(
        base=str(world.base.folder),
        domains={name: str(texts[name]) for name in ("law", "sea", "mirror")},
        general=(str(texts["rest"]),),
        methods=(Naive(), Replay(0.25), Joint()),
        curate=Curate(split=Split(test=0.2)),
        train=Train(
            tokens=2048,
            sequence_length=64,
            batch_size=4,
            learning_rate=2e-3,
            evaluations=1,
            validation_tokens=300,
            precision="fp32",
        ),
        evaluate=Evaluate(max_tokens=1500),
        judge=Judge(draws=200),
    )
    return replace(job, **changes)


@pytest.fixture(scope="module")
def streamed(world, texts, tmp_path_factory) -> tuple[Continual, dict[str, Any], dict[str, Any], Store]:
    """A stream of three domains by every default method, with two seeds."""
    root = tmp_path_factory.mktemp("stream")
    methods = (
        Naive(), Replay(0.25), Anchor(penalty_weight=0.0), StayClose(), Lora(rank=2), OLora(rank=2), BlockExpansion(),
        Joint(),
    )  # fmt: skip
    job = small(world, texts, methods=methods, seeds=(0, 1), out=str(root / "out"))
    store = Store(root / "store")
    outcome = job(store)
    return job, json.loads((outcome.artifacts[-1] / "stream.json").read_text()), outcome.summary, store


@pytest.mark.slow
def test_the_whole_matrix_and_the_start_row_are_there(streamed):
    _, told, summary, _ = streamed
    assert told["domains"] == ["law", "sea", "mirror"] and told["seeds"] == [0, 1]
    for label, one in told["methods"].items():
        for measure in ("loss", "accuracy"):
            rows = np.array(one[measure]["matrix"], float)
            assert rows.shape == (3, 4)
            assert np.isnan(rows[:2]).all() == (label == "joint") and np.isfinite(rows[2]).all()
    assert set(told["start"]["loss"]) == {"law", "sea", "mirror", "general"}
    assert [set(one["seeds"]) for one in told["methods"].values()] == [{0, 1}] * 8
    assert summary["runs"]["naive"]["cost"]["tokens"] == 3 * 2048
    assert summary["runs"]["joint"]["cost"]["tokens"] == 3 * 2048
    assert summary["runs"]["block_expansion"]["cost"]["parameters"] > summary["runs"]["naive"]["cost"]["parameters"]
    assert sorted(row["rank"] for row in summary["runs"].values())[0] == 1


@pytest.mark.slow
def test_every_number_of_the_matrix_is_read_off_the_model_that_it_names(streamed):
    """R[t][j] anew from the models' own evidence; accuracy by scikit-learn."""
    _, told, _, store = streamed
    seen = {one.manifest["origins"]["model"].split("/")[0]: one for one in store.artifacts() if one.kind == "evidence"}
    naive = told["methods"]["naive"]
    for turn in range(3):
        losses, hits = [], []
        for models in naive["models"]:
            evidence = read_evidence(seen[models[turn]])["sea"]
            losses.append(evidence.nats_N.astype(float).mean())
            hits.append(accuracy_score(np.ones(len(evidence.best_N)), evidence.best_N))
        assert naive["loss"]["matrix"][turn][1] == pytest.approx(np.mean(losses), rel=1e-9)
        assert naive["accuracy"]["matrix"][turn][1] == pytest.approx(np.mean(hits), rel=1e-9)
    matrix = np.array(naive["loss"]["matrix"])
    metrics = naive["loss"]["metrics"]
    assert metrics["overall_performance"]["value"] == pytest.approx(matrix[2, :3].mean())
    forgot = ((matrix[2, 0] - matrix[0, 0]) + (matrix[2, 1] - matrix[1, 1])) / 2
    assert metrics["forgetting form first minus last"]["value"] == pytest.approx(forgot)
    start = told["start"]["loss"]
    forward = ((start["sea"] - matrix[0, 1]) + (start["mirror"] - matrix[1, 2])) / 2
    assert metrics["forward_transfer"]["value"] == pytest.approx(forward)
    low, high = metrics["overall_performance"]["interval"]
    spread = metrics["overall_performance"]["spread"]
    assert low < metrics["overall_performance"]["value"] < high and spread[0] < spread[1]


@pytest.mark.slow
def test_a_leash_of_nothing_is_naive_to_the_bit(streamed):
    _, told, _, store = streamed
    ours, plain = ([store.get(name) for name in told["methods"][label]["models"][0]] for label in (
        "anchor penalty_weight 0", "naive"))  # fmt: skip
    for one, other in zip(ours, plain, strict=True):
        assert (one / "model/model.safetensors").read_bytes() == (other / "model/model.safetensors").read_bytes()


@pytest.mark.slow
def test_replay_keeps_more_and_joint_is_the_bound(streamed):
    """Not by much on so little text, but the order is that of every stream."""
    _, told, summary, _ = streamed
    lost = {label: one["loss"]["metrics"]["forgetting form max"]["value"] for label, one in told["methods"].items()}
    assert lost["joint"] is None
    assert lost["replay 25 %"] < lost["naive"]
    runs = summary["runs"]
    assert runs["joint"]["loss"]["overall_performance"] < runs["naive"]["loss"]["overall_performance"]
    assert runs["joint"]["against"]["difference"] < 0 and runs["naive"]["against"] is None
    assert not runs["joint"]["front"] and any(row["front"] for row in runs.values())  # a bound, not one to choose
    for label, row in told["methods"].items():
        assert all(label in told["methods"][other]["tied"] for other in row["tied"])
        against = row["against"]
        if against and against["interval"]:
            assert ("naive" in row["tied"]) == (against["interval"][0] <= 0 <= against["interval"][1])
    flips = told["methods"]["naive"]["flips"]
    assert set(flips) == {"law", "sea", "general"} and all(0 <= one["lost"] <= 1 for one in flips.values())
    assert set(told["methods"]["joint"]["flips"]) == {"general"}


@pytest.mark.slow
def test_a_second_run_does_nothing_and_the_gate_reads_the_summary(streamed):
    job, _, summary, store = streamed
    made: list[bool] = []
    again = job(replace(store, on_made=lambda _, fresh: made.append(fresh)))
    assert made and not any(made) and again.summary == summary
    check_gate(read_conditions(["naive.general.change > 900%"], job), summary)
    with pytest.raises(GateClosed, match="naive.loss.overall_performance is"):
        check_gate(read_conditions(["loss.overall_performance > 0"], job), summary)
    with pytest.raises(UsageError, match='no number "naive.loss.nothing"'):
        read_conditions(["naive.loss.nothing > 0"], job)
    keys = job.number_keys()
    for key in ("rank", "general.change", "cost.seconds", "replay-25.accuracy.fuar"):
        assert key in keys


@pytest.mark.slow
def test_order_seeds_metrics_and_draws_are_read(world, texts, tmp_path):
    store = Store(tmp_path / "store")
    job = small(world, texts, methods=(Naive(),), out=str(tmp_path / "out"))
    first = job(store).summary
    other = replace(job, order=("mirror", "law", "sea"), seeds=(3,))(store).summary
    assert other["domains"] == ["mirror", "law", "sea"] and other["seeds"] == [3]
    assert other["runs"]["naive"]["loss"] != first["runs"]["naive"]["loss"]
    drawn = replace(job, judge=Judge(draws=300, seed=5, metrics=(OverallPerformance(), OverallPerformance(after=1))))
    few = drawn(store).summary["runs"]["naive"]
    assert set(few["loss"]) == {"overall_performance-after-0", "overall_performance-after-1"}
    assert few["loss_intervals"] != first["runs"]["naive"]["loss_intervals"]
    assert any("joint, replay" in note for note in first["notes"]) and any(
        "One seed" in note for note in first["notes"]
    )
    with pytest.raises(UsageError, match="overall_performance after turn 9"):
        replace(job, judge=Judge(metrics=(OverallPerformance(), OverallPerformance(after=9))))(store)


RECIPE = """
continual:
  base: {base}
  domains: {{law: {law}, sea: [{sea}]}}
  general: {rest}
  methods: [naive, replay: {{share: 25%}}]
  curate: {{split: {{test: 0.2}}}}
  train:
    {{tokens: 2k, sequence_length: 64, batch_size: 4, learning_rate: 2e-3, evaluations: 1, precision: fp32,
      checkpoint_minutes: 0}}
  evaluate: {{max_tokens: 3000}}
  judge: {{draws: 200}}
  out: {out}
"""


@pytest.mark.slow
def test_a_killed_stream_goes_on_and_ends_the_same(world, forks, texts, tmp_path):
    paths = {name: str(path) for name, path in texts.items()}
    recipe = tmp_path / "stream.yaml"
    recipe.write_text(RECIPE.format(base=world.base.folder, out=tmp_path / "out", **paths))
    whole = read_recipe(recipe)(Store(tmp_path / "whole")).summary
    place = tmp_path / "killed"
    command = [sys.executable, "-m", "graft", "continual", str(recipe), "--store", str(place)]
    for trained in (1, 2):  # killed while a turn is trained, twice
        running = Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | {"NO_COLOR": "1"})
        deadline = time.monotonic() + 500
        while len(list(place.glob("train-*"))) < trained and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        assert running.returncode == -signal.SIGKILL
    before = {path.parent.name: path.stat().st_mtime_ns for path in place.glob("train-*/manifest.json")}
    done = call(*command[3:])
    assert done.returncode == 0, done.stderr
    assert {
        path.parent.name: path.stat().st_mtime_ns for path in place.glob("train-*/manifest.json")
    }.items() >= before.items()
    again = json.loads((tmp_path / "out" / "summary.json").read_text())
    for one in (whole, again):
        for row in one["runs"].values():
            row["cost"].pop("seconds"), row["cost"].pop("peak_memory_bytes")
    assert again == whole


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"domains": {"law": "x"}}, "domains names 1"),
        ({"domains": {"law": "x", "general": "y"}}, 'called "general"'),
        ({"domains": {"law": "x", "a/b": "y"}}, 'called "a/b"'),
        ({"order": ("law", "see", "mirror")}, 'did you mean "sea"'),
        ({"order": ("law", "sea")}, "order is law, sea"),
        ({"methods": ()}, "0 methods"),
        ({"seeds": (1, 1)}, r"seeds \[1, 1\]"),
        ({"methods": (Naive(), Naive())}, "methods hold naive twice"),
    ],
)
def test_bad_streams_are_refused_before_any_work(world, texts, changes, said):
    with pytest.raises(UsageError, match=said):
        small(world, texts, **changes)


def test_a_domain_of_one_document_has_no_interval_and_says_so(world, texts, tmp_path):
    """Two documents: one is trained on, the other is the test."""
    few = tmp_path / "few"
    few.mkdir()
    for number, path in enumerate(sorted(texts["mirror"].iterdir())[:2]):
        (few / f"{number}.txt").write_text(path.read_text())
    domains = {"law": str(texts["law"]), "few": str(few)}
    job = small(world, texts, domains=domains, methods=(Naive(),), out=str(tmp_path / "out"))
    summary = job(Store(tmp_path / "store")).summary
    assert summary["documents"]["few"] == 1
    assert any("few: one test document" in note for note in summary["notes"])
    without = summary["runs"]["naive"]["loss_intervals"]
    assert without["overall_performance"] is None and without["forward_transfer"] is None
    assert without["backward_transfer-divisor-gem"] and without["general_change"]  # of law, and of neither
    assert summary["runs"]["naive"]["general"]["interval"]


def test_a_method_that_cannot_train_the_base_is_refused_before_any_work(texts, tmp_path, world):
    job = small(world, texts, methods=(Naive(), Combined(objective=Denoise())), out=str(tmp_path / "out"))
    store = Store(tmp_path / "store")
    with pytest.raises(UsageError, match="objective denoise cannot train"):
        job(store)
    assert {one.kind for one in store.artifacts()} <= {"runtime"}


@pytest.mark.slow
def test_a_suite_is_asked_after_every_turn(world, texts, tmp_path):
    """Its shares are those of the items that `graft eval` keeps."""
    suite = tmp_path / "suite"
    suite.mkdir()
    draw = np.random.default_rng(0)
    for task in ("one", "two"):
        rows = [
            {"query": " ".join(draw.choice(WORDS, 4)), "choices": [a, b], "gold": int(draw.integers(2))}
            for a, b in zip(sorted(set(WORDS))[:8], (word.upper() for word in sorted(set(OTHER))[:8]), strict=True)
        ]
        (suite / f"{task}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    store = Store(tmp_path / "store")
    job = small(world, texts, methods=(Naive(), Joint()), suite=(str(suite),), out=str(tmp_path / "out"))
    outcome = job(store)
    told = json.loads((outcome.artifacts[-1] / "stream.json").read_text())
    assert {task: one["items"] for task, one in told["suite"]["tasks"].items()} == {"one": 8, "two": 8}
    answers = [one for one in store.artifacts() if one.kind == "answers"]
    assert len(answers) == 1 + 3 + 1
    by_model = {one.manifest["origins"]["model"].split("/")[0]: read_answers(one) for one in answers}
    last = by_model[told["methods"]["naive"]["models"][0][2]]
    shares = [last.correct_I[last.task_I == task].mean() for task in (0, 1)]
    naive = told["methods"]["naive"]["suite"]
    assert naive["after"][2] == pytest.approx(np.mean(shares))
    assert naive["change"] == pytest.approx(naive["after"][2] - told["suite"]["start"])
    assert naive["found"] - naive["lost"] == pytest.approx(naive["change"])
    assert naive["interval"][0] <= naive["change"] <= naive["interval"][1]
    assert told["methods"]["joint"]["suite"]["after"][:2] == [None, None]
    assert outcome.summary["runs"]["naive"]["suite"] == naive
    few = replace(job, answer=Answer(limit=4))(store).summary["suite"]["tasks"]
    assert {task: one["items"] for task, one in few.items()} == {"one": 4, "two": 4}


@pytest.mark.slow
def test_without_a_number_of_tokens_every_method_gets_the_same(world, texts, tmp_path):
    """One pass over each domain, however different they are in size; replay takes the place of some of it."""
    small_one = write_texts(tmp_path / "short", WORDS[::-1], 20, seed=9)
    job = small(
        world, texts, domains={"law": str(texts["law"]), "short": str(small_one)}, out=str(tmp_path / "out"),
        train=Train(sequence_length=64, batch_size=4, learning_rate=2e-3, evaluations=1, precision="fp32"),
    )  # fmt: skip
    runs = job(Store(tmp_path / "store")).summary["runs"]
    tokens = [row["cost"]["tokens"] for row in runs.values()]
    assert max(tokens) - min(tokens) <= 3 * 4 * 64  # each run is a whole number of steps
    assert all(row["cost"]["seconds"] > 0 for row in runs.values())


def test_a_wrong_suite_is_found_before_any_work(world, texts, tmp_path):
    store = Store(tmp_path / "store")
    with pytest.raises(UsageError, match="nowhere"):
        small(world, texts, suite=(str(tmp_path / "nowhere.jsonl"),), out=str(tmp_path / "out"))(store)
    assert {one.kind for one in store.artifacts()} <= {"runtime"}
    assert "suite.change" not in small(world, texts).number_keys()
    assert "naive.suite.change" in small(world, texts, suite=("x.jsonl",)).number_keys()


@pytest.mark.slow
def test_where_a_store_lies_does_not_change_what_is_trained(world, texts, tmp_path, monkeypatch):
    """O-LoRA reads the adapters of earlier turns from the store: by what is in them, wherever that is."""
    job = small(world, texts, methods=(OLora(rank=2),), out=str(tmp_path / "out"))
    first = job(Store(tmp_path / "store"))
    made: list[bool] = []
    monkeypatch.chdir(tmp_path)
    job(Store(Path("store"), on_made=lambda _, fresh: made.append(fresh)))
    assert made and not any(made)
    last = next(one for one in reversed(first.artifacts) if one.kind == "train")
    assert last.manifest["settings"]["tuning"] == {
        "o_lora": last.manifest["settings"]["tuning"]["o_lora"] | {"earlier": []}
    }
    assert len([name for name in last.origins if name.startswith("adapter")]) == 2


@pytest.mark.slow
def test_a_base_that_has_read_the_test_text_is_said(world, texts, tmp_path):
    """A model of an earlier stream, scored with another split: some of what is tested now was trained on then."""
    store = Store(tmp_path / "store")
    job = small(world, texts, methods=(Naive(),), out=str(tmp_path / "out"))
    learned = job(store)
    model = next(one for one in learned.artifacts if one.kind == "train") / "model"
    again = replace(job, base=str(model), curate=Curate(split=Split(test=0.2, seed=1)))(store).summary["notes"]
    assert any("law: " in note and "text that the base was trained on" in note for note in again)
    same = replace(job, base=str(model))(store).summary["notes"]
    assert not any("trained on" in note for note in same)
