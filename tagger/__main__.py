"""The command `tagger`, also as `python -m tagger`."""

import signal


def run() -> None:
    """Imports the commands, then runs what was asked for.

    The import takes a second on a small machine. Meanwhile Ctrl-C ends the process without a traceback.
    """
    handler = signal.getsignal(signal.SIGINT)
    is_usual = handler is signal.default_int_handler  # in the background of a script it is ignored
    if is_usual:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from tagger.cli.main import main

    if is_usual:
        signal.signal(signal.SIGINT, handler)
    main(prog_name="tagger")


if __name__ == "__main__":
    run()
