"""Faults put into the core by hand, one at a time: which of them do the tests notice?

    python benchmarks/mutants.py                        all of them, in a copy of the tree; exit code 1 if one survives
    python benchmarks/mutants.py --only rows            those whose name contains a word
    python benchmarks/mutants.py --results found.json   keeps what is known and goes on from there
    python benchmarks/mutants.py --list

A mutant is one changed line. Only the named test files run, and they stop at the first failure. A mutant whose line is
no longer in the code is stale, and counts as a survivor: it has to be written anew.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPIED = ("src", "tests", "docs", "recipes", "benchmarks", "pyproject.toml", "README.md", "constraints.txt", "Makefile")
LONGEST = 900  # seconds of the named tests, after which a mutant counts as noticed: it hangs


@dataclass(frozen=True)
class Mutant:
    """`old` is in the file exactly once; `tests` are files, or single tests, below tests/."""

    name: str
    file: str  # below src/graft
    old: str
    new: str
    tests: str


MUTANTS = (
    # --- core: what is counted, drawn and named
    Mutant("tally adds no counts", "core/stats/tally.py", "self.total + other.total, self.count + other.count",
           "self.total + other.total, self.count", "test_core.py"),
    Mutant("ledger checks documents only", "core/store/ledger.py", "assert settled == read,",
           "assert settled.documents == read.documents,", "test_core.py"),
    Mutant("seed streams run together", "core/stats/random_streams.py", '"\\x1f".join', '"".join',
           "test_seed.py test_core.py"),
    Mutant("few documents get normal intervals", "core/stats/bootstrap.py",
           "norm.cdf(np.sqrt(documents / (documents - 1)) * t.ppf(0.025, documents - 1))", "0.025", "test_core.py"),
    Mutant("bound on the other side", "core/stats/bootstrap.py", 'stream(seed, "bootstrap")), confidence))',
           'stream(seed, "bootstrap")), 1 - confidence))', "test_budget.py"),
    Mutant("wilson without its second term", "core/stats/accuracy_tests.py", " + spread / (4 * count))", ")",
           "test_eval.py"),
    Mutant("holm becomes bonferroni", "core/stats/accuracy_tests.py", "p_T[test] * (len(p_T) - place)",
           "p_T[test] * len(p_T)",
           "test_eval.py"),
    Mutant("guesses taken off too little", "core/stats/accuracy_tests.py", "np.maximum(1, self.choices_I - 2)",
           "np.maximum(1, self.choices_I - 1)", "test_eval.py"),
    Mutant("a loss that rises is a gain", "continual/score_matrix.py", "earlier - later if self.smaller_is_better",
           "later - earlier if self.smaller_is_better", "test_stream.py"),
    Mutant("split ignores its seed", "core/text/split.py", r'f"{self.seed}\0{doc_id}"', r'f"\0{doc_id}"',
           "test_curate.py"),
    Mutant("small sources are not tested", "core/text/split.py", "num_test = max(num_test, 1)", "num_test = num_test",
           "test_curate.py"),
    Mutant("rejected answers are documents", "core/tokens/token_shards.py",
           '== SPLITS.index(split)) & (self.role_D != REJECTED)', '== SPLITS.index(split)) & (self.role_D >= 0)',
           "test_rows.py test_chat.py"),
    Mutant("inputs decide no name", "core/store/artifact.py",
           '"inputs": {key: one.name if isinstance(one, Artifact) else one for key, one in inputs.items()},',
           '"inputs": sorted(inputs),', "test_core.py"),
    Mutant("a gate takes percents for shares", "cli/gate.py", "float(number) / (100 if percent else 1), bool(percent)",
           "float(number), bool(percent)", "test_cli.py"),
    # --- rows and batches
    Mutant("rows: documents not redrawn per epoch", "packing/rows.py", "epoch).permutation(self.documents)",
           "0).permutation(self.documents)", "test_seed.py test_rows.py test_sampler.py"),
    Mutant("rows: whole documents not redrawn per epoch", "packing/rows.py", "epoch).permutation(self.units)",
           "0).permutation(self.units)", "test_seed.py test_rows.py test_sampler.py"),
    Mutant("rows: order of rows not redrawn per epoch", "packing/rows.py", "epoch).permutation(count)",
           "0).permutation(count)", "test_seed.py test_rows.py test_sampler.py"),
    Mutant("rows: order of packed rows not redrawn", "packing/rows.py", "epoch).permutation(len(rows))",
           "0).permutation(len(rows))", "test_seed.py test_rows.py test_sampler.py"),
    Mutant("rows: pairs longer than a row are kept", "packing/rows.py",
           "((size_U <= self.window) | (not self.paired))", "((size_U <= 2 * self.window) | (not self.paired))",
           "test_rows.py"),
    Mutant("mixture begins alike for every seed", "packing/sampler.py", "(self._start + place * GOLDEN) % 1.0",
           "(place * GOLDEN) % 1.0", "test_seed.py test_sampler.py"),
    Mutant("filled rows take tokens from a mixture", "packing/sampler.py",
           "mixture[name] / (1 - self.streams[name].filling)", "mixture[name]", "test_rows.py test_sampler.py"),
    Mutant("positions go on after a document", "packing/sampler.py", "position_BT[b, at:end] = np.arange(end - at)",
           "position_BT[b, at:end] = np.arange(at, end)", "test_sampler.py test_rows.py"),
    # --- training
    Mutant("gradients are not divided", "training/loop.py", "gradient.mul_(shrink / max(count, 1.0))",
           "gradient.mul_(shrink)", "test_train.py"),
    Mutant("dropout alike at every step", "training/loop.py", "dropout_seed(pace.seed, k, micro * ranks()",
           "dropout_seed(pace.seed, 0, micro * ranks()", "test_dropout.py test_train.py"),
    Mutant("a gradient that is no number passes", "training/loop.py",
           "if not (math.isfinite(step.loss) and math.isfinite(norm)):", "if not math.isfinite(step.loss):",
           "test_train.py"),
    Mutant("a tie is never the best", "models/losses/token_losses.py", "-target_N, target_N >= logp_NV.amax(-1)",
           "-target_N, target_N > logp_NV.amax(-1)", "test_nats.py test_scoring.py"),
    Mutant("decay ends a step late", "training/schedules/warm_stable_decay.py", "(done + 1) / (decay + 1)",
           "done / (decay + 1)", "test_schedules.py"),
    Mutant("cooldown is straight", "training/schedules/infinite.py", "(1 + math.cos(math.pi * cooled)) / 2",
           "(1 - cooled)",
           "test_schedules.py"),
    Mutant("a kl_weight of any length", "training/objectives/stay_close.py", "kl_weight=self.kl_weight,",
           "kl_weight=1.0,",
           "test_divergence.py test_objectives_distill.py test_nats.py test_shelves.py"),
    Mutant("the line between models is bent", "models/edit/interpolation.py", "self._end[name], share))",
           "self._end[name], share**2))", "test_budget.py"),
    # --- measuring
    Mutant("one long document stands for a split", "core/stats/evaluation_size.py",
           "max(1, max_tokens // WANTED, min(ENOUGH, max_tokens // AT_LEAST))", "max_tokens", "test_scoring.py"),
    Mutant("questions are scored with their answers", "models/scoring/scoring.py",
           "np.where(counts, nats_BT[b, at:end], np.nan)", "nats_BT[b, at:end]", "test_chat.py test_scoring.py"),
    Mutant("any greedy token makes an ending greedy", "models/scoring/continuations.py", "np.logical_and.at(greedy_E",
           "np.logical_or.at(greedy_E", "test_eval.py"),
    Mutant("a trie forgets how deep it is", "packing/prefix_tries.py", "self.depth += range(common, len(ids))",
           "self.depth += range(len(ids) - common)", "test_eval.py"),
    Mutant("bits are nats", "evaluation/metrics/bits_per_byte.py", "/ math.log(2), evidence", ", evidence",
           "test_evaluate.py test_cli.py"),
    Mutant("forgetting of the mean, not of the best", "continual/metrics/forgetting.py", ".max(-2).mean(-1)",
           ".mean(-2).mean(-1)", "test_stream.py"),
    Mutant("texts are alike with themselves", "evaluation/similarity/measures/mmd.py",
           "np.fill_diagonal(kernel_DD, 0.0)",
           "np.fill_diagonal(kernel_DD, 1.0)", "test_similarity.py"),
    # --- stages and steps
    Mutant("grade: certain is not read for tasks", "report/benchmark/stage.py", "_call(rows, settings.certain)",
           "_call(rows, 0.05)", "test_eval.py"),
    Mutant("grade: certain is not read for all", "report/benchmark/stage.py", 'one["p"], settings.certain, thing)',
           'one["p"], 0.05, thing)',
           "test_eval.py"),
    Mutant("the best reader may be no better than the base", "budget/walk_back.py",
           "one.general_bound <= budget and one.domain_bound < 0]", "one.general_bound <= budget]", "test_budget.py"),
    Mutant("forgetting grows straight along the line", "budget/choose_mixture.py", "fits = forgotten * middle**2",
           "fits = forgotten * middle", "test_budget.py"),
    Mutant("passes are of all text", "budget/choose_mixture.py", "settings.passes * available / ratio_T",
           "settings.passes * available / np.ones_like(ratio_T)", "test_budget.py"),
    Mutant("the later source keeps a text", "core/text/mark_table.py", "np.lexsort((rows_N, ids",
           "np.lexsort((-rows_N, ids", "test_curate.py"),
    Mutant("duplicates of another source are its own",
           "data/steps/exact_duplicates.py", "within_N = part.same_N & (keeper_N == part.sources_N)",
           "within_N = part.same_N", "test_curate.py"),
    Mutant("training text is tested for overlap", "data/steps/overlap.py",
           'self._grams, "held out"', 'self._grams, "all"',
           "test_curate.py"),
    # --- laws
    Mutant("intervals of twice the tails", "scaling/fitting/fitted.py", "return (1 - self.confidence) / 2, (1",
           "return 1 - self.confidence, (1", "test_intervals.py test_fitting.py"),
    Mutant("checkpoints of a run err alone", "scaling/fitting/intervals.py",
           "random.exponential(size=(draws, groups))[:, of_T]", "random.exponential(size=(draws, num))",
           "test_intervals.py test_fitting.py"),
    Mutant("compute counts each weight once", "scaling/solving/least.py",
           "weight_tokens = flops / FLOPS_PER_WEIGHT_AND_TOKEN",
           "weight_tokens = flops / 2", "test_law_cli.py"),
)  # fmt: skip


def stale(mutant: Mutant, root: Path = ROOT) -> bool:
    return (root / "src/graft" / mutant.file).read_text().count(mutant.old) != 1


def try_one(mutant: Mutant, copy: Path) -> str:
    """killed, survived, or stale; the copy is afterwards as it was."""
    if stale(mutant, copy):
        return "stale"
    path = copy / "src/graft" / mutant.file
    plain = path.read_text()
    path.write_text(plain.replace(mutant.old, mutant.new))
    data = ROOT.parent / "shared" / "data"
    environment = os.environ | {"PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.setdefault("GRAFT_DATA", str(data))
    environment.pop("CI", None)  # slow tests are not what is looked for
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    command += [f"tests/{one}" for one in mutant.tests.split()]
    try:
        ran = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=LONGEST)
    except subprocess.TimeoutExpired:
        return "killed (it hangs)"
    finally:
        path.write_text(plain)
    if ran.returncode == 0:
        return "survived"
    failed = [line for line in ran.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if ran.returncode != 1 or not failed:
        sys.exit(f"{mutant.name}: the tests did not run\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
    return "killed by " + failed[0].split(" - ")[0].partition(" ")[2].removeprefix("tests/")


def main() -> None:
    parser = argparse.ArgumentParser(description="Which faults in the core do the tests notice?")
    parser.add_argument("--only", action="append", default=[], help="a part of the name; may be repeated")
    parser.add_argument("--results", type=Path, help="JSON of what is known; what is there is not tried again")
    parser.add_argument("--list", action="store_true")
    asked = parser.parse_args()
    chosen = [one for one in MUTANTS if not asked.only or any(word in one.name for word in asked.only)]
    if asked.list:
        print("\n".join(f"{one.name:45} {one.file}" for one in chosen))
        return
    found: dict[str, str] = {}
    if asked.results and asked.results.exists():
        found = json.loads(asked.results.read_text())
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tree"
        copy.mkdir()
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copyfile(source, copy / name)
        for one in chosen:
            if one.name not in found:
                found[one.name] = try_one(one, copy)
                if asked.results:
                    asked.results.write_text(json.dumps(found, indent=1))
            print(f"{one.name:45} {found[one.name]}", flush=True)
    left = [one.name for one in chosen if not found[one.name].startswith("killed")]
    print(f"\n{len(chosen) - len(left)} of {len(chosen)} were noticed" + "".join(f"\n  not: {name}" for name in left))
    sys.exit(bool(left))


if __name__ == "__main__":
    main()
