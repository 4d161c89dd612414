"""`python -m mpfgvc`, also under torchrun."""

import sys

from mpfgvc.cli import main

if __name__ == "__main__":
    sys.exit(main())
