"""A page as one HTML file: a template of jinja2, with the shared style and its own script put into it.

Templates, styles and scripts lie in the package, and are named by their place in it, such as
`pages/page.css`. Nothing on a page is fetched from anywhere: pictures are in it as data (album.py).
"""

from collections.abc import Callable
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

from mpfgvc.errors import ConfigError


def render(template: str, what: str, **values: Any) -> str:
    """The page of a template, such as `evaluation/report_page.html.j2`; `what` it is, in an error.

    Values are escaped. Raises ConfigError if jinja2 is not installed.
    """
    if (reason := missing("jinja2")) is not None:
        raise ConfigError(f"{what} needs {reason}")
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, loader=jinja2.FunctionLoader(_read)
    )
    as_it_is: Callable[[str], Markup] = lambda name: Markup(_read(name))  # noqa: E731, S704  # our own files
    environment.globals["as_it_is"] = as_it_is
    return environment.get_template(template).render(values)


def missing(*modules: str) -> str | None:
    """How to install those of some modules that are not there; None if all are."""
    absent = [name for name in modules if find_spec(name) is None]
    return f"{' and '.join(absent)}: pip install 'mpfgvc[compare]'" if absent else None


def _read(name: str) -> str:
    return files("mpfgvc").joinpath(name).read_text(encoding="utf-8")
