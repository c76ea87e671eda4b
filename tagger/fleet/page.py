"""The live page of a fleet, at the address of `[web]`: one for all workers."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from tagger.fleet.figures import Status
from tagger.settings import ListenSettings


@contextmanager
def serving(settings: ListenSettings, status: Callable[[], Status]) -> Iterator[None]:
    """Serves the page within the block, if there is to be one.

    Args:
        status: what the coordinator says. Raises TaggerError: it does not answer.

    Raises:
        SettingError: the address cannot be opened.
        UserError: a certificate file cannot be used.
        ModuleNotFoundError: the extra `web` is not installed.
    """
    if settings.web is None:
        yield
        return
    from tagger.fleet.view import View
    from tagger.web.access import Access
    from tagger.web.app import fleet_application
    from tagger.web.server import serving_application

    assert settings.mqtt is not None
    view = View(settings.mqtt, status)
    with (
        serving_application(settings.web, fleet_application(view.to_json, Access(settings.web))),
        closing(view),
    ):
        view.start()
        yield
