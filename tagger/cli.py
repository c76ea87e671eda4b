"""The command `tagger`: flags to settings, errors to one line. A command imports what it needs when it is called."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from tagger import __version__, settings
from tagger.errors import TaggerError, UserError

model_option = click.option(
    "--model", "-m", default=settings.DEFAULT_MODEL, show_default=True, help="A name from `tagger models`, or a path."
)
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
window_option = click.option("--window", type=float, metavar="S", help="Window, seconds. [default: the model's own]")
hop_option = click.option(
    "--hop", type=float, metavar="S", default=1.0, show_default=True, help="Between windows, seconds."
)


class _Failure(click.ClickException):
    def __init__(self, error: TaggerError) -> None:
        super().__init__(str(error))
        self.exit_code = error.exit_code  # type: ignore[misc]  # click declares it for the class


class _Group(click.Group):
    """Our errors reach the terminal as one line and an exit code; anything else is a defect and keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TaggerError as error:
            raise _Failure(error) from None
        except BrokenPipeError:  # click ends quietly where a reader has seen enough
            raise
        except OSError as error:  # a folder that cannot be written, a full disk
            where = f"{error.filename}: " if error.filename else ""
            raise _Failure(UserError(f"{where}{error.strerror or error}")) from None


@click.group(
    cls=_Group,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "TAGGER",
        "max_content_width": 110,
    },
)
@click.version_option(__version__, prog_name="tagger")
def main() -> None:
    """Sound events from any microphone or audio stream, published over MQTT.

    Every option can also be set by an environment variable: --mqtt of `listen` by TAGGER_LISTEN_MQTT.
    """


@main.command()
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@model_option
@device_option
@window_option
@hop_option
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="TOML: what counts as an event.")
@click.option("--threshold", type=float, metavar="P", help="Score that begins an event. [default: the model's own]")
@click.option("--allow", multiple=True, metavar="LABEL", help="Announce only this label; repeatable.")
@click.option("--deny", multiple=True, metavar="LABEL", help="Never announce this label; repeatable.")
@click.option("--top", type=int, default=5, show_default=True, help="Labels in each `scores` message.")
@click.option(
    "--mqtt",
    default=settings.DEFAULT_MQTT_URL,
    show_default=True,
    metavar="URL",
    help="mqtt://user:password@host:port, mqtts://..., embedded (a broker in this process) or none.",
)
@click.option("--prefix", default="tagger", show_default=True, help="First level of every topic.")
@click.option("--node", help="Second level of every topic. [default: the host's name]")
@click.option("--watch", is_flag=True, help="Print events as they arrive back from the broker.")
@click.option("--json", "as_json", is_flag=True, help="Print events as lines of JSON.")
@click.option("--explain", is_flag=True, help="Print of every window what is heard, and why it is not announced.")
@click.option(
    "--save-clips",
    "clips",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep the audio of each event, for `tagger review`. [default: no audio is ever kept]",
)
@click.option("--keep-days", type=float, metavar="D", help="Delete saved clips that are older.")
@click.option("--keep-mb", type=float, metavar="MB", help="Delete the oldest when they are more.")
@click.option("--realtime/--no-realtime", default=True, help="Replay files at their own pace, or as fast as it goes.")
@click.option("--rate", type=int, default=32_000, show_default=True, help="Of raw PCM on standard input, Hz.")
@click.option(
    "--format",
    "encoding",
    default="s16le",
    show_default=True,
    help=f"Of raw PCM on standard input: {', '.join(settings.PCM_ENCODINGS)}.",
)
@click.option("--channels", type=int, default=1, show_default=True, help="Of raw PCM on standard input.")
def listen(sources: Sequence[str], **flags: Any) -> None:
    """Listen, and publish sound events over MQTT.

    SOURCE is mic (the default), mic:NAME (see `tagger devices`), a file, - (raw PCM on standard input), demo (a
    built-in minute of sounds) or auto (the microphone, or the demo where there is none). Name one for its topics:
    kitchen=mic:USB. Ctrl-C stops.
    """
    chosen = settings.ListenSettings(
        sources=tuple(sources) or ("mic",),
        model=flags["model"],
        device=flags["device"],
        window_seconds=flags["window"],
        hop_seconds=flags["hop"],
        config=flags["config"],
        threshold=flags["threshold"],
        allow=flags["allow"],
        deny=flags["deny"],
        top=flags["top"],
        realtime=flags["realtime"],
        pcm=settings.PcmFormat(flags["rate"], settings.pcm_encoding(flags["encoding"]), flags["channels"]),
        mqtt=_mqtt(flags["mqtt"], flags["prefix"], flags["node"]),
        json=flags["as_json"],
        watch=flags["watch"],
        explain=flags["explain"],
        clips=_clips(flags["clips"], flags["keep_days"], flags["keep_mb"]),
    )
    from tagger.stop import Stop

    with Stop() as stop:  # before torch is imported, which takes a while
        from tagger import start

        start.configure_logging()
        start.listen(chosen, stop)


