"""The version of mpfgvc, and of mpfgvc-runtime, which is made from the same files."""

VERSION = "0.1.0"
