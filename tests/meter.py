"""Processor time of every test, its own process and its children: what wall clocks of busy machines cannot tell.

A test is charged with its call and with fixtures of its own. Fixtures that tests share (class, module, package,
session) are charged to nobody, and shown by themselves. In CI a test above twice the limit fails; a test that has to
start several processes, each of which imports torch, says how much it may take: `@pytest.mark.processor_seconds(30)`.
"""

from __future__ import annotations

import os
import resource
from collections import Counter, defaultdict
from collections.abc import Generator
from typing import Any

import pytest

from fork_server import server

LIMIT = 15.0  # processor-seconds
SLACK = 2.0  # two threads of one core, both busy, take twice the processor time for the same work
SHOWN = 20  # files, tests, and shared fixtures


def processor_seconds() -> float:
    """Of this process with all its threads, of children that have ended, and of the fork server and its own."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used) + server.seconds()


class Meter:
    """Runs where tests run: in every worker, or in the only process."""

    def __init__(self) -> None:
        self.own = 0.0
        self.shared: dict[str, float] = {}
        self._within_shared = False

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, Any, Any]:
        if fixturedef.scope == "function" or self._within_shared:
            return (yield)
        self._within_shared, before = True, processor_seconds()
        try:
            return (yield)
        finally:
            self._within_shared = False
            name = f"{fixturedef.baseid or 'tests'}::{fixturedef.argname}"
            self.shared[name] = self.shared.get(name, 0.0) + processor_seconds() - before

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Generator[None, Any, Any]:
        self.own, self.shared = 0.0, {}
        return (yield from self._measured())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self) -> Generator[None, Any, Any]:
        return (yield from self._measured())

    def _measured(self) -> Generator[None, Any, Any]:
        before, others = processor_seconds(), sum(self.shared.values())
        try:
            return (yield)
        finally:
            self.own += processor_seconds() - before - (sum(self.shared.values()) - others)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
        report = yield
        if call.when == "call":
            report.processor_seconds, report.shared_seconds = self.own, self.shared
            mark = item.get_closest_marker("processor_seconds")
            limit = float(mark.args[0]) if mark else LIMIT
            if os.environ.get("CI") and self.own > SLACK * limit and report.outcome == "passed":
                report.outcome = "failed"
                report.longrepr = (
                    f"{item.nodeid} took {self.own:.1f} processor-seconds; allowed are {limit:g}. Make it smaller, or "
                    "share what it makes with others in a fixture."
                )
        return report


class Slowest:
    """Runs where reports come together."""

    def __init__(self) -> None:
        self.tests: dict[str, float] = {}
        self.shared: dict[str, list[float]] = defaultdict(list)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if hasattr(report, "processor_seconds"):
            self.tests[report.nodeid.partition("@")[0]] = report.processor_seconds
            for name, seconds in report.shared_seconds.items():
                self.shared[name].append(seconds)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self.tests:
            return
        both = sum(self.tests.values()), sum(map(sum, self.shared.values()))
        terminalreporter.section(f"processor time: {both[0]:.0f} s of tests, {both[1]:.0f} s of shared fixtures")
        files: Counter[str] = Counter()
        for name, seconds in [*self.tests.items(), *((name, sum(each)) for name, each in self.shared.items())]:
            files[name.partition("::")[0]] += seconds
        for name, seconds in files.most_common(SHOWN):
            terminalreporter.write_line(f"{seconds:7.1f} s  {name}")
        terminalreporter.write_line("")
        rows = [(seconds, name) for name, seconds in self.tests.items()]
        rows += [(sum(each), f"{name} (shared, made {len(each)} x)") for name, each in self.shared.items()]
        for part in (rows[: len(self.tests)], rows[len(self.tests) :]):
            for seconds, name in sorted(part, reverse=True)[:SHOWN]:
                if seconds >= 0.5:
                    terminalreporter.write_line(f"{seconds:7.1f} s  {name}")
            terminalreporter.write_line("")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Meter(), "graft-meter")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Slowest(), "graft-slowest")
