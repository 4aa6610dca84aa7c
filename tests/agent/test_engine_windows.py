"""Sums since the start become windows, and a blocked output is unhealthy for as long as it lasts."""

from datetime import timedelta

from agent.engine.windows import Meter, Usage


def sums(arrived, ok, delivered, *, errors=0, waiting=0, output_errors=0, restarts=0):
    return {
        "messages_in": arrived,
        "messages_ok": ok,
        "delivered": delivered,
        "errors": errors,
        "waiting": waiting,
        "output_errors": output_errors,
        "restarts": restarts,
    }


class Windows:
    def __init__(self):
        self.meter = Meter()
        self.meter.start(Usage(1.0, 100))

    def __call__(self, values, usage=None):
        return self.meter.window(values, usage, alive=True, last_error="bad")


def test_each_window_holds_only_its_own_numbers():
    window = Windows()
    first = window(sums(100, 80, 100, errors=20))
    second = window(sums(150, 130, 150, errors=20))
    assert (first.messages_in, first.messages_ok, first.errors) == (100, 80, 20)
    assert first.processor_errors == 20
    assert first.last_error == "bad"
    assert (second.messages_in, second.messages_ok, second.errors) == (50, 50, 0)
    assert second.last_error == ""
    assert second.started_at == first.ended_at


def test_a_blocked_output_counts_in_every_window_that_it_lasts():
    window = Windows()
    assert window(sums(50, 0, 0, waiting=32, output_errors=1)).output_errors == 50
    assert window(sums(50, 0, 0, waiting=32, output_errors=1)).output_errors == 1
    assert window(sums(50, 0, 0, waiting=32, output_errors=1)).errors == 1
    assert window(sums(50, 50, 50, waiting=0, output_errors=1)).errors == 0
    assert window(sums(60, 60, 60, waiting=0, output_errors=1)).errors == 0


def test_one_failed_attempt_that_a_retry_healed_is_one_error():
    window = Windows()
    assert window(sums(50, 50, 50, output_errors=1)).output_errors == 1
    assert window(sums(50, 50, 50, output_errors=1)).output_errors == 0


def test_messages_that_wait_without_an_error_are_no_error():
    assert Windows()(sums(50, 10, 10, waiting=40)).errors == 0


def test_a_number_that_fell_back_is_not_reported_twice():
    window = Windows()
    window(sums(10, 10, 10))
    assert window(sums(12, 8, 8, errors=2)).messages_ok == 0
    assert window(sums(14, 12, 12, errors=2)).messages_ok == 2


def test_cpu_is_in_percent_of_one_core():
    window = Windows()
    window.meter._clock -= 2.0
    found = window(sums(0, 0, 0), Usage(2.0, 4096))
    assert 45 < found.cpu < 51
    assert found.rss == 4096
    assert found.ended_at - found.started_at > timedelta(seconds=1.9)
