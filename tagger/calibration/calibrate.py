"""`tagger calibrate`: thresholds for a room, chosen by the false alarms that its sounds cause."""

from collections.abc import Sequence

from tagger import policy
from tagger.calibration.output import check_writable, write
from tagger.calibration.rates import choose, weigh
from tagger.calibration.recordings import LEAST_S, RecordingClassifier, each_once, labelled, recordings
from tagger.calibration.report import About, Result, report
from tagger.calibration.settings import CalibrationSettings
from tagger.calibration.tracks import FLOOR, Recorder, ThresholdedPolicy, confirmed
from tagger.checkpoints.joint import shortest_window_s
from tagger.checkpoints.named import understood
from tagger.config.places import placed
from tagger.engine.runtime import open_models
from tagger.errors import UserError, near
from tagger.policy import EventsConfig
from tagger.printable import echo, echo_lines
from tagger.progress import counted
from tagger.settings import check_window, model_names


def calibrate(settings: CalibrationSettings) -> bool:
    """Classifies recordings, chooses thresholds, prints the report and writes the file.

    Returns:
        Whether every file could be read.

    Raises:
        UserError: an option cannot be used, or the recordings are too short.
        TaggerError: the source of --listen broke before LEAST_S were heard.
    """
    check_writable(settings.output)
    old = settings.old
    config = old.events if old is not None else EventsConfig()
    names = model_names(settings.model)
    classifier = open_models(names, settings.runtime, settings.device, settings.window_s, [config])
    info, config = classifier.info, understood(classifier.info, config)
    window_s, shortest_s = settings.window_s or info.window_seconds, settings.window_s or shortest_window_s(info)
    check_window(settings.window_s, settings.hop_s, shortest_s)
    with placed(old):
        now = policy.policy(info.labels, info.thresholds, shortest_s, settings.hop_s, config)
    for label in settings.excepted:
        if label not in info.labels:
            raise UserError(f"--except {label}: no such label in this model{near(label, info.labels)}")
    columns = [i for i, label in enumerate(info.labels) if label not in {*settings.excepted, *now.denied}]
    rules = [ThresholdedPolicy(info.labels[i], info.thresholds[i], shortest_s, settings.hop_s, config) for i in columns]
    files = each_once([file for path in settings.recordings for file in recordings(path)])
    examples = labelled(settings.examples, info.labels) if settings.examples is not None else {}

    floor = min(FLOOR, *(each.exit for each in now.each))
    recorder = RecordingClassifier(classifier, window_s, settings.hop_s, floor, settings.channel)
    recorders = recorder.files(files) if files else []
    if settings.listen_s is not None and not recorder.is_interrupted:
        recorders += recorder.sources(settings.sources, settings.listen_s)
    heard_s = settings.hop_s * sum(each.windows for each in recorders)
    if not heard_s and recorder.failed:  # every error was printed
        return False
    if heard_s + window_s < LEAST_S:
        raise UserError(_too_short(sum(each.heard_s for each in recorders), window_s))
    tracks = [each.tracks(len(info.labels)) for each in recorders if each.windows]
    shown = counted("weighing", rules, "labels")
    evidence = weigh([[of[i] for i in columns] for of in tracks], shown, heard_s / 3600, settings.lower)
    chosen = choose(evidence, *settings.wishes.per_hour, settings.wishes.sure)
    played = {label: [one for path in paths for one in recorder.example(path)] for label, paths in examples.items()}
    results = [
        Result(each, enter, _levels(played.get(each.rules.label, []), column, each.rules, len(info.labels)))
        for each, enter, column in zip(evidence, chosen, columns, strict=True)
    ]
    about = About(settings.wishes, heard_s / 3600, info.name, window_s, settings.hop_s)
    echo_lines(report(about, results, settings.excepted))
    echo()
    write(settings, about, results)
    return not recorder.failed


def _too_short(sound_s: float, window_s: float) -> str:
    needed = f"at least {LEAST_S:g} s are needed, ten minutes say more"
    if sound_s < LEAST_S:
        return f"only {sound_s:.0f} s could be heard; {needed}"
    pieces = f"pieces hardly longer than a window of {window_s:g} s"
    return f"{sound_s:.0f} s were heard, but in {pieces}; in longer ones, {needed}"


def _levels(played: Sequence[Recorder], column: int, rules: ThresholdedPolicy, labels: int) -> tuple[float, ...]:
    tracks = [recorder.tracks(labels)[column] for recorder in played if recorder.windows]
    return tuple(confirmed(track.windows(0, len(track.times)), rules) for track in tracks)
