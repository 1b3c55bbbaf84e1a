"""Where a job computes and in which precision: decided here and nowhere else.

The device is a choice of the process (`--device`, `use_device`, or $GRAFT_DEVICE, which child processes inherit). The
precision is a setting of every stage that computes; `auto` becomes bf16 where the hardware multiplies bfloat16, else
fp32. torch is imported only where the operating system cannot answer.
"""

from __future__ import annotations

import functools
import os
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from graft.core.config.errors import UsageError, nearest
from graft.core.process.processes import local_rank, num_ranks

Precision = Literal["auto", "bf16", "fp32"]  # as a setting
Computed = Literal["bf16", "fp32"]  # as it is computed
DEVICES = ("auto", "cpu", "cuda", "mps")
VARIABLE, PRECISION_VARIABLE = "GRAFT_DEVICE", "GRAFT_PRECISION"
PRECISIONS: tuple[str, ...] = ("auto", "bf16", "fp32")

CPU_INFO = Path("/proc/cpuinfo")
ACCELERATORS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # of which Linux has one where torch may find CUDA or ROCm
X86, ARM = ("amx_bf16", "avx512_bf16"), ("bf16",)  # instructions that multiply bfloat16, as /proc/cpuinfo names them
FLAGS = {"x86_64": X86, "amd64": X86, "i686": X86, "aarch64": ARM, "arm64": ARM}
ISA_VARIABLE = "ONEDNN_MAX_CPU_ISA"  # the instructions that oneDNN, which computes the products, may use
ISA_WITH_BF16 = ("ALL", "DEFAULT", "AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX512_CORE_AMX", "AVX10_")

MEASURED_SECONDS, MEASURED_WIDTH = 0.2, 256
WORTH_IT = 1.2  # how much faster bf16 has to be, where that is measured: less does not pay for its rounding


@dataclass(frozen=True)
class Runtime:
    """What was decided. why: what the hardware can do, in words."""

    device: str
    precision: Computed
    why: str

    def __str__(self) -> str:
        return f"precision {self.precision} on {self.device}: {self.why}"


def use_device(name: str) -> None:
    """Let this process, and the processes it starts, compute on `name`: auto, cpu, cuda or mps.

    Raises: UsageError for an unknown name, and for a device that this machine does not have.
    """
    if name not in DEVICES:
        raise UsageError(f'the device is "{name}"', allowed=", ".join(DEVICES), do=nearest(name, DEVICES))
    if name in ("cuda", "mps") and not _has(name):
        raise UsageError(
            f'the device is "{name}", and torch finds none on this machine',
            allowed="auto, cpu" + "".join(f", {one}" for one in ("cuda", "mps") if _has(one)),
            do="install a torch build for the device, or choose auto",
        )
    if name == "mps" and num_ranks() > 1:
        raise UsageError(
            f'the device is "mps", and {num_ranks()} processes work together',
            allowed="cpu or cuda",
            do="use --device cpu",
        )
    os.environ[VARIABLE] = name


def device() -> str:
    """Where this process computes: "cpu", "cuda:0" (the accelerator of its rank) or "mps". Raises: UsageError."""
    name = os.environ.get(VARIABLE) or "auto"
    if name == "auto":
        name = "cuda" if _has("cuda") else "mps" if _has("mps") and num_ranks() == 1 else "cpu"
    else:
        use_device(name)
    return f"cuda:{local_rank()}" if name == "cuda" else name


@functools.cache
def _has(name: str) -> bool:
    if name == "cuda" and sys.platform == "linux" and not any(map(os.path.exists, ACCELERATORS)):
        return False
    if name == "mps" and sys.platform != "darwin":
        return False
    import torch

    return torch.cuda.is_available() if name == "cuda" else torch.backends.mps.is_available()


