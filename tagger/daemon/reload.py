"""SIGHUP: the settings are read again. Thresholds, labels and sinks change; the audio goes on."""

import logging
from collections.abc import Callable, Sequence

from tagger.config.build import Configuration
from tagger.config.restart import keep_fixed
from tagger.daemon.daemon import Daemon
from tagger.errors import SettingError, TaggerError
from tagger.policy import Policy
from tagger.settings import ListenSettings

log = logging.getLogger(__name__)


def reload(
    daemon: Daemon, build: Configuration, policy_of: Callable[[ListenSettings], tuple[Policy, Sequence[str]]]
) -> None:
    """Reads the settings and applies them; logs what changed. After an error everything is as it was.

    Args:
        build: reads the settings.
        policy_of: what counts as an event by these settings, and the labels that they name.
    """
    try:
        settings, fixed = keep_fixed(daemon.settings, build())
        policy, asked = policy_of(settings)
    except TaggerError as error:
        said = build.located(error) if isinstance(error, SettingError) else error
        log.warning("reload: %s; nothing was changed", said)
        return
    changed = daemon.apply(settings, policy, asked)
    log.info("reload: done%s", f"; sinks: {', '.join(changed)}" if changed else "")
    if fixed:
        log.warning("reload: %s: changed only by a restart", ", ".join(fixed))
