"""The model that the daemon listens with, and the rules by which each source's sounds become events."""

from collections.abc import Sequence
from dataclasses import dataclass

from tagger import policy
from tagger.checkpoints.joint import ModelInfo, joined, models_of, shortest_window_s
from tagger.checkpoints.named import choose, understood
from tagger.engine.runtime import described, open_models
from tagger.engine.scores import WindowClassifier
from tagger.errors import SettingError, UserError
from tagger.policy import EventsConfig, Policy
from tagger.settings import ListenSettings, check_window, model_names
from tagger.sources.spec import Spec


@dataclass(frozen=True)
class Model:
    """The model that the daemon listens with."""

    classifier: WindowClassifier
    window_s: float
    """Length of its windows, seconds: the user's, or that of the training."""
    shortest_s: float
    """Length of the shortest window, seconds, where several models listen; else `window_s`."""

    @property
    def info(self) -> ModelInfo:
        return self.classifier.info

    @property
    def rate_hz(self) -> int:
        return self.info.mel.sample_rate_hz

    def policies(self, settings: ListenSettings) -> list[Policy]:
        """What counts as an event by these settings, for each source.

        Raises:
            SettingError: they do not fit the model's labels or the length of the windows.
            UserError: a source's own labels or thresholds do not.
        """
        return _policies(self.info, self.shortest_s, settings)

    def deciders(self, settings: ListenSettings) -> tuple[str, ...]:
        """[labels and others], what decides each; empty: the model decides all."""
        others = detected(settings)
        if not others:
            return models_of(self.info)
        models = models_of(self.info) or (self.info.name,) * len(self.info.labels)
        return (*models, *(policy.DETECTED[label] for label in others))


def _policies(info: ModelInfo, shortest_s: float, settings: ListenSettings) -> list[Policy]:
    """As `Model.policies`."""
    labels, thresholds, hop_s = info.labels, info.thresholds, settings.hop_seconds
    others = detected(settings)
    if taken := [label for label in others if label in labels]:
        name = "loud_db" if taken[0] == policy.LOUD else "alarms"
        raise SettingError(name, f"the model has a label {taken[0]!r} of its own; turn one of them off")

    def made(rules: EventsConfig, threshold: float | None) -> Policy:
        understood_ = understood(info, rules)
        return policy.policy(labels, thresholds, shortest_s, hop_s, understood_, threshold, others)

    plain = settings.rules, settings.threshold
    policies = [made(*plain)] * len(settings.sources)
    for number, spec in enumerate(map(Spec.parse, settings.sources)):
        own = spec.rules(*plain)
        if own == plain:
            continue
        try:
            policies[number] = made(*own)
        except SettingError as error:  # the daemon's own rules are right, so these are the source's
            raise UserError(spec.mistake(error)) from None
    return policies


def memory_s(window_s: float, hop_s: float, policies: Sequence[Policy]) -> float:
    """Longest time from an event's onset to its announcement, seconds."""
    return window_s + hop_s + max(max(each.confirm_s, each.min_s) for policy in policies for each in policy.each)


def detected(settings: ListenSettings) -> tuple[str, ...]:
    """Labels of the events that no network decides."""
    is_loud = any(each is not None for each in levels_db("loud_db", settings, settings.loud_db))
    return (*((policy.LOUD,) if is_loud else ()), *(policy.ALARMS if settings.alarms else ()))


def all_rules(settings: ListenSettings) -> list[EventsConfig]:
    """The rules of the daemon, and those of each source."""
    return [
        settings.rules,
        *(Spec.parse(each).rules(settings.rules, settings.threshold)[0] for each in settings.sources),
    ]


def levels_db(name: str, settings: ListenSettings, default: float | None) -> list[float | None]:
    """`calibrate_db` or `loud_db` of each source."""
    return [Spec.parse(each).level_db(name, default) for each in settings.sources]


def open_model(settings: ListenSettings) -> Model:
    own_s = settings.window_seconds
    names = model_names(settings.model)
    classifier = open_models(names, settings.runtime, settings.device, own_s, all_rules(settings))
    shortest_s = own_s or shortest_window_s(classifier.info)
    check_window(own_s, settings.hop_seconds, shortest_s)
    return Model(classifier, own_s or classifier.info.window_seconds, shortest_s)


def check(settings: ListenSettings) -> None:
    """Looks for what `open_model` and `Model.policies` would refuse, without opening a network.

    Raises:
        CheckpointError: there is no such model, or it cannot be read.
        SettingError: the settings do not fit it.
        UserError: a source's own labels or thresholds do not.
    """
    info = choose(joined([described(name)[1] for name in model_names(settings.model)]), all_rules(settings))
    shortest_s = settings.window_seconds or shortest_window_s(info)
    check_window(settings.window_seconds, settings.hop_seconds, shortest_s)
    _policies(info, shortest_s, settings)
