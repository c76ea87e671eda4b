"""Which settings need a restart: the daemon asks this module when its settings are read again (SIGHUP)."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tagger.config.option import Option
from tagger.config.options import OPTIONS
from tagger.settings import ListenSettings


def keep_fixed(now: ListenSettings, new: ListenSettings) -> tuple[ListenSettings, list[str]]:
    """Takes from the new settings what a running daemon can change.

    Args:
        now: what is in force; the port of an embedded broker is the one that it got.

    Returns:
        `new`, with everything that needs a restart as it is in `now`; the keys of the options that this puts back.
    """
    needs_restart: list[str] = []
    for group, options in _fixed().items():
        was: Any = getattr(now, group) if group else now
        new_group: Any = getattr(new, group) if group else new
        if was is None and new_group is None:
            continue
        if was is None or new_group is None:  # the group itself would appear or go: its first option decides that
            needs_restart.append(options[0].key)
            new = replace(new, **{group: was})
            continue
        changed = [option for option in options if getattr(was, option.leaf) != getattr(new_group, option.leaf)]
        needs_restart += [option.key for option in changed]
        values: dict[str, Any] = {option.leaf: getattr(was, option.leaf) for option in options}
        if group:
            values = {group: was if options[0] in changed else replace(new_group, **values)}
        new = replace(new, **values)
    if now.mqtt is None and new.node != now.node:
        needs_restart.append("mqtt.node")
    new = replace(new, node=now.node)
    if now.mqtt is not None and new.mqtt is not None and now.mqtt.embedded:
        new = replace(new, mqtt=replace(new.mqtt, port=now.mqtt.port))
    return (new if new.mqtt is not None else replace(new, homeassistant=None)), needs_restart


def _fixed() -> Mapping[str, list[Option]]:
    """Options that need a restart, by the field of ListenSettings that they are in; "": directly in it."""
    groups = defaultdict(list)
    for option in OPTIONS:
        if option.field is not None and not option.reload:
            groups[option.group].append(option)
    return groups
