"""`python -m tagger`."""

from tagger.cli.main import main

main(prog_name="tagger")
