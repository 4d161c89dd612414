"""`python -m mpfgvc`, also under torchrun."""

import atexit
import logging
import os
import sys

from mpfgvc.cli.main import main
from mpfgvc.launcher import Processes

if __name__ == "__main__":
    code = main()
    if Processes.here().world > 1:
        # Threads of gloo that outlive the interpreter's end abort it now and then, after all work is done.
        atexit._run_exitfuncs()
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
