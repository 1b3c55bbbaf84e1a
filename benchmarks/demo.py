"""The demo as a new user runs it, and what it takes: processor time, wall time, tokens, verdict.

    python benchmarks/demo.py [--plain] [--cpu-seconds 480] [-- --set KEY=VALUE ...]

Runs recipes/quickstart.yaml in a folder of its own and exits with 1 where it fails, where it does not end in a verdict
of "improved", or where it takes more processor time than four minutes on two cores. Processor time and not wall time is
held to, because a machine that does other work beside it takes longer. --plain: as on a processor with AVX2 alone,
which multiplies no bfloat16 (ONEDNN_MAX_CPU_ISA, ATEN_CPU_CAPABILITY): precision auto then chooses fp32.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart.yaml"
PLAIN = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}


def main() -> int:
    read = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    read.add_argument("--plain", action="store_true")
    read.add_argument("--cpu-seconds", type=float, default=480.0)
    read.add_argument("more", nargs="*", help="further arguments of graft run")
    asked = read.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "graft", "run", str(RECIPE), "--store", "store", *asked.more],
            cwd=folder, env=os.environ | (PLAIN if asked.plain else {}), check=False,
        )  # fmt: skip
        wall = time.monotonic() - began
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = used.ru_utime + used.ru_stime
        if done.returncode:
            return 1
        [summary] = Path(folder).glob("store/report-*/summary.json")
        told = json.loads(summary.read_text())
    tokens = sum(told["tokens"].values())
    print(
        f"\n{tokens:,} tokens, {told['outcome']}, {cpu:.0f} CPU-seconds (at most {asked.cpu_seconds:.0f}), {wall:.0f} s"
    )
    return int(cpu > asked.cpu_seconds or told["outcome"] != "improved")


if __name__ == "__main__":
    sys.exit(main())
