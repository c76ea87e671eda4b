"""SIGHUP: the settings are read again. Thresholds, labels and sinks change; the audio goes on."""

import logging

from tagger import unforeseen
from tagger.config.build import Configuration
from tagger.config.restart import keep_fixed
from tagger.daemon.daemon import Daemon
from tagger.errors import SettingError, TaggerError
from tagger.logs import set_level

log = logging.getLogger(__name__)


def reload(daemon: Daemon, build: Configuration) -> None:
    """Reads the settings and applies them; logs what changed. After an error everything is as it was.

    Args:
        build: reads the settings.
    """
    daemon.service.reloading()
    try:
        _reload(daemon, build)
    finally:
        daemon.service.ready()


def _reload(daemon: Daemon, build: Configuration) -> None:
    try:
        settings, fixed = keep_fixed(daemon.settings, build())
        changed = daemon.apply(settings)
    except TaggerError as error:
        log.warning(
            "reload: %s; nothing was changed", build.located(error) if isinstance(error, SettingError) else error
        )
        return
    except Exception as error:
        unforeseen.tell("reload", error)
        return
    set_level(settings.log_level)
    log.info("reload: done%s", f"; {', '.join(changed)}" if changed else "")
    if fixed:
        log.warning("reload: %s: changed only by a restart", ", ".join(fixed))
