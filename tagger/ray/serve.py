"""A Ray Serve application: `serve run tagger.ray.serve:app`. Each replica has the models open and hears recordings.

What it answers is in `tagger.ray.routes`; its options are those of `tagger.ray.hearing.Options`, as `name=value`.
"""

from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp

from tagger.errors import UserError, to_install
from tagger.ray.hearing import NAME, Hearing, Options
from tagger.ray.routes import application

_MORE = 4
"""Requests of health and of those that are refused, besides the recordings that wait."""


def app(given: Mapping[str, Any]) -> Any:
    """The application.

    Args:
        given: options by name, from `serve run ... name=value` or `args` of a configuration.

    Raises:
        UserError: an option cannot be; or Ray Serve is not installed.
    """
    try:
        from ray import serve
    except ImportError as error:
        raise UserError(f"tagger.ray.serve needs Ray Serve ({error}): {to_install('serve')}") from None
    options = Options.of(given)

    def routes() -> ASGIApp:  # called once in each replica
        return application(Hearing(options))

    deployment = serve.deployment(
        name=NAME,
        max_ongoing_requests=options.most_waiting + _MORE,
        max_queued_requests=100,
        autoscaling_config={"min_replicas": 1, "max_replicas": 100, "target_ongoing_requests": options.threads},
        ray_actor_options={"num_cpus": 1},
        graceful_shutdown_timeout_s=60,
    )
    return deployment(serve.ingress(routes)()).bind()
