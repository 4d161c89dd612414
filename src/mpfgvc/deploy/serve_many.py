"""The server of `mpfgvc serve` as an application of Ray Serve: many replicas behind one address.

    mpfgvc serve serve.yaml     # on this machine or its cluster; docs/serve-many.md has the file

Each replica is the application of app.py, with its routes, batches, limits and token, and has one model. Ray
Serve starts and stops the replicas, shares the requests out, and replaces a replica that fails. A model is
exchanged by a changed file: a replica of the new model starts beside the old ones, and each old one leaves
after its last answer. So memory for one more replica must be free.
"""

import time

from mpfgvc.deploy.app import create_app
from mpfgvc.deploy.desk import Desk
from mpfgvc.deploy.many_settings import ManySettings
from mpfgvc.errors import ConfigError

try:
    from ray import serve
    from starlette.types import ASGIApp
except ImportError as error:
    raise ConfigError(
        f"serving on many machines needs {error.name}: pip install 'mpfgvc[ray,serve]'"
    ) from None

RETRY_SECONDS = 1
"""What Ray Serve says in Retry-After when all replicas are full and nobody may wait any more."""
HEALTH_SECONDS = 5
"""Between two questions to a replica about its health."""


class Replica:
    """One model and its application, in a process of its own."""

    def __init__(self, settings: ManySettings, fingerprint: str) -> None:
        token = settings.token()
        self._app = create_app(settings.open(fingerprint=fingerprint), limits=settings.limits, token=token)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """The application that answers. Ray Serve starts it in its event loop."""
        return self._app

    async def check_health(self) -> None:
        """Raises RuntimeError if this replica will answer no more, so that it is replaced."""
        desk: Desk = self._app.state.desk
        if (reason := desk.failure()) is not None:
            raise RuntimeError(reason)


REPLICAS = serve.deployment(
    name="mpfgvc",
    max_surge_percent=100,
    backpressure_config={"status_code": 503, "retry_after_s": RETRY_SECONDS},
    health_check_period_s=HEALTH_SECONDS,
    max_constructor_retry_count=3,
)(serve.ingress()(Replica))
"""A file may change these under `deployments`. A replica of a new model starts before an old one stops."""


def application(arguments: dict[str, object]) -> serve.Application:
    """The application that the `args` of a file describe.

    Ray Serve calls it before it changes anything, so what is refused here leaves the model before at work.
    Raises ConfigError, CheckpointError for a model that is missing.

    No two deployments are equal, by up to a millisecond of patience. Ray 2.60 drops the autoscaling of an
    application whenever it builds it, and takes it up again only if something has changed. So to deploy the
    file before once more, after a refused one, would end autoscaling without a word.
    """
    settings = ManySettings.read(arguments)
    settings.token()
    limits = settings.limits
    deployment = REPLICAS.options(
        max_ongoing_requests=limits.queue,
        max_queued_requests=limits.queue,
        graceful_shutdown_timeout_s=2 * limits.timeout + time.time_ns() % 1_000_000 * 1e-9,
    )
    return deployment.bind(settings, settings.fingerprint())
