"""examine: which probes run, what they leave, and what is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from graft.core.config.errors import UsageError
from graft.core.store.artifact import Store
from graft.evaluation.probes.blame import Blame
from graft.evaluation.probes.forgetting import Forgetting
from graft.evaluation.run_probes import Examine, examine
from graft.evaluation.score_documents import Evaluate, evaluate


@dataclass(frozen=True)
class Lengths:
    """A probe of a user's own: how many tokens each source has."""

    def __call__(self, before, after):
        return [{"source": name, "tokens": len(one.nats_N)} for name, one in before.items()]


@pytest.fixture(scope="module")
def sighting(world):
    """The base's own evidence, which stands for before and after alike."""
    return evaluate(world.base, world.tokens, store=world.store)


def files(findings) -> set[str]:
    return {path.name for path in findings.path.iterdir()} - {"manifest.json"}


def test_the_probes_that_are_asked_for_run(world, sighting, tmp_path):
    store = Store(tmp_path)
    usual = examine(sighting, sighting, store=store)
    assert files(usual) == {"forgetting.json", "blame.json"} and usual.facts["probes"] == ["forgetting", "blame"]
    single = examine(sighting, sighting, Examine((Forgetting(seed=3),)), store=store)
    assert files(single) == {"forgetting.json"}
    own = examine(sighting, sighting, Examine((Lengths(), Forgetting())), store=store)
    [name] = files(own) - {"forgetting.json"}
    assert name.endswith("Lengths.json")
    counts = {row["source"]: row["tokens"] for row in json.loads((own / name).read_text())}
    assert counts == {row["source"]: row["tokens"] for row in json.loads((own / "forgetting.json").read_text())}


@pytest.mark.parametrize(
    ("probes", "words"),
    [
        ((), ["probes are none", "forgetting among them", "add forgetting"]),
        ((Blame(),), ["probes are blame", "forgetting among them", "add forgetting"]),
        ((Forgetting(), Blame(), Blame(min_count=2)), ["blame twice", "every probe once"]),
    ],
)
def test_probes_that_leave_no_verdict_or_each_others_place_are_refused(probes, words):
    with pytest.raises(UsageError) as caught:
        Examine(probes)
    assert all(word in str(caught.value) for word in words)


def test_evidence_of_other_tokens_is_refused(world, sighting):
    fewer = evaluate(world.base, world.tokens, Evaluate(max_tokens=500), store=world.store)
    with pytest.raises(UsageError, match="not about the same tokens.*\n.*evaluate both models"):
        examine(sighting, fewer, store=world.store)
