"""A model as lm-eval asks one: its requests, answered by our own scoring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lm_eval.api.model import LM

from graft.core.config.errors import UsageError
from graft.core.models.base_model import Base
from graft.core.process.progress import Progress
from graft.models.generation.greedy import write
from graft.models.scoring.context_pairs import PairEncoder
from graft.models.scoring.continuations import EndingScorer

WRITTEN = 256  # tokens, where a task does not say; lm-eval's own number


class Speaker(LM):
    """lm-eval's three requests. Requests that begin alike are read once, whatever their order (tensors.endings).

    Written text is the likeliest token each time: sampling is refused. task: its name, and documents: the numbers of
    those that were chosen, since requests number them from 0 on. cut: tokens that the window had no room for, by the
    number of the document; of several requests the most.
    """

    def __init__(
        self, scorer: EndingScorer, base: Base, encoder: PairEncoder, task: str = "", documents: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.scorer, self.base, self.encoder = scorer, base, encoder
        self.task, self.documents = task, documents
        self.cut: dict[int, int] = {}

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """(log p of the continuation, whether each of its tokens is the likeliest), in the order of the requests.

        Errors: UsageError naming the request whose continuation the window does not hold.
        """
        places = [self._place(one) for one in requests]
        pairs = self.encoder.encode([(str(one.args[0]), str(one.args[1])) for one in requests], places)
        endings = []
        for pair, (task, number) in zip(pairs, places, strict=True):
            if pair.ending is None:
                raise UsageError(f"document {number} of {task} cannot be scored: {pair.why}", do="leave the task out")
            endings.append(pair.ending)
            self._keep_cut(number, pair.cut)
        progress = Progress("answer", len(endings))
        found = self.scorer(endings, progress.advance)
        progress.close()
        return list(zip((-found.nats_E).tolist(), found.greedy_E.tolist(), strict=True))

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        """log p of whole texts, each token predicted once."""
        endings, owners = [], []
        for number, one in enumerate(requests):
            windows = self.encoder.windows(str(one.args[0]), self._place(one))
            endings += windows
            owners += [number] * len(windows)
        sums = [0.0] * len(requests)
        found = self.scorer(endings)
        for owner, nats in zip(owners, found.nats_E.tolist(), strict=True):
            sums[owner] -= nats
        return sums

    def generate_until(self, requests: list[Any]) -> list[str]:
        """What the model writes after each context, up to the first of the task's stops."""
        texts: list[str] = [""] * len(requests)
        kinds: dict[str, list[int]] = {}
        for number, one in enumerate(requests):
            kinds.setdefault(repr(sorted(one.args[1].items())), []).append(number)
        for numbers in kinds.values():
            asked = requests[numbers[0]].args[1]
            if asked.get("do_sample") and asked.get("temperature", 1.0):
                raise UsageError(
                    f"the task {self._place(requests[numbers[0]])[0]} samples what the model writes",
                    allowed="tasks with do_sample: false",
                )
            limit = int(asked.get("max_gen_toks", asked.get("max_new_tokens", WRITTEN)))
            stops = asked.get("until") or []
            stops = [stops] if isinstance(stops, str) else list(stops)
            alike = [requests[number] for number in numbers]
            for number, text in zip(numbers, self._written(alike, stops, limit), strict=True):
                texts[number] = text
        return texts

    def _written(self, requests: Sequence[Any], stops: Sequence[str], limit: int) -> list[str]:
        contexts, places = [str(one.args[0]) for one in requests], [self._place(one) for one in requests]
        prompts, cuts = self.encoder.prompts(contexts, room=limit, task=places[0][0])
        for (_, number), cut in zip(places, cuts, strict=True):
            self._keep_cut(number, cut)
        end = self.base.marks.end

        def text(ids: Sequence[int]) -> str:
            return self.base.tokenizer.decode(list(ids), skip_special_tokens=True)

        def done(ids: list[int]) -> bool:
            return ids[-1] == end or any(stop in text(ids) for stop in stops if stop)

        progress = Progress("answer", len(prompts))
        found = write(self.scorer.model, prompts, limit=limit, done=done, watch=progress.advance)
        progress.close()
        texts = []
        for ids in found:
            written = text(ids)
            for stop in filter(None, stops):
                written = written.partition(stop)[0]
            texts.append(written)
        return texts

    def _keep_cut(self, number: int, cut: int) -> None:
        if cut:
            self.cut[number] = max(self.cut.get(number, 0), cut)

    def _place(self, request: Any) -> tuple[str, int]:
        number = int(request.doc_id or 0)
        return self.task or str(request.task_name or ""), self.documents[number] if self.documents else number
