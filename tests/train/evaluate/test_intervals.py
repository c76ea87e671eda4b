"""Right values: scipy's `beta.ppf`, `chi2.ppf`."""

import pytest

from train.evaluate.intervals import of_f1, of_rate, of_share


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [
        (5, 5, 0.4782, 1.0),
        (0, 5, 0.0, 0.5218),
        (3, 5, 0.1466, 0.9473),
        (9, 10, 0.5550, 0.9975),
        (1, 1, 0.025, 1.0),
        (1800, 2000, 0.8860, 0.9128),
    ],
)
def test_a_share_has_clopper_and_pearsons_interval(count, of, low, high):
    assert of_share(count, of) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(
    ("count", "hours", "low", "high"),
    [(0, 1.0, 0.0, 3.6889), (10, 2.0, 2.3977, 9.1952), (28, 5.04, 3.6916, 8.0293), (500, 1.0, 457.13, 545.83)],
)
def test_a_rate_has_garwoods_interval(count, hours, low, high):
    assert of_rate(count, hours) == pytest.approx((low, high), rel=1e-3, abs=1e-6)


def test_f1_of_few_sounds_has_a_wide_interval_and_of_many_a_narrow_one():
    few, many = of_f1(8, 10, 10), of_f1(800, 1000, 1000)
    assert few[0] < 0.8 < few[1]
    assert many == pytest.approx((0.78, 0.82), abs=0.01)
    assert few[1] - few[0] > 0.25
    assert of_f1(5, 5, 5)[0] < 0.75, "five of five does not prove that none is ever missed"


@pytest.mark.parametrize("call", [lambda: of_share(1, 0), lambda: of_share(3, 2), lambda: of_rate(1, 0.0)])
def test_what_cannot_be_counted(call):
    with pytest.raises(ValueError, match="is no"):
        call()
