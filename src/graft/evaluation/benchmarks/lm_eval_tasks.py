"""harness: tasks of lm-eval, found by name or file, asked in this process, and kept item by item as ours are."""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from graft.core.config.errors import FaultError, UsageError, nearest
from graft.core.config.extras import pip_install
from graft.core.records.benchmark_answers import judged
from graft.core.stats.even_sample import golden_order
from graft.core.store.artifact import digest

if TYPE_CHECKING:
    from graft.core.models.base_model import Base
    from graft.models.scoring.context_pairs import PairEncoder
    from graft.models.scoring.continuations import EndingScorer

EXTRA, PACKAGE = "eval", "lm-eval"  # of graft, and what it is for
JUDGED = ("acc", "exact_match", "em")  # the metric that says whether an item is right, the first that a task has
SEED = 1234  # of the examples before a question; lm-eval's own number


@dataclass(frozen=True, eq=False)
class HarnessTask:
    """A task as lm-eval has loaded it, under the name that it has here. label: what lm-eval calls it.

    identity: of everything that will be asked; requests: of the prompts alone. chosen: numbers of its documents.
    """

    name: str
    label: str
    task: Any
    identity: str
    requests: str
    chosen: list[int]
    shots: int

    def ask(
        self, scorer: EndingScorer, base: Base, encoder: PairEncoder
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """A row per document (see graft.core.records.benchmark_answers), and what else there is to say of the task.

        Errors: UsageError where its documents are not right or wrong, or it would run a model's code; FaultError where
        it is not what was hashed.
        """
        from lm_eval import evaluator

        from graft.models.scoring.lm_eval_adapter import Speaker

        speaker = Speaker(scorer, base, encoder, self.name, self.chosen)
        evaluate = cast("Any", evaluator.evaluate)
        with _quiet():
            # lm-eval builds the requests once more, and its draw of examples would go on where the first one ended.
            self.task.set_fewshot_seed(seed=SEED)
            try:
                found = evaluate(
                    lm=speaker,
                    task_dict={"tasks": {self.label: self.task}, "groups": {}, "group_map": {}},
                    samples={self.label: self.chosen},
                    bootstrap_iters=0,
                    log_samples=True,
                )
            except ValueError as error:
                if isinstance(error, UsageError):
                    raise
                raise UsageError(f"lm-eval refuses the task {self.name}: {error}") from error
        if digest(_asked(self.task)) != self.requests:
            raise FaultError(
                f"the task {self.name} asks other things than a moment ago: something in it is drawn anew each time",
                do="look for random in its file and its code, and give it a seed",
            )
        kept = self.task.instances[0].filtered_resps if self.task.instances else {}
        first = next(iter(kept), "none")  # a task may read one text in several ways; the first it names is kept
        samples = [one for one in found["samples"][self.label] if one["filter"] == first]
        rows = [self._row(one, speaker.cut.get(int(one["doc_id"]), 0)) for one in samples]
        others = [name for name in kept if name != first]
        return rows, {"left_out": {}, "first": {}} | ({"filter": first, "other_filters": others} if others else {})

    def _row(self, sample: Mapping[str, Any], cut: int) -> dict[str, Any]:
        doc, number = sample["doc"], int(sample["doc_id"])
        common = {
            "task": self.name,
            "item": number,
            "id": str(number),
            "place": f"{self.name}#{number}",
            "form": self.task.OUTPUT_TYPE,
            "query": str(sample["arguments"][0][0]),
            "written": None,
            "cut": cut,
        }
        if self.task.OUTPUT_TYPE == "multiple_choice":
            return common | self._choice(doc, sample)
        nats = [-float(resps[0][0]) for resps in sample["resps"]] if self.task.OUTPUT_TYPE == "loglikelihood" else []
        correct = self._right(sample)
        return common | {
            "choices": [str(sample["target"])],
            "gold": 0,
            "chance": 0.0,
            "nats": nats,
            "greedy": [bool(resps[0][1]) for resps in sample["resps"]] if nats else [],
            "characters": [len(str(sample["target"]))] if nats else [],
            "bytes": [len(str(sample["target"]).encode())] if nats else [],
            "written": None if nats else str(sample["filtered_resps"][0]),
            **dict.fromkeys(("chosen", "chosen_norm", "chosen_bytes"), 0 if correct else -1),
            **dict.fromkeys(("correct", "correct_norm", "correct_bytes"), correct),
        }

    def _choice(self, doc: Any, sample: Mapping[str, Any]) -> dict[str, Any]:
        choices, golds = _offered(self.task, doc, f"{self.name}#{sample['doc_id']}")
        nats = [-float(resps[0][0]) for resps in sample["resps"]][: len(choices)]
        sizes = {
            "": [1] * len(choices),
            "_norm": [len(one) for one in choices],
            "_bytes": [len(one.encode("utf-8", "surrogatepass")) for one in choices],
        }
        chosen = {key: judged(nats, size, -1)[0] for key, size in sizes.items()}
        return {
            "choices": choices,
            "gold": golds[0],
            "chance": len(set(golds)) / len(choices),
            "nats": nats,
            "greedy": [bool(resps[0][1]) for resps in sample["resps"]][: len(choices)],
            "characters": sizes["_norm"],
            "bytes": sizes["_bytes"],
            **{f"chosen{key}": one for key, one in chosen.items()},
            **{f"correct{key}": one in golds for key, one in chosen.items()},
        }

    def _right(self, sample: Mapping[str, Any]) -> bool:
        """What the task's own metric says of a document. Errors: UsageError where it is no yes or no."""
        metric = next((name for name in JUDGED if name in sample["metrics"]), None)
        value = sample[metric] if metric else None
        if value not in (0, 1):
            raise UsageError(
                f"the task {self.name} measures {', '.join(sample['metrics'])}, by which no item is right or wrong",
                allowed=f"tasks of lm-eval with one of {', '.join(JUDGED)} by item",
                do="for the loss of a text use graft compare or graft adapt",
            )
        return bool(value)


def open_tasks(names: Sequence[str], limit: int, shots: int | None) -> list[HarnessTask]:
    """The tasks that names or .yaml files stand for; a group is all of its tasks.

    limit: documents of each, spread over it; 0: all. shots: solved ones before each; None: as the task says itself.
    Errors: UsageError without lm-eval, for a name it does not know (with the nearest) and a file it cannot read;
    FaultError where a task's data cannot be had.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise UsageError(
            f'"{names[0]}" is no file or folder, and tasks are asked through lm-eval, which is not installed',
            allowed="a file or folder of questions, or with lm-eval the name of a task",
            do=pip_install(EXTRA, PACKAGE),
        )
    found: list[HarnessTask] = []
    with _quiet():
        manager = _manager(names)
        for name in names:
            for label, task in _load(manager, name).items():
                found.append(_prepared(label, task, limit, shots))
    return found


def _manager(names: Sequence[str]) -> Any:
    from lm_eval.tasks import TaskManager

    by_name = [name for name in names if not name.lower().endswith((".yaml", ".yml"))]
    manager = TaskManager(include_defaults=bool(by_name))
    for name in by_name:
        if name not in manager.all_tasks:
            raise UsageError(
                f'there is no file, folder or task of lm-eval "{name}"',
                allowed=f"a path, or one of the {len(manager.all_tasks):,} tasks and groups of lm-eval "
                f"{metadata.version('lm_eval')}",
                do=nearest(name, manager.all_tasks) or "lm-eval ls tasks shows them",
            )
    return manager


def _load(manager: Any, name: str) -> dict[str, Any]:
    """Tasks by name, with their data."""
    import yaml
    from jinja2 import TemplateError

    is_file = name.lower().endswith((".yaml", ".yml"))
    asked = str(Path(name).expanduser()) if is_file else name
    if is_file and not Path(asked).is_file():
        raise UsageError("there is no such task file", where=name, do="check the path")
    try:
        return manager.load([asked])["tasks"]
    except TemplateError as error:  # it fills the first document in at once
        raise UsageError(
            f"a template of the task cannot be filled in: {error}",
            where=name,
            allowed="fields that the documents have",
            do="look at doc_to_text, doc_to_choice and doc_to_target",
        ) from error
    except (yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"lm-eval cannot read this task: {_brief(error)}", where=name, allowed="a task file of lm-eval"
        ) from error
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise FaultError(
            f"the data of the task {name} cannot be had: {_brief(error)}",
            do="look at its dataset_path; a data set of the hub is downloaded once and needs the network for it",
        ) from error


def _prepared(label: str, task: Any, limit: int, shots: int | None) -> HarnessTask:
    """Its requests are made once, to know what will be asked; see `HarnessTask.identity`."""
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        raise UsageError(
            f"the task {label} is a text whose loss is measured: no item of it is right or wrong",
            allowed="tasks of lm-eval whose items are",
            do="for the loss of a text use graft compare or graft adapt",
        )
    own = task.get_config("num_fewshot") or 0
    count = own if shots is None else shots
    task.set_config(key="num_fewshot", value=count)
    task.set_fewshot_seed(seed=SEED)
    total = len(task.eval_docs)
    chosen = sorted(golden_order(total)[: limit or total].tolist())
    task.build_all_requests(samples=chosen)
    asked = _asked(task)
    docs = [doc for _, doc in task.doc_iterator(samples=chosen)]
    if task.OUTPUT_TYPE == "multiple_choice":
        for number, doc in zip(chosen, docs, strict=True):
            _offered(task, doc, f"{label}#{number}")
    targets = [str(task.doc_to_target(doc)) for doc in docs]
    config = json.loads(json.dumps(task.dump_config(), default=str))
    parts = [metadata.version("lm_eval"), label, config.get("metric_list"), config.get("filter_list"), asked, targets]
    identity = f"lm-eval {metadata.version('lm_eval')} {digest(parts)}"
    return HarnessTask(label, label, task, identity, digest(asked), chosen, count)


def _asked(task: Any) -> list[Any]:
    """All that the requests of a task, as they were last built, ask of a model."""
    return [[one.doc_id, one.idx, one.request_type, [str(part) for part in one.args]] for one in task.instances]


def _offered(task: Any, doc: Any, place: str) -> tuple[list[str], list[int]]:
    """The choices of a document, and the numbers of the right ones. Errors: UsageError where these are no choices."""
    choices = [str(one) for one in task.doc_to_choice(doc)]
    gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    found: list[int] = []
    for one in gold if isinstance(gold, list | tuple) else [gold]:
        number = choices.index(one) if isinstance(one, str) and one in choices else _whole(one)
        if number is None or not 0 <= number < len(choices):
            raise UsageError(
                f"the right answer is {one!r}, which is no choice",
                where=place,
                allowed=f"one of the choices as it is written, or its number: 0 to {len(choices) - 1}",
                do="mend the task's data or its doc_to_target, or leave the task out",
            )
        found.append(number)
    if not found:
        raise UsageError("no choice is the right answer", where=place, do="mend the task's data, or leave the task out")
    return choices, found


def _whole(gold: Any) -> int | None:
    try:
        return int(gold)
    except (TypeError, ValueError):
        return None


def _brief(error: BaseException) -> str:
    words = " ".join(str(error).split())
    return words[:300] or type(error).__name__


@contextmanager
def _quiet() -> Generator[None]:
    """lm-eval's and datasets' own reports off for a moment; what is worth knowing is said by us."""
    import datasets
    from lm_eval.api import task

    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets")]
    levels = [one.level for one in loggers]
    shown, bar = datasets.is_progress_bar_enabled(), task.tqdm
    for one in loggers:
        one.setLevel(logging.CRITICAL)
    datasets.disable_progress_bar()
    task.tqdm = partial(bar, disable=True)  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        task.tqdm = bar  # type: ignore[misc]
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
        if shown:
            datasets.enable_progress_bar()
