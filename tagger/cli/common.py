"""Options that several commands have in common."""

import click

from tagger import settings

model_option = click.option(
    "--model", "-m", default=settings.DEFAULT_MODEL, show_default=True, help="A name from `tagger models`, or a path."
)
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
window_option = click.option("--window", type=float, metavar="S", help="Window, seconds. [default: the model's own]")
hop_option = click.option(
    "--hop", type=float, metavar="S", default=1.0, show_default=True, help="Between windows, seconds."
)
