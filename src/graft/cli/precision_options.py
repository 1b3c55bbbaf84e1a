"""--precision and --device, which every command that computes has: the options and what they do to a job."""

from __future__ import annotations

from typing import Annotated, Optional, TypeVar

import typer

from graft.core.config.errors import UsageError, nearest
from graft.core.process.precision import DEVICES, PRECISIONS, use_device

T = TypeVar("T")

PrecisionOption = Annotated[
    Optional[str],  # noqa: UP045 - typer wants Optional
    typer.Option(
        "--precision",
        metavar="|".join(PRECISIONS),
        help="Of every stage that computes. auto: bf16 where the hardware multiplies bfloat16, else fp32.",
    ),
]
DeviceOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--device", metavar="|".join(DEVICES), help="Where to compute. \\[default: $GRAFT_DEVICE, or auto]"),
]


def computing(job: T, precision: str | None, device: str | None) -> T:
    """`job` with the precision of the command line in all its stages; the device holds for the process.

    Raises: UsageError for a word that names neither, or a device that is not there.
    """
    if device is not None:
        use_device(device)
    if precision is None:
        return job
    if precision not in PRECISIONS:
        raise UsageError(
            f'--precision is "{precision}"', allowed=", ".join(PRECISIONS), do=nearest(precision, PRECISIONS)
        )
    from graft.models.runtime.settle_precision import with_precision

    return with_precision(job, precision)
