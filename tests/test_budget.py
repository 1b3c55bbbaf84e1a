"""A budget: what may be forgotten goes in, and a model that keeps to it comes out, or none."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from graft.budget.choose_mixture import Choose, lasting_share, learned_at
from graft.budget.pilot_runs import Pilots, mixture_of, trials_of
from graft.budget.walk_back import Place, WalkBack, best_inside, many_documents, search, walk_back
from graft.cli import app as cli
from graft.cli.gate import check_gate, read_conditions
from graft.core.config.errors import GateClosed, UsageError
from graft.core.config.recipe import read_recipe
from graft.core.config.settings import build, percentage
from graft.core.models.base_model import Base
from graft.core.store.artifact import Store
from graft.jobs.adapt import Adapt
from graft.jobs.budget import Budget, further
from graft.models.edit.interpolation import Line
from graft.planning.plan import forecast
from graft.planning.screen import show_forecast
from graft.report.adaptation.budgeted import Budgeted
from graft.scaling.fitting.fit import Fitting
from graft.scaling.fitting.trials import Trials
from graft.scaling.laws.d_cpt import DCpt
from graft.training.objectives.causal import Causal
from graft.training.objectives.stay_close import StayClose
from graft.training.run import due_steps
from graft.training.schedules.constant import Constant
from graft.training.settings import Train
from graft.training.train import train

TRAIN = Train(
    tokens=64 * 4 * 60,
    sequence_length=64,
    batch_size=4,
    micro_batch_size=4,
    learning_rate=4e-3,
    precision="fp32",
    evaluations=1,
)


@pytest.fixture(scope="module")
def knowing(world, tmp_path_factory) -> Base:
    """The tiny base, once it has learned the general text: there is something to forget."""
    store = Store(tmp_path_factory.mktemp("knowing"))
    settings = replace(TRAIN, tokens=64 * 4 * 300, learning_rate=1e-2)
    taught = train(world.base, world.tokens, {"general": 1.0}, settings, store=store)
    return Base("knowing", taught / "model")


@pytest.fixture(scope="module")
def job(world, knowing, tmp_path_factory) -> Budget:
    out = tmp_path_factory.mktemp("budget") / "out"
    adapt = Adapt(
        base=str(knowing.folder),
        domain=(str(world.domain),),
        general=(str(world.general),),
        out=str(out),
        tokenize=replace(Adapt().tokenize),
        train=TRAIN,
    )
    return Budget(forget=0.05, adapt=adapt, pilots=Pilots(share=0.4, validation_tokens=3000))


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("budgets"))


@pytest.fixture(scope="module")
def kept(job, store):
    return job(store)


def test_a_budget_is_kept_on_test_text_and_the_domain_improves(kept, job):
    summary = kept.summary
    assert summary["split"] == "test" and summary["general"]["change"] <= job.forget
    assert summary["domain"]["change"] < -0.05
    assert summary["budget"]["kept"] and 0 < summary["budget"]["share"] <= 1
    assert ": inside the budget" in summary["verdict"]
    assert (kept.out / "model" / "model.safetensors").exists() and (kept.out / "model" / "training.json").exists()


def test_what_was_found_out_stands_in_the_summary_and_on_the_page(kept, job):
    budget = kept.summary["budget"]
    choice = next(one for one in kept.artifacts if one.kind == "choice")
    assert budget["ratio"] == choice.facts["choice"]["ratio"] in {one["ratio"] for one in choice.facts["candidates"]}
    low, high = sorted(budget["predicted"]["domain"])[0], sorted(budget["predicted"]["domain"])[-1]
    assert low < high and math.isfinite(low + high)
    assert budget["pilots"]["runs"] == 3 and 0.2 < budget["pilots"]["of_final"] <= job.pilots.share
    assert set(budget["result"]) == {"domain", "general"}
    page = (kept.out / "report.html").read_text()
    assert 'id="frontier"' in page


def test_the_table_of_pilots_is_what_the_laws_were_fitted_to(kept):
    choice = next(one for one in kept.artifacts if one.kind == "choice")
    rows = list(csv.DictReader((choice / "pilots.csv").open()))
    assert {float(row["ratio"]) for row in rows} == set(Pilots().ratios)
    starts = [row for row in rows if row["tokens"] == "0"]
    assert len(starts) == 3 and all(row["domain_loss"] == row["domain_base"] for row in starts)
    tokens = sorted({int(row["tokens"]) for row in rows})
    assert tokens[0] == 0 and len(tokens) > 4
    fits = json.loads((choice / "laws.json").read_text())["causal"]
    assert set(fits["domain"]) == {"head_start", "fit"} and set(fits["general"]) == {"replay", "fit"}


def test_the_same_budget_again_makes_nothing(kept, job, store):
    made: list[bool] = []
    again = job(replace(store, on_made=lambda artifact, fresh: made.append(fresh)))
    assert made and not any(made) and again.summary == kept.summary


def test_a_model_that_breaks_the_budget_is_walked_back_until_it_does_not(job, store):
    tight = replace(job, forget=0.01, pilots=replace(job.pilots, ratios=(1.0, 0.95)), choose=Choose(step=0.25))
    outcome = tight(store)
    walked = [one for one in outcome.artifacts if one.kind == "walked"][-1]
    places = json.loads((walked / "line.json").read_text())
    assert places[0]["share"] == 1.0 and places[0]["general_change"] > 0.01
    assert 0 < walked.facts["share"] < 1 and outcome.summary["general"]["change"] <= 0.01
    taken = next(place for place in places if place["share"] == walked.facts["share"])
    assert taken["general_bound"] <= walked.facts["budget"] and taken["domain_change"] < 0


def test_where_nothing_is_to_be_gained_no_model_is_left_and_the_gate_is_closed(job, store, tmp_path):
    home = replace(job.adapt, domain=job.adapt.general, general=job.adapt.domain, out=str(tmp_path / "none"))
    with pytest.raises(GateClosed, match="Not worth it") as closed:
        replace(job, adapt=home, choose=Choose(worth=0.5))(store)
    assert closed.value.exit_code == 3 and "at home" in str(closed.value)
    assert not (tmp_path / "none" / "model").exists()
    summary = json.loads((tmp_path / "none" / "summary.json").read_text())
    assert not summary["budget"]["kept"] and summary["budget"]["result"] is None
    assert summary["outcome"] == "no model" and summary["ratio"] is None and not any(summary["tokens"].values())
    assert (tmp_path / "none" / "report.html").exists()


def test_hours_are_minutes_by_another_unit(job):
    adapt = replace(job.adapt, train=replace(job.adapt.train, tokens=None))
    assert replace(job, hours=0.5, adapt=adapt).minutes == 30
    timed = replace(adapt, train=replace(adapt.train, minutes=30.0))
    assert replace(job, adapt=timed).minutes == 30 and job.minutes is None
    with pytest.raises(UsageError, match="hours is 1 and adapt.train.minutes 30"):
        replace(job, hours=1, adapt=timed)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"forget": 0}, "forget is 0"),
        ({"forget": 2}, "such as 2% or 0.02"),
        ({"hours": -1.0}, "hours is -1"),
        ({"hours": 1.0, "adapt": {"train": {"tokens": 1000}}}, "one of the two"),
        ({"hours": float("nan")}, "hours is nan"),
        ({"adapt": {"replay": 0.5}}, "it is chosen"),
        ({"adapt": {"train": {"objective": "stay_close"}}}, "name it in pilots.objectives"),
        ({"adapt": {"train": {"tuning": "block_expansion"}}}, "there is no way back"),
        ({"pilots": {"ratios": [1.0, 0.5, 0.5]}}, "different shares"),
        ({"walk_back": {"window": 0}}, "window is 0"),
        ({"adapt": {"train": {"range_test": {}}}}, "range_test is given"),
        ({"adapt": {"evaluate": {"split": "validation"}}}, "no choice has seen"),
        ({"pilots": {"ratios": [0.5]}}, "two or more different shares"),
        ({"pilots": {"ratios": [0.5, 30]}}, "above 0, up to 1"),
        ({"pilots": {"share": 0}}, "share is 0"),
        ({"pilots": {"looks": 1}}, "looks is 1"),
        ({"walk_back": {"looks": 0}}, "looks is 0"),
        ({"walk_back": {"confidence": 0.2}}, "confidence is 0.2"),
        ({"choose": {"step": 0.9}}, "step is 0.9"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(settings, words):
    with pytest.raises(UsageError, match=words):
        build(Budget, settings)


@pytest.mark.parametrize("bound", [-0.01, 0.012, 0.03])
def test_a_model_that_broke_its_word_is_held_to_less_than_it_kept(bound):
    aim = further(0.02, bound, rise=0.025, forget=0.02)
    assert 0 < aim < 0.02 and (bound < 0 or aim < bound)
    assert further(0.02, bound, rise=0.05, forget=0.02) < aim


def test_percentages_are_shares_in_every_setting():
    assert build(Budget, {"forget": "2%"}).forget == 0.02 == percentage("2 %")
    assert build(Adapt, {"replay": "25%"}).replay == 0.25
    assert percentage("2") is None and percentage("%") is None and percentage("inf%") is None
    with pytest.raises(UsageError, match="forget"):
        build(Budget, {"forget": "2 percent"})


def test_the_recipe_reads_its_percentage():
    assert read_recipe("recipes/budget.yaml").forget == 0.03


def test_pilots_too_short_to_tell_anything_are_refused(job, knowing):
    shape = job.adapt.train.shape(knowing, 10_000, 1.0)
    with pytest.raises(UsageError, match="steps each") as refused:
        Pilots(share=0.05).settings(job.adapt.train, shape, job.adapt.train.objective)
    assert re.search(r"give [\d,]+ tokens", str(refused.value))
    short = Pilots(share=0.4).settings(job.adapt.train, shape, job.adapt.train.objective)
    assert isinstance(short.schedule, Constant) and short.learning_rate == shape.rate and short.spacing == "thinning"
    assert 3 * short.tokens <= 0.4 * shape.tokens


def test_each_law_is_asked_about_the_ratio_of_its_own_text(kept, store, job):
    from graft.budget.pilot_runs import Pilot

    runs = [one for one in kept.artifacts if one.kind == "train"][:3]
    pilots = [Pilot(ratio, Causal(), run) for ratio, run in zip(job.pilots.ratios, runs, strict=True)]
    domain, general = (trials_of(pilots, source, 1000) for source in ("domain", "general"))
    assert np.allclose(domain.column("ratio") + general.column("ratio"), 1)
    assert set(domain.run_T.tolist()) == {0, 1, 2} and (domain.column("tokens") > 0).all()
    assert isinstance(domain, Trials) and (domain.column("horizon") == 1000).all()
    assert [dict(mixture_of(ratio)) for ratio in (1.0, 0.5)] == [{"domain": 1.0}, {"domain": 0.5, "general": 0.5}]


def test_of_several_objectives_each_gets_its_own_pilots_and_laws(job, store, tmp_path):
    objectives = (Causal(), StayClose(kl_weight=0.5), StayClose(kl_weight=0.25))
    several = replace(job, pilots=replace(job.pilots, objectives=objectives, share=1.0, ratios=(1.0, 0.5)))
    choice = next(one for one in several.make(store)[0] if one.kind == "choice")
    names = ["causal", "stay_close (kl_weight 0.5)", "stay_close (kl_weight 0.25)"]
    assert list(json.loads((choice / "laws.json").read_text())) == names
    assert {one["objective"] for one in choice.facts["candidates"]} == set(names)
    chosen = choice.facts["choice"]
    best = min(choice.facts["candidates"], key=lambda one: one["reached"])
    assert chosen["objective"] == best["objective"] and chosen["ratio"] == best["ratio"]
    assert list(chosen["settings"]) == [best["objective"].split()[0]]


def test_another_law_may_be_asked(job, store):
    other = replace(job, choose=Choose(general_law=DCpt(fitting=Fitting(draws=0))))
    choice = next(one for one in other.make(store)[0] if one.kind == "choice")
    assert "d_cpt" in json.loads((choice / "laws.json").read_text())["causal"]["general"]


def test_a_line_ends_at_its_two_models_to_the_bit(world, knowing):
    line = Line(world.base.folder, knowing.folder, "fp32")
    start, end = (load_file(one.folder / "model.safetensors") for one in (world.base, knowing))

    def weights():
        return {name: weight for name, weight in line.model.hf.state_dict().items() if name in end}

    for share, there in ((0.0, start), (1.0, end)):
        line.at(share)
        assert all((weight == there[name].float()).all() for name, weight in weights().items())
    line.at(0.25)
    for name, weight in weights().items():
        expected = 0.75 * start[name].double() + 0.25 * end[name].double()
        assert np.allclose(weight.double(), expected, atol=1e-6)


def test_no_line_leads_between_models_of_other_shapes(world, knowing, tmp_path):
    from graft.surgery.initialize import Initialize, initialize

    small = Initialize(vocabulary=320, width=16, layers=2, heads=2, feed_forward=64, window=64)
    other = initialize(world.corpus, small, store=world.store) / "model"
    with pytest.raises(UsageError, match="no line leads"):
        Line(other, knowing.folder, "fp32")


def place(share: float, rise: float, gain: float = 0.3) -> Place:
    """Validation as it would be if a rise were the square of the share, and the gain grew as on a bowl."""
    domain = -gain * float(learned_at(np.array(share)))
    general = rise * share**2
    return Place(share, 5 * (1 + domain), 4 * (1 + general), domain, general, domain + 0.001, general + 0.001)


@pytest.mark.parametrize("rise", [0.005, 0.0205, 0.05, 0.3, 3.0])
def test_the_search_finds_where_the_budget_is_just_kept(rise):
    places = search(lambda share: place(share, rise), 0.02, looks=6)
    taken = best_inside(places, 0.02)
    assert places[0].share == 1.0
    ideal = min(1.0, math.sqrt((0.02 - 0.001) / rise))
    assert taken <= 1.0001 * ideal and taken > 0.93 * ideal
    assert len(places) == 1 if rise + 0.001 <= 0.02 else len(places) <= 4


@pytest.mark.parametrize("learned", [0.0, 0.05, 0.12])
def test_the_search_also_finds_it_where_general_text_improves_on_the_way(learned):
    """As on runs with replay: better than the base half-way, worse at the end."""

    def look(share: float) -> Place:
        rise = 0.18 * share**2 - learned * (1 - (1 - share) ** 1.7)
        return replace(place(share, 0.0), general_change=rise, general_bound=rise + 0.002)

    places = search(look, 0.02, looks=6)
    scan = np.linspace(0, 1, 10001)
    ideal = max(share for share in scan if look(share).general_bound <= 0.02)
    assert 0.95 * ideal < best_inside(places, 0.02) <= ideal + 1e-4 and len(places) <= 5


def test_as_many_documents_are_looked_at_as_there_is_room_for(world):
    from graft.data.tokenize import sources

    general = sources(world.tokens)["general"]
    every, few = many_documents(general, 0), many_documents(general, 700)
    assert not every.cut_D.any() and every.num_pairs > 700
    assert few.num_pairs <= 700 and few.cut_D.any() and few.pairs_D.max() >= 192
    assert set(few.documents_D.tolist()) <= set(every.documents_D.tolist())
    tight = many_documents(general, every.num_pairs - 1)
    assert len(tight) == len(every) and tight.num_pairs <= every.num_pairs - 1


def test_nothing_is_taken_that_is_not_surely_better_than_the_base():
    worse = [place(1.0, 0.01, gain=-0.1), place(0.5, 0.01, gain=0.0005)]
    assert best_inside(worse, 0.02) == 0.0


def test_of_places_inside_the_budget_the_best_reader_is_taken():
    over = Place(1.0, 3.2, 4.0, -0.3, 0.0, -0.29, 0.01)
    assert best_inside([over, Place(0.8, 3.1, 4.0, -0.32, 0.0, -0.31, 0.01)], 0.02) == 0.8


def test_how_long_a_budget_lasts_is_where_a_scan_of_the_line_breaks_it():
    draw = np.random.default_rng(0)
    forgotten, learned = draw.uniform(0, 0.5, 200), draw.uniform(0, 0.1, 200)
    shares = np.linspace(0, 1, 20001)
    rise = forgotten[:, None] * shares**2 - learned[:, None] * (1 - (1 - shares) ** 1.7)
    scanned = [shares[-1] if row[-1] <= 0.02 else shares[np.flatnonzero(row <= 0.02)[-1]] for row in rise]
    assert np.allclose(lasting_share(forgotten, learned, 0.02), scanned, atol=1e-4)


def test_thinning_evaluations_lie_a_factor_apart_and_even_ones_a_stretch():
    assert due_steps(100, 4, "even") == {25, 50, 75, 100}
    assert due_steps(7, 3, "even") == {3, 5, 7}
    thin = sorted(due_steps(6400, 7, "thinning"))
    assert thin == [100, 200, 400, 800, 1600, 3200, 6400]
    assert max(due_steps(9, 6, "thinning")) == 9 and min(due_steps(9, 6, "thinning")) == 1
    assert due_steps(50, 1, "thinning") >= {50}


def test_a_run_is_watched_where_spacing_says(world, tmp_path):
    def watched(spacing: str) -> list[int]:
        asked = replace(TRAIN, tokens=64 * 4 * 32, evaluations=4, spacing=spacing, validation_tokens=500)
        run = train(world.base, world.tokens, {"domain": 1.0}, asked, store=Store(tmp_path / spacing))
        return [entry["step"] for entry in json.loads((run / "curve.json").read_text()) if "validation" in entry]

    assert watched("even") == [0, 8, 16, 24, 32]
    assert watched("thinning") == [0, 1, 3, 10, 32]


def test_the_walks_settings_are_read(job, store, kept):
    ready = job.adapt.read(store)
    trained = next(one for one in kept.artifacts if one.kind == "train" and one.facts["shape"]["steps"] == 60)

    def bound(**settings) -> float:
        walked = walk_back(ready.base, trained, ready.tokens, 0.05, WalkBack(**settings), store=store)
        return json.loads((walked / "line.json").read_text())[0]["general_bound"]

    assert bound(confidence=0.99) > bound(confidence=0.6)
    assert bound(seed=1) != bound(seed=2)
    assert bound(max_tokens=500) != bound(max_tokens=2000)
    assert bound(window=16) != bound()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--hours", "2"], "together with --forget"),
        (["--forget", "2%", "--replay", "10%"], "with --forget it is chosen"),
        (["--forget", "2 percent"], "forget is '2 percent'"),
        (["--forget", "200%"], "such as 2% or 0.02"),
        (["--forget", "2%", "--hours", "1", "--tokens", "400k"], "one of the two"),
        (["--forget", "2%", "--set", "train.rowz=4"], "unknown key"),
        (["--forget", "2%", "--fail-if", "budget.shore < 1"], "no number"),
        (["--replay", "1.5"], "a share of the tokens"),
    ],
)
def test_the_command_line_refuses_in_words(options, words, world, tmp_path, capsys, monkeypatch):
    said = ["graft", "adapt", "embedded", "--domain", str(world.domain), "--out", str(tmp_path / "out"), *options]
    monkeypatch.setattr("sys.argv", [*said, "--store", str(tmp_path / "store")])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2 and words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_settings_of_the_adaptation_are_changed_by_the_same_names_as_without_a_budget():
    assert cli.inside(Budget, Adapt, "train.batch_size=4") == "adapt.train.batch_size=4"
    assert cli.inside(Budget, Adapt, "pilots.share=0.1") == "pilots.share=0.1"
    assert cli.as_number("0.02") == 0.02 and cli.as_number("2%") == "2%"


def test_a_plan_says_what_the_pilots_will_cost(job, tmp_path, capsys):
    one = forecast(job, Store(tmp_path / "empty"))
    assert one.pilots == 3 and 0.2 * one.shape.tokens < one.pilot_tokens <= job.pilots.share * one.shape.tokens
    show_forecast(one)
    said = capsys.readouterr().out
    assert "3 runs at 100%, 75%, 50% domain text" in said and "may rise by 5 %" in said


def test_a_plan_for_hours_has_as_many_tokens_as_they_allow(job, tmp_path, monkeypatch):
    monkeypatch.setattr("graft.planning.plan.train_flops", lambda store, precision: 4e8)
    adapt = replace(job.adapt, train=replace(job.adapt.train, tokens=None))
    short, long = (forecast(replace(job, hours=hours, adapt=adapt), Store(tmp_path)) for hours in (0.02, 0.08))
    assert 2 < long.shape.tokens / short.shape.tokens < 8


def test_a_gate_reads_the_numbers_of_the_budget(job, kept):
    conditions = read_conditions(["budget.share < 0.01", "budget.pilots.of_final > 90%"], job)
    check_gate(conditions, kept.summary)
    with pytest.raises(GateClosed, match=r"budget\.ratio"):
        check_gate(read_conditions(["budget.ratio > 0"], job), kept.summary)


def test_what_is_scored_on_the_line_is_what_is_saved(job, store, tmp_path):
    """Bases are stored in bf16, which moves weights that lie between: the saved model is read back and scored."""
    from graft.data.tokenize import sources
    from graft.models.files.weights import open_model
    from graft.models.scoring.scoring import nats_by_document

    half = tmp_path / "half"
    model = open_model(Path(job.adapt.base), "fp32")
    model.hf.to(torch.bfloat16).save_pretrained(half)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (Path(job.adapt.base) / name).exists():
            shutil.copyfile(Path(job.adapt.base) / name, half / name)
    base = Base.find(str(half))
    ready = replace(job.adapt, base=str(half)).read(store)
    trained = train(base, ready.tokens, {"domain": 1.0}, replace(TRAIN, learning_rate=1e-3), store=store)
    walked = walk_back(base, trained, ready.tokens, 0.01, WalkBack(looks=3), store=store)
    assert 0 < walked.facts["share"] < 1
    scored = next(p for p in json.loads((walked / "line.json").read_text()) if p["share"] == walked.facts["share"])
    again, general = open_model(walked / "model", "fp32", frozen=True), sources(ready.tokens)["general"]
    nats_D = nats_by_document(again, general, many_documents(general, WalkBack().max_tokens), window=64, rows=8)
    assert nats_D.total.sum() / nats_D.count.sum() == pytest.approx(scored["general"], rel=1e-6)


SEEN: list[float] = []  # by the budget below


class Strict(Budget):
    """A budget whose test text speaks worse of every model than it did, the first time it is asked."""

    def _on_test(self, ready, model, store):
        gain, rise = super()._on_test(ready, model, store)
        SEEN.append(rise)
        return gain, rise if len(SEEN) > 1 else 2 * self.forget


def test_a_broken_word_on_test_text_leads_further_back_and_is_counted(job, store, tmp_path):
    SEEN.clear()
    strict = Strict(forget=0.02, adapt=replace(job.adapt, out=str(tmp_path / "out")), pilots=job.pilots)
    outcome = strict(store)
    walks = [one for one in outcome.artifacts if one.kind == "walked"]
    assert len(walks) == 2 == outcome.summary["budget"]["looks"]
    assert walks[1].facts["budget"] < walks[0].facts["budget"] and walks[1].facts["share"] < walks[0].facts["share"]
    assert outcome.summary["general"]["change"] == pytest.approx(SEEN[-1])


class Fruitless(Budget):
    """Test text that sees no gain."""

    def _on_test(self, ready, model, store):
        return -0.01, super()._on_test(ready, model, store)[1]


def test_a_gain_that_test_text_does_not_see_is_none(job, store, tmp_path):
    with pytest.raises(GateClosed, match="No model was found"):
        Fruitless(forget=0.05, adapt=replace(job.adapt, out=str(tmp_path / "out")), pilots=job.pilots)(store)
    assert not (tmp_path / "out" / "model").exists()


def test_how_far_the_choice_lies_beyond_the_pilots_is_said(kept):
    note = next(note for note in kept.summary["notes"] if note.startswith("Beyond the data"))
    assert "by a factor of 7.5 in tokens" in note and "asked about 15,360" in note


def test_passes_bound_the_run_where_the_domain_is_small(job, store):
    few = replace(job, choose=Choose(passes=0.01))
    choice = next(one for one in few.make(store)[0] if one.kind == "choice")
    lengths = {one["ratio"]: one["tokens"] for one in choice.facts["candidates"]}
    assert lengths[1.0] < lengths[0.1] < 15360 and lengths[1.0] == pytest.approx(lengths[0.1] / 10, rel=0.01)


def test_an_automatic_batch_is_small_enough_for_pilots_and_a_given_one_is_said_to_be_too_large(job, world, knowing):
    loose = replace(
        job, pilots=Pilots(), adapt=replace(job.adapt, train=replace(TRAIN, batch_size=None, tokens=64 * 400))
    )
    final, shape = loose._sized(loose.adapt.train, knowing, 64 * 400)
    alone = loose.adapt.train.shape(knowing, 64 * 400, 1.0)
    assert final.batch_size == shape.rows < alone.rows and loose.pilots.steps(shape) >= 8
    given = replace(loose.adapt.train, batch_size=64)
    with pytest.raises(UsageError, match="lower train.batch_size to") as refused:
        loose._sized(given, knowing, 64 * 400)
    rows = int(re.search(r"train\.batch_size to (\d+)", str(refused.value))[1])
    assert loose.pilots.steps(replace(given, batch_size=rows).shape(knowing, 64 * 400, 1.0)) >= 4
    tokens = int(re.search(r"give ([\d,]+) tokens", str(refused.value))[1].replace(",", ""))
    assert loose.pilots.steps(replace(given, tokens=tokens).shape(knowing, tokens, 1.0)) >= 4


def test_pilots_that_cannot_be_are_refused_before_any_work(job, tmp_path):
    hasty = replace(job, pilots=Pilots(share=0.05))
    with pytest.raises(UsageError, match="steps each"):
        hasty(Store(tmp_path / "store"))
    assert not list((tmp_path / "store").glob("docs-*"))


def test_a_budget_kept_by_the_mean_alone_and_a_bold_choice_are_noted(kept):
    budgeted = Budgeted([], next(one for one in kept.artifacts if one.kind == "choice"), [], taken=True)
    allowed = kept.summary["budget"]["forget"]
    reaching = {"general": {"interval": (0.0, allowed + 0.01)}}
    assert "+6.00%" in budgeted.cautions(reaching)[0]
    assert not budgeted.cautions({"general": {"interval": (0.0, allowed)}})
    assert not budgeted.cautions({"general": {"interval": None}})
    rise = kept.summary["budget"]["predicted_change"]["general"]
    noted = any("chosen for the gain that is left after walking back" in note for note in kept.summary["notes"])
    assert noted == (rise > allowed)
