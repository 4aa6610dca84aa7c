"""The log of an execution: searched with the text in the address, and downloaded whole."""

import re

import pytest
from django.test import AsyncClient
from django.utils import timezone

from rollouts import log_search
from rollouts.log_search import search_log
from rollouts.models import LogChunk
from tests.live.browsers import in_thread
from tests.rollouts import fleet

HOSTILE = "<script>alert(1)</script>"


def begin():
    fleet.make_nodes(1)
    rollout = fleet.start(fleet.spec_of(strategy="rolling", max_parallel=100))
    return fleet.executions(rollout)[0]


def wrote(one, *chunks):
    """Store chunks of lines, each a list."""
    LogChunk.objects.bulk_create(
        LogChunk(
            execution=one,
            seq=number,
            stream="stderr" if number % 2 else "stdout",
            lines="\n".join(lines),
            line_count=len(lines),
            at=timezone.now(),
        )
        for number, lines in enumerate(chunks, start=1)
    )


def numbers(found):
    return [line.number for line in found.lines]


@pytest.fixture
def one(cast):
    return begin()


def page(client, one, query=""):
    answer = client.get(f"/executions/{one.pk}/{query}")
    assert answer.status_code == 200, answer.status_code
    return answer.content.decode()


# --- Search --------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_search_shows_the_lines_that_hold_a_text_with_their_own_numbers(one, page_as):
    wrote(one, ["a", "X509: bad", "c"], ["d"], ["e x509 and x509"])
    text = page(page_as("vera"), one, "?q=x509")
    assert re.findall(r'id="L(\d+)"', text) == ["2", "5"]
    assert "<mark>X509</mark>: bad" in text
    assert "e <mark>x509</mark> and <mark>x509</mark>" in text
    assert "2 of 5 lines hold “x509”" in text
    assert 'value="x509"' in text
    assert "Not live while it is filtered" in text
    assert f'id="execution-{one.pk}-log"' not in text


@pytest.mark.django_db
@pytest.mark.parametrize("query", ["", "?q=", "?q=%20%20"])
def test_without_a_text_the_log_is_shown_live(one, page_as, query):
    wrote(one, ["a line"])
    text = page(page_as("vera"), one, query)
    assert f'id="execution-{one.pk}-log"' in text
    assert 'role="search"' in text


@pytest.mark.django_db
@pytest.mark.parametrize("text", ["100%", "a_b", "c:\\d", "(x", "[x", "é", "'", '"'])
def test_every_character_stands_for_itself(one, text):
    wrote(one, ["100", "axb", "c:d", "x", "e"], [f"here {text} it is"])
    assert numbers(search_log(one.pk, text)) == [6]


@pytest.mark.django_db
def test_hostile_lines_and_hostile_searches_are_only_text(one, page_as):
    wrote(one, [f"{HOSTILE} \x1b[31mred\x1b[0m <img src=x>"])
    for query in (f"?q={HOSTILE}", "?q=%3Cimg", "?q=red", f"?q={HOSTILE}no"):
        text = page(page_as("vera"), one, query)
        assert "<script>alert" not in text
        assert "<img src=x>" not in text
        assert "\x1b" not in text
    assert "<mark>&lt;img</mark>" in page(page_as("vera"), one, "?q=%3Cimg")


@pytest.mark.django_db
def test_a_search_without_a_find_leads_back_to_all_lines(one, page_as):
    wrote(one, ["a line"])
    text = page(page_as("vera"), one, "?q=nowhere")
    assert "No line matches" in text
    assert f'href="/executions/{one.pk}/"' in text


@pytest.mark.django_db
def test_too_many_finds_are_the_newest_and_say_so(one, page_as):
    wrote(one, *[[f"line {n}" for n in range(300)] for _ in range(3)])
    found = search_log(one.pk, "line")
    assert (len(found.lines), found.has_more) == (log_search.MOST_FOUND, True)
    assert found.lines[-1].number == 900
    assert "the newest 500 of 900 lines" in page(page_as("vera"), one, "?q=line")


@pytest.mark.django_db
def test_what_is_read_for_one_answer_is_bounded(one, monkeypatch):
    monkeypatch.setattr(log_search, "MOST_READ", 1000)
    wrote(one, *[["x" * 400, "find me"] for _ in range(6)])
    found = search_log(one.pk, "find")
    assert found.has_more
    assert numbers(found) == [8, 10, 12]


@pytest.mark.django_db
def test_a_find_far_into_a_long_line_is_shown(one):
    wrote(one, ["x" * 9000 + "needle" + "y" * 9000])
    (line,) = search_log(one.pk, "needle").lines
    assert line.parts[0] == ("needle", True)
    assert sum(len(text) for text, _ in line.parts) == 4000


@pytest.mark.django_db
def test_a_search_takes_as_many_queries_for_a_long_log(one, django_assert_num_queries):
    for count in (2, 200):
        LogChunk.objects.all().delete()
        wrote(one, *[["a line"]] * count)
        with django_assert_num_queries(2):
            search_log(one.pk, "line")


# --- Download ------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_page_leads_to_the_log_as_a_file(one, page_as):
    assert f'href="/executions/{one.pk}/log.txt"' in page(page_as("vera"), one)


def signed_in(person):
    client = AsyncClient()
    client.force_login(person)
    return client


async def body_of(answer):
    return "".join([part.decode() async for part in answer.streaming_content])


@pytest.mark.django_db(transaction=True)
async def test_the_file_holds_every_line_with_time_and_stream(cast, monkeypatch):
    monkeypatch.setattr(log_search, "_PAGE", 2)
    one = await in_thread(begin)()
    await in_thread(wrote)(one, ["first", "\x1b[31msecond"], ["third"], ["fourth"], ["fifth"])
    client = await in_thread(signed_in)(cast.vera)
    answer = await client.get(f"/executions/{one.pk}/log.txt")
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert re.fullmatch(
        r'attachment; filename="execution-\w{8}.log.txt"', answer["Content-Disposition"]
    )
    lines = (await body_of(answer)).splitlines()
    assert [line.split(" ", 2)[1:] for line in lines] == [
        ["stderr", "first"],
        ["stderr", "second"],
        ["stdout", "third"],
        ["stderr", "fourth"],
        ["stdout", "fifth"],
    ]
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ", lines[0])


@pytest.mark.django_db(transaction=True)
async def test_a_file_that_would_be_too_long_ends_and_says_so(cast, monkeypatch):
    monkeypatch.setattr(log_search, "MOST_BYTES", 2 << 20)
    one = await in_thread(begin)()
    await in_thread(wrote)(one, *[["x" * (1 << 19)]] * 6)
    client = await in_thread(signed_in)(cast.vera)
    text = await body_of(await client.get(f"/executions/{one.pk}/log.txt"))
    assert len(text) < 2 << 20
    assert text.endswith("-- cut after 2 MiB; the REST interface gives the rest\n")


@pytest.mark.django_db
def test_the_file_is_for_those_who_may_read_the_execution(one, page_as):
    for name, status in (("nils", 404), (None, 302)):
        assert page_as(name).get(f"/executions/{one.pk}/log.txt").status_code == status
    assert page_as("vera").post(f"/executions/{one.pk}/log.txt").status_code == 405
