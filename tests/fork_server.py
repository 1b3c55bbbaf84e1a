"""Child processes, forked from one which has imported torch, transformers and Graft, and computed nothing.

`Popen` and `run` are those of `subprocess`. A child of theirs that is this interpreter (`python -c`, `-m` or a file)
has a process, environment, streams, signals and exit status of its own, and saves four processor-seconds of imports.
What else is started, or needs another environment while modules are imported, is started as ever. The ranks that a
torchrun of here starts are forked, too.

Not for tests of imports themselves, or of what a start of the interpreter decides: all children have one hash seed.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
POSSIBLE = sys.platform == "linux" and hasattr(os, "pidfd_open")
# Read while modules are imported, or by the interpreter: with other values of these a child is started as ever.
EARLY = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "HF_HOME", "HF_HUB_OFFLINE", "HF_ENDPOINT", "LANG", "LC_ALL", "TZ")
EARLY += ("PYTHONHASHSEED", "PYTHONIOENCODING", "PYTHONUTF8", "PYTHONWARNINGS", "PYTHONUNBUFFERED", "MKL_NUM_THREADS")
IMPORTED = ("torch.distributed.run", "torch.distributed.fsdp", "torch.distributed.tensor", "torch.testing", "peft")
IMPORTED += ("daft", "pyarrow.parquet", "pyarrow.dataset", "trafilatura", "scipy.stats", "scipy.optimize", "yaml")
IMPORTED += (
    "graft.cli.app",
    "multiprocessing.pool",
    "transformers.models.auto.modeling_auto",
    "transformers.trainer_utils",
)
IMPORTED += tuple(f"transformers.models.{name}.modeling_{name}" for name in ("llama", "bert", "t5", "gpt2"))


class Server:
    """The process that children are forked from, as its client sees it; started when it is first needed."""

    def __init__(self) -> None:
        self.address = ""
        self.early: dict[str, str | None] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    def connect(self) -> socket.socket:
        self.begin()
        link = socket.socket(socket.AF_UNIX)
        link.connect(self.address)
        return link

    def seconds(self) -> float:
        """Processor time of the server and of all its children that have ended."""
        if self._process is None:
            return 0.0
        with self.connect() as link:
            link.sendall(b"{}\n")
            return float(_answer(link)["seconds"])

    def end(self) -> None:
        if self._process is not None and os.getpid() == self._owner:
            self._process.communicate()  # the end of its standard input
            self._process, self.address = None, ""

    def begin(self) -> None:
        if self.address:
            return
        self.early = {name: os.environ.get(name) for name in EARLY}
        code = f"import sys; sys.path.insert(0, {str(HERE)!r}); import fork_server; fork_server.serve()"
        self._process = _plain(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, cwd="/"
        )
        assert self._process is not None and self._process.stdout is not None
        self.address = "\0" + self._process.stdout.readline().decode().strip()
        assert len(self.address) > 1, "the fork server did not start; see above"


_plain = subprocess.Popen
server = Server()


class Popen(subprocess.Popen):
    """A process of `subprocess`, forked where it can be."""

    _link: socket.socket | None = None

    def _execute_child(
        self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell,
        p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite,
        restore_signals, gid, gids, uid, umask, start_new_session, process_group,
    ) -> None:  # fmt: skip
        words = [os.fspath(word) for word in ([args] if isinstance(args, (str, os.PathLike)) else args)]
        environment = dict(os.environ if env is None else env)
        others = (executable, preexec_fn, pass_fds, shell, gid, gids, uid)
        if any(others) or umask != -1 or not _forkable(words, environment):
            return super()._execute_child(
                args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell,
                p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite,
                restore_signals, gid, gids, uid, umask, start_new_session, process_group,
            )  # fmt: skip
        asked = {"words": words[1:], "env": environment, "session": start_new_session}
        asked["cwd"] = os.fspath(cwd) if cwd is not None else str(Path.cwd())
        streams = [own if handle == -1 else handle for own, handle in enumerate((p2cread, c2pwrite, errwrite))]
        self._link = server.connect()
        socket.send_fds(self._link, [json.dumps(asked).encode() + b"\n"], streams)
        self.pid = _answer(self._link)["pid"]
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)
        return None

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        if self._link is None:
            return super()._try_wait(wait_flags)
        self._link.settimeout(0.0 if wait_flags & os.WNOHANG else None)
        try:
            status = _answer(self._link)["status"]
        except BlockingIOError:
            return 0, 0
        self._link.close()
        return self.pid, status

    def _internal_poll(self, *rest: Any, **more: Any) -> int | None:
        if self._link is None:
            return super()._internal_poll(*rest, **more)
        if self.returncode is None and self._waitpid_lock.acquire(False):
            try:
                pid, status = self._try_wait(os.WNOHANG)
                if pid:
                    self._handle_exitstatus(status)
            finally:
                self._waitpid_lock.release()
        return self.returncode


def run(words: Sequence[Any], *, input: str | None = None, timeout: float = 500, check: bool = False, **how: Any):  # noqa: A002
    """`subprocess.run`, forked where it can be."""
    if how.pop("capture_output", False):
        how |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if input is not None:
        how["stdin"] = subprocess.PIPE
    with Popen(words, **how) as process:
        try:
            out, err = process.communicate(input, timeout=timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(words, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def _forkable(words: list[str], environment: dict[str, str]) -> bool:
    if not POSSIBLE or words[0] != sys.executable or _script(words[1:]) is None:
        return False
    server.begin()
    return all(environment.get(name) == value for name, value in server.early.items())


def _script(words: list[str]) -> list[str] | None:
    """Of the words behind the interpreter those from -c, -m or a file on; None with options that we do not know."""
    words = words[1:] if words and words[0] == "-u" else words
    return words if words and (words[0] in ("-c", "-m") or not words[0].startswith("-")) else None


def _answer(link: socket.socket) -> dict[str, Any]:
    line = b""
    while not line.endswith(b"\n"):
        some = link.recv(1)  # answers are short, and what comes behind one is not to be read with it
        if not some:
            raise RuntimeError("the fork server is gone")
        line += some
    return json.loads(line)


# --- in the server


def serve() -> None:
    """Import, then fork a child for every request until standard input ends. In a child this becomes what was asked."""
    base = [path for path in sys.path if path not in (str(HERE), "", *os.environ.get("PYTHONPATH", "").split(":"))]
    for name in (*IMPORTED, *_modules()):
        importlib.import_module(name)
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

    subprocess_handler.Popen = Popen
    assert not (threads := _threads()), f"imports started threads, which do not survive a fork: {threads}"
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_DFL)
    gc.collect()
    gc.freeze()  # a collection in a child does not write on what it shares with others
    asked = _loop()
    if asked is not None:
        _live(asked, base)


def _live(asked: dict[str, Any], base: list[str]) -> None:
    """A child's life and end. What modules hold is not taken down piece by piece, which would cost half a second."""
    code: Any = 0
    try:
        _become(asked, base)
    except SystemExit as end:
        code = end.code
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if code == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit((code or 0) & 0xFF)