def _mqtt(url: str, prefix: str, node: str | None) -> settings.MqttSettings | None:
    if url == "none":
        return None
    return settings.MqttSettings.from_url(url, prefix=prefix, **({"node": node} if node else {}))


def _clips(folder: Path | None, keep_days: float | None, keep_mb: float | None) -> settings.ClipSettings | None:
    if folder is not None:
        return settings.ClipSettings(folder, keep_days, keep_mb)
    if keep_days is not None or keep_mb is not None:
        raise UserError("--keep-days and --keep-mb are for --save-clips DIR")
    return None


@main.command("tag")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@model_option
@device_option
@window_option
@hop_option
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="TOML: what counts as an event.")
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Labels shown of each window.")
@click.option("--events", is_flag=True, help="What `tagger listen` would announce, with onset and offset.")
@click.option("--audacity", is_flag=True, help="The same as FILE.labels.txt beside each file: a label track.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON a window, or an event.")
def tag_files(
    files: Sequence[Path],
    model: str,
    device: str,
    window: float | None,
    hop: float,
    config: Path | None,
    top: int,
    events: bool,
    audacity: bool,
    as_json: bool,
) -> None:
    """Tag audio files: what is heard in each window, or the events in them.

    Any length, sample rate and channel count; WAV, FLAC, Ogg and MP3, and with PyAV whatever FFmpeg decodes.
    """
    settings.check_window(window, hop)
    from tagger import checkpoint, policy, store, tag
    from tagger.classifier import Classifier

    classify = Classifier(checkpoint.load_trained(store.find(model)), device)
    info = classify.info
    window_s = window or info.window_seconds
    settings.check_window(window, hop, window_s)
    chosen = policy.read(config) if config is not None else None
    rules = policy.policy(info.labels, info.thresholds, window_s, hop, chosen)
    failed = 0
    for path in files:
        if not as_json:
            click.echo(click.format_filename(path))
        scores = tag.tag(path, classify, window_s, hop)
        try:
            if events or audacity:
                found = tag.events(scores, rules)
                tag.show_events(path, found, as_json, path.with_name(path.name + ".labels.txt") if audacity else None)
            else:
                for each in scores:
                    click.echo(tag.as_line(path, each, info, top) if as_json else tag.as_row(each, info, top))
        except UserError as error:  # the other files are still worth tagging
            click.echo(f"Error: {error}", err=True)
            failed += 1
    if failed:
        sys.exit(UserError.exit_code)


