"""Requests over a real socket: whole in, whole out, and everything given back."""

import socket
import sys
import threading
from pathlib import Path

import httpx
import pytest
from django.db import connection
from django.http import FileResponse, HttpResponse
from django.test import override_settings
from django.urls import include, path

from jobsite.handler import THREADS
from tests.rollouts.servers import running_server
from tests.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]

gate = threading.Event()
waiting = threading.Semaphore(0)


def echo(request):
    """Answer with the body, and with who asks the database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return HttpResponse(request.body, headers={"X-Thread": threading.current_thread().name})


def breaks(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 / 0")


def large(request):
    return HttpResponse(b"x" * 20_000_000)


def file(request):
    content = Path(__file__).open("rb")  # noqa: SIM115 - the answer closes it
    answer = FileResponse(content, headers={"X-Kind": "file"})
    answer.set_cookie("taste", "sweet")
    return answer


def waits(request):
    waiting.release()
    assert gate.wait(30)
    return HttpResponse("done")


def public(view):
    view.login_required = False
    view.csrf_exempt = True
    return view


urlpatterns = [
    *(path(view.__name__, public(view)) for view in (echo, breaks, large, file, waits)),
    path("", include("jobsite.urls")),
]


@pytest.fixture
def server():
    with override_settings(ROOT_URLCONF=__name__), running_server(lifespan="off") as running:
        yield running


def test_a_body_in_parts_is_read_whole(server):
    parts = (b"%d;" % number for number in range(1000))
    answer = httpx.post(f"{server.http}/echo", content=parts)
    assert answer.content == b"".join(b"%d;" % number for number in range(1000))


def test_a_file_comes_whole_with_all_that_is_said_of_it(server):
    answer = httpx.get(f"{server.http}/file")
    assert answer.content == Path(__file__).read_bytes()
    assert answer.headers["X-Kind"] == "file"
    assert answer.cookies["taste"] == "sweet"


def test_a_client_that_goes_away_while_it_asks_is_no_harm(server):
    host, port = server.http.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\nhalf")
    assert httpx.post(f"{server.http}/echo", content=b"whole").content == b"whole"


def test_no_connection_of_the_database_is_kept_after_an_answer(server):
    def taken():
        stats = connection.pool.get_stats()
        return stats["pool_size"] - stats["pool_available"]

    connection.ensure_connection()
    before = taken()
    with httpx.Client(base_url=server.http) as client:
        for name, status in (("echo", 200), ("breaks", 500), ("nothing", 404)) * 3:
            assert client.get(f"/{name}").status_code == status
            assert taken() == before


def test_who_reads_slowly_holds_no_thread(server):
    host, port = server.http.removeprefix("http://").split(":")
    clients = [socket.create_connection((host, int(port))) for _ in range(THREADS + 2)]
    try:
        for client in clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(b"GET /large HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert client.recv(10) == b"HTTP/1.1 2", "no answer"
        assert httpx.get(f"{server.http}/echo", timeout=60).status_code == 200
    finally:
        for client in clients:
            client.close()


def test_as_many_are_answered_at_a_time_as_there_are_threads(server):
    gate.clear()
    answers = []

    def ask():
        answers.append(httpx.get(f"{server.http}/waits", timeout=60).text)

    askers = [threading.Thread(target=ask) for _ in range(THREADS)]
    for asker in askers:
        asker.start()
    try:
        for _ in askers:
            assert waiting.acquire(timeout=30)
    finally:
        gate.set()
    wait_until(lambda: answers == ["done"] * THREADS, 30)


def test_threads_of_a_web_take_turns_often():
    """A decision beside busy threads would wait for each of its questions (ADR 0018)."""
    import jobsite.asgi

    assert jobsite.asgi.SWITCH_INTERVAL <= 0.001
    assert sys.getswitchinterval() == pytest.approx(jobsite.asgi.SWITCH_INTERVAL)
