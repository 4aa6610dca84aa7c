"""How a service says no: the code that fixes the status, and the words for this case."""

from access.problems import Refused


def test_a_refusal_carries_what_its_caller_shows():
    refusal = Refused("conflict", "Another was first.", hint="Again.", errors=iter([1]),
                      details={"id": 7})  # fmt: skip
    assert (refusal.code, refusal.detail, refusal.hint) == (
        "conflict",
        "Another was first.",
        "Again.",
    )
    assert (refusal.errors, refusal.details) == ((1,), {"id": 7})
    assert str(refusal) == "Another was first."


def test_a_refusal_without_words_is_called_by_its_code():
    assert str(Refused("not_found")) == "not_found"