@main.command()
@click.argument("recordings", nargs=-1, type=click.Path(path_type=Path), metavar="[RECORDING]...")
@click.option("--listen", "duration", metavar="TIME", help="Hear the room now, for so long: 10m, 8h.")
@click.option("--source", metavar="SOURCE", help="For --listen, as `tagger listen` names it. [default: mic]")
@model_option
@device_option
@window_option
@hop_option
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="TOML that holds now; it is kept.")
@click.option("--wish", metavar="RATE", help="Of each label, at most: 1/day, 2/hour. [default: 1/day]")
@click.option("--wish-all", metavar="RATE", help="Of all labels together, at most.")
@click.option("--sure", is_flag=True, help="Meet the wish with 95 % confidence, not only on average.")
@click.option("--lower", is_flag=True, help="Set thresholds also below those that hold now.")
@click.option("--examples", type=click.Path(path_type=Path), metavar="DIR", help="DIR/LABEL/FILE: still found?")
@click.option("--except", "excepted", multiple=True, metavar="LABEL", help="Is heard in the recording; repeatable.")
@click.option("--output", "-o", type=click.Path(path_type=Path), default=Path("tagger.toml"), show_default=True)
@click.option("--force", is_flag=True, help="Replace the file that is there.")
def calibrate(recordings: Sequence[Path], duration: str | None, source: str | None, **flags: Any) -> None:
    """Set each label's threshold by how often your room is mistaken for it.

    RECORDING is a file, or a folder of them, of what happens in the room without any of the labels' sounds: all that is
    announced in it is a false alarm. Ten minutes tell something, a day much. The thresholds are written to a file for
    `tagger listen --config`.
    """
    from tagger import calibrate
    from tagger.wishes import Wishes

    if source is not None and duration is None:
        raise UserError("--source is for --listen TIME")
    chosen = calibrate.Settings(
        recordings=tuple(recordings),
        listen_s=None if duration is None else calibrate.seconds("--listen", duration),
        source=source or "mic",
        model=flags["model"],
        device=flags["device"],
        window_s=flags["window"],
        hop_s=flags["hop"],
        config=flags["config"],
        wishes=Wishes.parse(flags["wish"], flags["wish_all"], flags["sure"]),
        lower=flags["lower"],
        examples=flags["examples"],
        excepted=flags["excepted"],
        output=flags["output"],
        force=flags["force"],
    )
    if not calibrate.calibrate(chosen):
        sys.exit(UserError.exit_code)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--list", "listed", is_flag=True, help="Print the clips, those not reviewed first, and ask nothing.")
@click.option("--json", "as_json", is_flag=True, help="The same, one line of JSON a clip.")
@click.option(
    "--mark",
    "marks",
    multiple=True,
    metavar="CLIP=VERDICT",
    help="By id or file: right, wrong, a label, or undo; repeatable.",
)
def review(folder: Path, listed: bool, as_json: bool, marks: Sequence[str]) -> None:
    """Say of saved clips what they are: right, wrong, or something else.

    DIR is what `tagger listen --save-clips DIR` wrote. Every answer is written at once, to DIR/reviewed.csv; `tagger
    train --add DIR` learns from it.
    """
    from tagger import review

    if marks:
        review.mark_all(folder, marks)
    if listed or as_json:
        review.show(folder, as_json)
    elif not marks:
        review.ask(folder)


