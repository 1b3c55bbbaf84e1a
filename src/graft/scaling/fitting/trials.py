"""The table of runs that a law is fitted to, or asked about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from graft.core.config.errors import UsageError, nearest


@dataclass(frozen=True, eq=False)
class Trials:
    """T measured runs, or checkpoints of runs: the loss of each (nats per token) beside what it was trained with.

    columns, each of T float64: "size" parameters, "tokens" trained on, "ratio" share of the text the loss is measured
    on (0..1), "unique" unique tokens, "step", "rate" learning rate, "injected" share of pre-training text,
    "learnability" K of the cross-domain law; other names are allowed.
    weights_TK: shares of K domains in the training text, domains: their names. run_T: which run a row is a checkpoint
    of; every row its own by default. loss_T is NaN throughout in a table of places where only a prediction is wanted
    (`Trials.places`).
    Errors: UsageError for columns of different lengths and for values that are not finite.
    """

    loss_T: np.ndarray
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    weights_TK: np.ndarray | None = None
    domains: tuple[str, ...] = ()
    run_T: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        put = object.__setattr__  # frozen for everyone else
        put(self, "loss_T", np.asarray(self.loss_T, np.float64).reshape(-1))
        put(self, "columns", {name: np.asarray(values, np.float64) for name, values in self.columns.items()})
        run_T = np.asarray(self.run_T, np.int64)
        put(self, "run_T", run_T if run_T.size or not len(self) else np.arange(len(self)))
        if self.weights_TK is not None:
            put(self, "weights_TK", np.asarray(self.weights_TK, np.float64))
            if self.weights_TK.shape != (len(self), len(self.domains)):
                raise UsageError(
                    f"weights are a table of {self.weights_TK.shape}",
                    allowed=f"one row per trial and one column per domain: {(len(self), len(self.domains))}",
                )
        for name, values in {**self.columns, "run": self.run_T}.items():
            if values.shape != self.loss_T.shape:
                raise UsageError(f'column "{name}" holds {values.shape}', allowed=f"{len(self)}, one per loss")
        every = dict(self.columns) if np.isnan(self.loss_T).all() else {"loss": self.loss_T, **self.columns}
        if self.weights_TK is not None:
            every |= {
                f"weight of {domain}": column for domain, column in zip(self.domains, self.weights_TK.T, strict=True)
            }
        for name, values in every.items():
            if not np.isfinite(values).all():
                row = int(np.flatnonzero(~np.isfinite(values))[0])
                raise UsageError(f'column "{name}" is {values[row]} in row {row + 1}', allowed="a finite number")

    @classmethod
    def places(
        cls,
        columns: Mapping[str, np.ndarray],
        weights_TK: np.ndarray | None = None,
        domains: tuple[str, ...] = (),
    ) -> Trials:
        """Rows without a measured loss, to be predicted."""
        some = weights_TK if weights_TK is not None else next(iter(columns.values()), np.zeros(0))
        return cls(np.full(len(some), np.nan), columns, weights_TK, domains)

    def __len__(self) -> int:
        return len(self.loss_T)

    @property
    def measured(self) -> bool:
        """Whether the losses are there."""
        return bool(len(self)) and bool(np.isfinite(self.loss_T).all())

    def rows(self, chosen: np.ndarray) -> Trials:
        """The chosen rows, by a mask of T or by their numbers."""
        return Trials(
            self.loss_T[chosen],
            {name: values[chosen] for name, values in self.columns.items()},
            None if self.weights_TK is None else self.weights_TK[chosen],
            self.domains,
            self.run_T[chosen],
        )

    def column(self, name: str) -> np.ndarray:
        """Errors: UsageError naming the missing column and the ones that are there."""
        if name not in self.columns:
            raise UsageError(
                f'there is no column "{name}"',
                allowed=", ".join(self.columns) or "no columns are there",
                do=nearest(name, self.columns) or f'name the column that holds "{name}"',
            )
        return self.columns[name]

    def weights(self) -> np.ndarray:
        """Shares of the domains, T x K. Errors: UsageError when the table has none."""
        if self.weights_TK is None:
            raise UsageError("the table names no weights of domains", do="name their columns (--weights)")
        return self.weights_TK
