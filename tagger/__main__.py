"""`python -m tagger`."""

from tagger.cli import main

main(prog_name="tagger")