def runtime(asked: Precision = "auto") -> Runtime:
    """The device, and the precision that `asked` comes to on it; $GRAFT_PRECISION says what auto comes to.

    Raises: UsageError for a device that is not there.
    """
    here = device()
    able, why = multiplies_bf16(here)
    wanted = os.environ.get(PRECISION_VARIABLE) or "auto"
    if wanted not in PRECISIONS:
        raise UsageError(f'{PRECISION_VARIABLE} is "{wanted}"', allowed=", ".join(PRECISIONS))
    if asked == "auto" and wanted != "auto":
        return Runtime(here, cast(Computed, wanted), f"set by {PRECISION_VARIABLE}; {why}")
    if asked == "auto":
        return Runtime(here, "bf16" if able else "fp32", why)
    own = "bf16" if able else "fp32"
    by_hand = f"set by hand, or where the work was begun; auto would choose {own} here: {why}"
    return Runtime(here, asked, why if asked == own else by_hand)


def multiplies_bf16(device: str) -> tuple[bool, str]:
    """Whether a device multiplies bfloat16 faster than float32, and how that is known."""
    if device.startswith("cuda"):
        import torch

        able = torch.cuda.is_bf16_supported(including_emulation=False)
        name = torch.cuda.get_device_name(device)
        return able, f"{name} multiplies bfloat16" if able else f"{name} does not multiply bfloat16"
    if device == "mps":
        return False, "bfloat16 was never measured on Apple's GPUs"
    reported = processor_report(platform.machine().lower(), _flags(), os.environ.get(ISA_VARIABLE, ""))
    if reported is not None:
        return reported
    factor = bf16_factor()
    words = f"a product in bfloat16 was measured to take {factor:.2g} of the time of one in float32"
    return factor * WORTH_IT <= 1, words


def processor_report(machine: str, flags: frozenset[str] | None, isa: str) -> tuple[bool, str] | None:
    """What a processor says of itself; None where it says nothing. flags: as in /proc/cpuinfo, None: not known."""
    if flags is None:
        return None
    known = FLAGS.get(machine, ())
    if not known:
        return None
    found = next((flag for flag in known if flag in flags), None)
    if found is None:
        return False, f"the processor has no bfloat16 instructions ({', '.join(known)})"
    if isa and known is X86 and not isa.upper().startswith(ISA_WITH_BF16):
        return False, f"the processor has {found}, and {ISA_VARIABLE}={isa} rules it out"
    return True, f"the processor multiplies bfloat16 ({found})"


@functools.cache
def _flags() -> frozenset[str] | None:
    """The processor's features: of the kernel, on macOS of torch, which asks the system; None where nobody tells."""
    if sys.platform == "linux":
        try:
            lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return None
        named = [line.partition(":")[2] for line in lines if line.lower().startswith(("flags", "features"))]
        return frozenset(named[0].split()) if named else None
    import torch

    found = torch.cpu.get_capabilities()
    if not any(flag in found for flag in (*X86, *ARM)):
        return None
    return frozenset(flag for flag, has in found.items() if has is True)


@functools.cache
def bf16_factor() -> float:
    """Time of a matrix product in bfloat16 on the processor, in times of one in float32; takes about 0.2 s."""
    import torch

    left = torch.ones(MEASURED_WIDTH, MEASURED_WIDTH)
    fastest: list[float] = []
    for dtype in (torch.bfloat16, torch.float32):
        one, best = left.to(dtype), float("inf")
        torch.mm(one, one)  # the first product prepares the kernel
        until = time.perf_counter() + MEASURED_SECONDS / 2
        while (began := time.perf_counter()) < until or best == float("inf"):
            torch.mm(one, one)
            best = min(best, time.perf_counter() - began)
        fastest.append(best)
    return fastest[0] / fastest[1]


def slow_bf16() -> str:
    """In words, with the factor measured, that bf16 is slow here; empty where it is not."""
    here = device()
    able, why = multiplies_bf16(here)
    if able or here != "cpu" or (factor := bf16_factor()) <= 1:
        return ""
    return f"{why}: a matrix product in bf16 takes {factor:.1f} times as long here as one in fp32 (measured)"


def machine() -> str:
    """This machine in a few words, for manifests."""
    return f"{device()} ({platform.machine()}, {os.cpu_count()} cores)"


def described(manifest: Mapping[str, Any]) -> str:
    """Where, in which precision and why an artifact was computed, by its manifest."""
    found = manifest["facts"].get("runtime")
    return manifest["device"] + (f"; precision {found['precision']}: {found['why']}" if found else "")


def computed(asked: Precision) -> Computed:
    """The precision that a setting comes to here; a settled one as it is."""
    return runtime().precision if asked == "auto" else asked