@main.command("events")
@click.argument("file", required=False, type=click.Path(path_type=Path), metavar="[FILE]")
@click.option("--day", metavar="DAY", help="2026-11-26, today or yesterday: events that began then, local time.")
@click.option("--since", metavar="TIME", help="A day, or 2026-11-26T14:30, local or with an offset from UTC.")
@click.option("--until", metavar="TIME", help="The same; a day is included.")
@click.option("--label", "labels", multiple=True, metavar="LABEL", help="Only these; repeatable.")
@click.option("--source", "sources", multiple=True, metavar="NAME", help="Only from these; repeatable.")
@click.option("--node", "nodes", multiple=True, metavar="NAME", help="Only from these; repeatable.")
@click.option("--min-score", type=click.FloatRange(0, 1), metavar="P", help="Only of at least this peak score.")
@click.option("--min-s", type=click.FloatRange(0), metavar="S", help="Only those that lasted so long.")
@click.option("--last", type=click.IntRange(1), metavar="N", help="Of all these, the last.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON an event, named as in MQTT's.")
@click.option("--count", is_flag=True, help="Of each label: how many, how long together, the highest score.")
@click.option("--chart", is_flag=True, help="With --day: hours across, labels down, as text.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="PNG", help="With --day: the same as a picture.")
def list_events(
    file: Path | None, labels: Sequence[str], sources: Sequence[str], nodes: Sequence[str], **flags: Any
) -> None:
    """List the events that the daemon has kept.

    FILE is its event log. [default: $TAGGER_HOME/events.sqlite]
    """
    from tagger import history

    query = history.Query(
        labels=tuple(labels),
        sources=tuple(sources),
        nodes=tuple(nodes),
        min_score=flags["min_score"],
        min_s=flags["min_s"],
        last=flags["last"],
    )
    shown = {name: flags[name] for name in ("day", "since", "until", "as_json", "count", "chart", "plot")}
    history.show(file or history.file(), query=query, **shown)


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder for both.")
@click.option("--front-end", metavar="NAME", help="efficientat, origin, mel or mfcc. [default: efficientat]")
@click.option("--model", "-m", metavar="NAME", help="As this model gets them: a name from `tagger models`, or a path.")
@click.option("--picture/--no-picture", default=True, help="Pictures need the extra `train`.  [default: picture]")
def features(files: Sequence[Path], output: Path, front_end: str | None, model: str | None, picture: bool) -> None:
    """Write what a network is given: spectrograms or MFCCs, as DIR/FILE.npy and DIR/FILE.png.

    Of whole files, any length, sample rate and channel count; the array is [bands, frames], float32. A file that is
    damaged gives nothing.
    """
    from train import featurefiles

    config = featurefiles.chosen(front_end, model)
    targets = featurefiles.targets(files, output)
    if picture:
        featurefiles.check_pictures()
    failed = 0
    for path, target in targets.items():
        try:
            bands, frames = featurefiles.write(path, target, config, picture)
            click.echo(f"{click.format_filename(target)}  {bands} x {frames}")
        except UserError as error:  # the other files are still worth it
            click.echo(f"Error: {error}", err=True)
            failed += 1
    if failed:
        sys.exit(UserError.exit_code)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One line of JSON a device.")
def devices(as_json: bool) -> None:
    """List the microphones that `tagger listen mic:NAME` can use."""
    from tagger.sources.microphone import inputs

    found = inputs()
    if not found:
        raise UserError("no input device: connect a microphone; `tagger listen demo` needs none")
    for each in found:
        if as_json:
            keys = ("index", "name", "max_input_channels", "default_samplerate", "is_default")
            click.echo(json.dumps({key: each[key] for key in keys}))
        else:
            default = "  (default)" if each["is_default"] else ""
            channels = f"{each['max_input_channels']} ch"
            click.echo(f"{each['index']:>3}  {each['name']}  {channels}, {each['default_samplerate']:.0f} Hz{default}")


@main.group(invoke_without_command=True)
@click.pass_context
def models(ctx: click.Context) -> None:
    """List the models at hand; add or download others."""
    if ctx.invoked_subcommand is not None:
        return
    from tagger import store

    click.echo(f"{'name':<16} {'origin':<11} {'labels':>6} {'size':>8}  measured")
    for entry in store.entries():
        if entry.document is None:
            click.echo(f"{entry.name:<16} {entry.origin:<11} {'':>6} {'':>8}  unusable: {entry.problem}")
            continue
        measured = ", ".join(store.describe_metric(key, value) for key, value in entry.document["metrics"].items())
        size = f"{entry.path.stat().st_size / 1e6:.1f} MB"
        click.echo(f"{entry.name:<16} {entry.origin:<11} {len(entry.document['labels']):>6} {size:>8}  {measured}")
    click.echo(f"\nown and downloaded ones: {store.folder()}", err=True)


@models.command("add")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
def models_add(files: Sequence[Path]) -> None:
    """Take in a checkpoint of your own, or one of EfficientAT's official mn*_as .pt files."""
    from tagger import store

    for path in files:
        added = store.add(path)
        click.echo(f"{added.stem}: {added}")


@models.command("download")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--url", help="Where the release files lie. [default: EfficientAT's release v0.0.1]")
def models_download(names: Sequence[str], url: str | None) -> None:
    """Fetch EfficientAT's official AudioSet weights: mn04, mn10. An interrupted download is continued."""
    from tagger import release, store

    for name in names:
        file = release.release_file(name)
        target = store.folder() / file.name
        with release.shown(file.name) as progress:
            release.download(file, target, url or release.RELEASE_URL, progress)
        added = store.add(target)
        target.unlink()
        click.echo(f"{added.stem}: {added}")


def _data_options(command: Any) -> Any:
    """What `train` and `eval` read."""
    options = (
        click.argument("data", required=False, type=click.Path(path_type=Path)),
        click.option("--esc10", is_flag=True, help="Of ESC-50, its ten labels that are ESC-10."),
        click.option(
            "--add",
            "added",
            multiple=True,
            type=click.Path(path_type=Path),
            metavar="OWN",
            help="Own clips besides DATA: a folder LABEL/FILE, or a CSV; repeatable.",
        ),
        click.option("--strict", is_flag=True, help="Stop at a damaged or silent clip instead of leaving it out."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@main.command()
@_data_options
@click.option(
    "--background",
    "backgrounds",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Recordings that must trigger nothing; repeatable.",
)
@click.option("--download", is_flag=True, help="Fetch ESC-50 (600 MB) first, if it is not there; continues.")
@click.option(
    "--model",
    "-m",
    help="mn01 to mn40, dymn04 to dymn20, crnn, or a checkpoint. [default: mn04, or what the recipe is for]",
)
@click.option(
    "--start", type=click.Choice(["audioset", "imagenet", "nothing"]), help="Weights that mn and dymn begin with."
)
@click.option("--recipe", help="How; `tagger recipes` lists them. [default: the network's own]")
@click.option(
    "--set", "settings_", multiple=True, metavar="FIELD=VALUE", help="Change a field of the recipe; repeatable."
)
@click.option(
    "--freeze", is_flag=True, help="The recipe `head`: the last layer alone, on the frozen network's features."
)
@click.option("--epochs", type=click.IntRange(1), help="Short for --set epochs=N.")
@click.option("--teacher", metavar="MODEL", help="Checkpoint to learn from too; {fold} in it is the held-out fold.")
@click.option("--fold", "folds", type=click.IntRange(1, 5), multiple=True, help="Hold out this fold only; repeatable.")
@click.option("--all-clips", is_flag=True, help="Only the checkpoint from all clips; nothing is held out.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Folder. [default: runs/MODEL-RECIPE]")
@click.option("--name", default="esc50", show_default=True, help="Name of the final checkpoint.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--resume", is_flag=True, help="Go on with the run that the folder holds.")
@click.option(
    "--allow-leak", is_flag=True, help="Start from, or learn from, what has heard the held-out clips; it is marked."
)
@device_option
def train(**flags: Any) -> None:
    """Train on ESC-50, on your own clips, or on both.

    DATA is ESC-50's folder or its zip, or a folder with a folder of clips for each label, or a CSV with the columns
    filename, label and, if you like, fold. [default: $TAGGER_HOME/esc50]

    Without --fold, each of the five folds is held out once and scored by a network that never heard it; then the final
    checkpoint is trained on all clips. Ctrl-C saves; --resume goes on. Decoded clips are kept under $TAGGER_HOME/cache;
    delete it at will. Several processes share the work: torchrun --nproc-per-node 2 -m -- tagger train ...
    """
    from train import command

    command.train(**flags)


@main.command("eval")
@_data_options
@click.option(
    "--model",
    "-m",
    "models_",
    multiple=True,
    required=True,
    metavar="MODEL",
    help="A checkpoint, or the folder of a training with one for each fold; repeatable.",
)
@click.option("--folds", default="own", show_default=True, metavar="LIST", help="own, all, or numbers such as 1,3.")
@click.option(
    "--shifts",
    type=click.IntRange(1, 20),
    default=1,
    show_default=True,
    help="Test-time option: average over turned copies.",
)
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), default=Path("report"), show_default=True, help="Folder."
)
@click.option("--allow-leak", is_flag=True, help="Score also what the checkpoint was trained on; the report is marked.")
@click.option("--streamed", is_flag=True, help="In long streams made from the clips, as the daemon hears them.")
@click.option("--minutes", type=click.FloatRange(1, 600), help="Streamed: length for each checkpoint. [default: 20]")
@click.option("--hop", type=click.FloatRange(0.05, 5), help="Streamed: between windows, seconds. [default: 0.5]")
@click.option("--seed", type=click.IntRange(0), help="Streamed: another one makes other streams. [default: 0]")
@click.option(
    "--background",
    "backgrounds",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    metavar="DIR",
    help="Streamed: recordings under the sounds; repeatable. [default: noise]",
)
@click.option(
    "--nontarget",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    metavar="DIR",
    help="Streamed: recordings in which every event is a false alarm; repeatable.",
)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Streamed: what counts as an event.")
@device_option
def evaluate(**flags: Any) -> None:
    """Score checkpoints on clips that they have never heard.

    A checkpoint knows what it was trained on. `own` is the fold that it did not hear; `all` is the official protocol:
    five checkpoints, each on its own fold, mean and standard deviation.
    """
    from train import command

    command.evaluate(**flags)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="All fields, one line a recipe.")
def recipes(as_json: bool) -> None:
    """List the ways of training, and what each changes."""
    from train import command

    command.recipes(as_json)
