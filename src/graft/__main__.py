"""`python -m graft` is `graft`: the entry point, which a signal ends without a traceback from its first moment."""

from __future__ import annotations

import signal


def run() -> None:
    """Run the command line. While its modules are imported nothing is begun, and Ctrl-C ends the process at once."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from graft.cli.app import main

    main()


if __name__ == "__main__":
    run()
