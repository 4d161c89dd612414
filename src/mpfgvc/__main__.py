"""The `mpfgvc` command, and `python -m mpfgvc`; also under torchrun."""

import atexit
import logging
import os
import sys
from typing import NoReturn

from mpfgvc.cli.main import main
from mpfgvc.processes import Processes


def command() -> NoReturn:
    """Run the command line and end this process with its exit code.

    One of several processes ends itself, after its exit functions: threads of gloo that outlive the
    interpreter's end abort it now and then, when all work is done.
    """
    # Threads that wait for each other by spinning are several times slower than one beside a busy neighbour.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    code = main()
    if Processes.here().world > 1:
        atexit._run_exitfuncs()
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    command()
