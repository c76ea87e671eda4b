"""A process that answers requests."""

import sys

import pytest

from tagger.bench.child import Child
from tagger.errors import TaggerError, UserError

PROGRAM = """
import sys
from tagger.bench.child import serve
from tagger.errors import UserError
def handle(request):
    print("a library prints something")
    if request["do"] == "fail":
        raise UserError("no such thing")
    if request["do"] == "die":
        sys.exit("the disk is full")
    return {"twice": 2 * request["value"]}
serve(handle)
"""


def test_a_child_answers_says_its_errors_and_says_why_it_ended():
    with Child([sys.executable, "-c", PROGRAM], {"OMP_NUM_THREADS": "1"}) as child:
        assert child.ask(do="double", value=21) == {"twice": 42}
        with pytest.raises(UserError, match="no such thing"):
            child.ask(do="fail")
        assert child.ask(do="double", value=1) == {"twice": 2}
        with pytest.raises(TaggerError, match="the disk is full"):
            child.ask(do="die")
        with pytest.raises(TaggerError, match="ended"):
            child.ask(do="double", value=1)
    assert child.process.returncode is not None
