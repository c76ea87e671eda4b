"""`tagger review`: shows saved clips, plays them, asks what they are, and writes the answers down.

`tagger.clips.verdicts` has the file that it writes, and what a verdict means for training.
"""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import click

from tagger.clips.speaker import play as play_aloud
from tagger.clips.verdicts import UNDO, SavedClip, load, mark, train_line
from tagger.errors import AudioError, UserError
from tagger.printable import echo, number_of

Say = Callable[[str], None]
Ask = Callable[[str], str]
"""Shows a question, returns the answer. Raises click.Abort at the end of the input."""
Play = Callable[[Path], None]

_CHOICES = "r(ight) w(rong) o(ther) p(lay again) s(kip) q(uit) ?(help)"
_HELP = (
    "  r          right: this label sounds in it, whatever else does",
    "  w          wrong: it does not, and what sounds must trigger nothing",
    "  o LABEL    other: it is LABEL, such as `o doorbell`: one of the model's, or a new one of your own",
    "  p, s, q    play it again; ask later; end, and keep what was answered",
    "  Two sounds at once are two clips, each with its own label: answer each for that label alone. Clips that are the",
    "  same sound under two labels are left out of training, which says so. A label of your own is learnt from two",
    "  recordings on, which are hours apart; five are better: `tagger train --add` says which labels have too few.",
)


def show(root: Path, as_json: bool = False) -> None:
    """`tagger review DIR --list`: a line for each clip on standard output, first those without a verdict."""
    clips = load(root, _show_note)
    for clip in clips:
        echo(json.dumps(clip.to_json()) if as_json else f"{clip.id}  {describe(clip)}")
    unreviewed = sum(clip.verdict is None for clip in clips)
    _show_note(f"{number_of(len(clips), 'clip')}, {unreviewed} of them not reviewed")


def mark_all(root: Path, marks: Sequence[str]) -> None:
    """`tagger review DIR --mark CLIP=VERDICT ...`: writes all verdicts, or none if one cannot be used.

    Raises:
        UserError: a mark is not of that form. Or as `mark`.
    """
    given: dict[str, str] = {}
    for text in marks:
        name, equals, verdict = text.rpartition("=")
        if not (equals and name.strip() and verdict.strip()):
            raise UserError(f"--mark {text}: must be CLIP=right, CLIP=wrong, CLIP=LABEL or CLIP={UNDO}")
        given[name.strip()] = verdict.strip()
    for clip in mark(root, given, _show_note):
        echo(f"{clip.id}  {describe(clip)}")


def ask(root: Path, answer: Ask | None = None, play: Play = play_aloud, say: Say = echo) -> None:
    """`tagger review DIR`: plays each clip without a verdict, and asks for one.

    Each answer is written at once. Ctrl-C and the end of the input quit.

    Raises:
        UserError: as `load`.
    """
    answer = answer or _prompt
    waiting = [clip for clip in load(root, say) if clip.verdict is None]
    reviewed = 0
    try:
        for number, clip in enumerate(waiting, 1):
            say(f"{number} of {len(waiting)}: {describe(clip)}")
            play = _played(root / clip.file, play, say)
            reviewed += _is_answered(root, clip, answer, play, say)
    except click.Abort:
        say("")
    remaining = len(waiting) - reviewed
    say(f"{reviewed} reviewed, {remaining} left" if waiting else "nothing to review: each clip was")
    if reviewed or not waiting:
        say(f"to learn from them: {train_line(root)}")


def _is_answered(root: Path, clip: SavedClip, answer: Ask, play: Play, say: Say) -> bool:
    """Asks what a clip is until there is a verdict, and writes it down.

    Returns:
        Whether there is one: False where the clip was skipped, or deleted meanwhile.

    Raises:
        click.Abort: the person quits.
    """
    while (root / clip.file).is_file():
        choice, _, rest = answer(_CHOICES).strip().partition(" ")
        if choice == "p":
            play = _played(root / clip.file, play, say)
        elif choice == "q":
            raise click.Abort
        elif choice == "s":
            return False
        elif choice and choice not in ("r", "w", "o"):
            for line in _HELP:
                say(line)
        elif verdict := _ask_verdict(choice, rest, answer):
            try:
                (marked,) = mark(root, {clip.id: verdict})
            except UserError as error:
                say(str(error))
                continue
            say(f"  {_verdict_text(marked)}")
            return True
    say(f"{clip.file}: was deleted meanwhile; left out")
    return False


def describe(clip: SavedClip) -> str:
    """One line: onset in local time, label, peak score, seconds, verdict."""
    clock = datetime.fromtimestamp(clip.onset).strftime("%Y-%m-%d %H:%M:%S")
    lasted = clip.offset - clip.onset
    return f"{clock}  {clip.label:<16} score {clip.peak_score:.2f}  {lasted:5.1f} s  {_verdict_text(clip)}"


def _verdict_text(clip: SavedClip) -> str:
    return f"other: {clip.given_label}" if clip.verdict == "other" else clip.verdict or "not reviewed"


def _show_note(line: str) -> None:
    echo(line, err=True)


def _prompt(question: str) -> str:
    text: str = click.prompt(question, default="", show_default=False)
    return text


def _ask_verdict(choice: str, rest: str, answer: Ask) -> str:
    """A verdict for `mark`. Empty: no verdict yet."""
    if choice == "o":
        return rest.strip() or answer("what is it? (a label; nothing: ask again)").strip()
    return {"r": "right", "w": "wrong"}.get(choice, "")


def _played(path: Path, play: Play, say: Say) -> Play:
    """Plays a clip. Returns `play` for the next one, or what names its file where there is no loudspeaker."""
    try:
        play(path)
    except KeyboardInterrupt:  # the person has heard enough
        say("")
    except AudioError as error:
        say(str(error))
    except UserError as error:
        say(f"not played: {error}; copy the folder to a machine that has one, or listen to the files in another way")
        say(f"  {path}")
        return lambda other: say(f"  {other}")
    return play