def _threads() -> set[str]:
    """Of threads beside this one the names. jemalloc's, of pyarrow and daft, is made again after a fork by itself."""
    time.sleep(0.05)  # until a new one has its name
    tasks = [path for path in Path("/proc/self/task").iterdir() if int(path.name) != os.getpid()]
    return {(path / "comm").read_text().strip() for path in tasks} - {"jemalloc_bg_thd"}


def _modules() -> list[str]:
    import graft

    house = Path(graft.__file__).parent
    paths = [path.relative_to(house).with_suffix("") for path in sorted(house.rglob("*.py"))]
    return [f"graft.{'.'.join(path.parts)}" for path in paths if path.stem not in ("__main__", "__init__")]


def _loop() -> dict[str, Any] | None:
    """Returns in a child, with what it is to be; in the server None, at the end."""
    listener = socket.socket(socket.AF_UNIX)
    name = f"graft-fork-server-{os.getpid()}"
    listener.bind("\0" + name)
    listener.listen(64)
    server.address, server.early = "\0" + name, {one: os.environ.get(one) for one in EARLY}
    print(name, flush=True)
    ready = selectors.DefaultSelector()
    ready.register(listener, selectors.EVENT_READ)
    ready.register(0, selectors.EVENT_READ)
    children: dict[int, tuple[int, socket.socket]] = {}
    while True:
        for key, _ in ready.select():
            if key.fd == 0:
                for pid, _link in children.values():
                    os.kill(pid, signal.SIGKILL)
                return None
            if key.fd in children:
                ready.unregister(key.fd)
                pid, link = children.pop(key.fd)
                os.close(key.fd)
                _send(link, status=os.waitpid(pid, 0)[1])
                link.close()
                continue
            link, _ = listener.accept()
            asked, handles = _request(link)
            if not asked:
                used = os.times()
                _send(link, seconds=sum(used[:4]))
                link.close()
                continue
            pid = os.fork()
            if not pid:
                for own, handle in enumerate(handles):
                    os.dup2(handle, own)
                for handle in (*handles, *children):
                    os.close(handle)
                for one in (listener, ready, link, *(other for _, other in children.values())):
                    one.close()
                return asked
            for handle in handles:
                os.close(handle)
            _send(link, pid=pid)
            watch = os.pidfd_open(pid)
            children[watch] = pid, link
            ready.register(watch, selectors.EVENT_READ)


def _request(link: socket.socket) -> tuple[dict[str, Any], list[int]]:
    content, handles, *_ = socket.recv_fds(link, 1 << 16, 3)
    while content and not content.endswith(b"\n"):
        content += link.recv(1 << 16)
    return json.loads(content or b"{}"), handles


def _send(link: socket.socket, **answer: Any) -> None:
    with contextlib.suppress(OSError):  # nobody waits for it any longer
        link.sendall(json.dumps(answer).encode() + b"\n")


def _become(asked: dict[str, Any], base: list[str]) -> None:
    """As the interpreter would start with these words."""
    if asked["session"]:
        os.setsid()
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    now = asked["words"][0] == "-u"
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = io.TextIOWrapper(open(1, "wb", closefd=False), write_through=now)  # noqa: SIM115
    err = open(2, "wb", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = io.TextIOWrapper(err, errors="backslashreplace", line_buffering=True)
    words = _script(asked["words"])
    assert words is not None
    path = [one for one in asked["env"].get("PYTHONPATH", "").split(os.pathsep) if one]
    sys.path[:] = [{"-c": "", "-m": asked["cwd"]}.get(words[0], str(Path(words[0]).parent)), *path, *base]
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = __builtins__
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if words[0] == "-m":
        sys.argv = words[1:]
        sys.modules.pop(words[1], None)  # it is run, and not the one that was imported
        runpy._run_module_as_main(words[1])
        return
    code = words[1] if words[0] == "-c" else Path(words[0]).read_text(encoding="utf-8")
    sys.argv = ["-c", *words[2:]] if words[0] == "-c" else words
    if words[0] != "-c":
        main.__file__ = words[0]
    exec(compile(code, "<string>" if words[0] == "-c" else words[0], "exec"), main.__dict__)
