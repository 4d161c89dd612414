"""`python -m mpfgvc`, also under torchrun."""

import sys

from mpfgvc.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
