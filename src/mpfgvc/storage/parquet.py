"""pyarrow, or one line that says how to get it. It is the extra `parquet`."""

from typing import Any

from mpfgvc.errors import ConfigError


def pyarrow_for(what: str) -> Any:
    """The module pyarrow, to keep `what` (a plural) with it. Raises ConfigError where it is missing."""
    try:
        import pyarrow
    except ImportError:
        raise ConfigError(
            f"{what} are kept in Parquet, which needs pyarrow: pip install 'mpfgvc[parquet]'"
        ) from None
    return pyarrow


def parquet_for(what: str) -> Any:
    """The module pyarrow.parquet, as `pyarrow_for`."""
    pyarrow_for(what)
    from pyarrow import parquet

    return parquet
