"""How long a dead process waits for its next life, and when it gets none."""

import pytest

from jobsite.children import Restarts, Timing

PATIENT = Timing(deaths=1000)


def waits(timing, deaths):
    """The waits after deaths given as pairs (started, died)."""
    rule = Restarts(timing)
    return [rule.after_death(started=started, now=died) for started, died in deaths]


def test_waits_double_from_one_second_to_thirty():
    deaths = [(second, second) for second in range(8)]
    assert waits(PATIENT, deaths) == [1, 2, 4, 8, 16, 30, 30, 30]


def test_the_fifth_death_in_a_minute_is_the_last():
    deaths = [(0, 0), (1, 1), (3, 3), (7, 7), (15, 15)]
    assert waits(Timing(), deaths) == [1, 2, 4, 8, None]


def test_five_deaths_spread_over_more_than_a_minute_are_no_end():
    deaths = [(0, 14), (15, 29), (31, 45), (49, 63), (71, 85)]
    assert waits(Timing(), deaths) == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(("lived", "wait"), [(59.9, 2), (60, 1)])
def test_a_life_of_a_minute_makes_the_waits_short_again(lived, wait):
    assert waits(Timing(), [(0, 0), (100, 100 + lived)]) == [1, wait]
