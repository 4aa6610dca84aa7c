"""A small site around the real templates and static files: no database, pushes on demand."""

import asyncio
import mimetypes
import socket
import threading
import types
from datetime import timedelta

import uvicorn
from django.conf import settings
from django.template import engines
from django.test import override_settings
from django.urls import include, path
from django.utils import timezone

NONCE = "c2hlbGw"
POLICY = (
    f"default-src 'none'; script-src 'self' 'nonce-{NONCE}'; style-src 'self' 'nonce-{NONCE}'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)


def _nothing(request):
    raise AssertionError("addresses of the shell are only reversed here")


def _app(name, **routes):
    return include(([path(f"{key}/", _nothing, name=key) for key in routes.values()], name))


urlpatterns = [
    path("", _nothing, name="dashboard"),
    path("readyz", _nothing, name="readyz"),
    path("jobs/", _app("jobs", a="list")),
    path("rollouts/", _app("rollouts", a="list", b="executions")),
    path("nodes/", _app("nodes", a="list")),
    path("access/", _app("access", a="sign-in", b="sign-out", c="tokens")),
    path(
        "live/",
        include(([path("<noun>/<pk>/<name>/", _nothing, name="fragment")], "live")),
    ),
]

BOX = """{# WavesView; live. #}
<section {% live_root "rollout" 7 "waves" revision %}>
  <p id="words">{{ words }}</p>

  <ul class="marks mt-2">
    {% for name in names %}<li><a class="mark is-stable" href="?node={{ name }}" aria-label="{{ name }}, stable"></a></li>{% endfor %}
  </ul>
</section>"""

ROLLOUT = (
    """{% extends "base.html" %}
{% block title %}Rollout{% endblock %}
{% block crumbs %}<li><a href="/">prod</a></li><li><span aria-current="page">Rollout 7</span></li>{% endblock %}
{% block live %}hx-ws:connect="/ws/live/rollout/7/"{% endblock %}
{% block heading %}edge-log-shipper{% endblock %}
{% block heading_extra %}{% state "active" badge=True word="Rolling, wave 2 of 4" %}{% endblock %}
{% block actions %}<button class="btn" type="button">{% icon "i-pause" %}Pause</button>{% include "_disabled.html" with id="promote" verb="Promote" reason="Nothing waits." glyph="i-promote" %}{% endblock %}
{% block content %}
{% include "_alert.html" with tone="warn" glyph="g-warn" strong="2 nodes failed in wave 2." text="The rollout goes on." href="?tab=failures" verb="Show the 2 failures" %}
<div class="state-list mt-3">{% for kind in kinds %}<span>{% state kind %}</span>{% endfor %}</div>
<p class="mt-2">{% time_ago then %}, {% time_until later %}, {% time_of_day then %}, {% duration length %}</p>
<div class="mt-2">{% bar segments total=82 %}</div>
<div class="mt-2">{% spark windows limit=0.05 label="Error rate of 6 windows" %}</div>
<p class="mt-2">{% label "region" "fra" %} {% label "site" "fra-2" operator=True %} {% copy "job-2f61c0" what="job id" %}</p>
<input class="input" id="reason" aria-label="Reason">
"""
    + BOX
    + """
{% include "_confirm.html" with question="Abort r-0418?" consequence="71 nodes keep v8." action="/" verb="Abort rollout" keep="Keep rolling" back="/" %}
{% include "_empty.html" with title="No jobs in staging yet" text="Start with an example." command="manage.py seed_demo" %}
{% endblock %}"""
)

EDITOR = """{% extends "base.html" %}
{% load static %}
{% block title %}Edit{% endblock %}
{% block heading %}edge-metrics{% endblock %}
{% block content %}
<form class="job-editor grow" method="post" action="/save" id="job-form" hx-post="/plan" hx-trigger="plan" hx-target="#job-plan" hx-swap="innerHTML" hx-sync="this:replace">
  <div class="job-text">
    <textarea name="spec" data-editor="yaml" data-schema="/schema" aria-label="Job spec">{{ spec }}</textarea>
    <p class="editor-foot"><span><kbd>F8</kbd> next problem</span></p>
  </div>
  <aside class="plan" aria-label="Plan"><div class="plan-scroll" id="job-plan"></div>
    <div class="plan-foot"><button class="btn is-primary is-wide" type="submit" aria-keyshortcuts="Control+Shift+Enter">Start</button></div>
  </aside>
</form>
{% endblock %}
{% block scripts %}
<script src="{% static 'vendor/codemirror.js' %}" defer></script>
<script src="{% static 'editor.js' %}" defer nonce="{{ request.csp_nonce }}"></script>
{% endblock %}"""

LIST = """{% extends "base.html" %}
{% block content %}
<form method="get" action="/list" hx-get="/list" hx-trigger="submit, input delay:300ms" hx-select="#rows" hx-target="#rows" hx-swap="outerMorph" hx-push-url="true">
  <input class="input" type="search" name="q" aria-label="Filter">
</form>
<p id="rows">rows for {{ q }}</p>
{% endblock %}"""

SCHEMA = (
    '{"properties": {"rollout": {"anyOf": [{"$ref": "#/$defs/Rollout"}, {"type": "null"}]}}, '
    '"$defs": {"Rollout": {"properties": {"canary_percent": {"type": "number"}, '
    '"max_failed_nodes": {"type": "integer"}}}}}'
)
PROBLEM = '<p class="problem is-bad" data-problem-line="2" data-problem-level="bad"><a href="#L2">Line 2</a> {}</p>'


class ShellSite:
    """Serves the pages and counts what the browser asks for."""

    def __init__(self):
        self.revision, self.words = 1, "first words"
        self.sockets: list[asyncio.Queue] = []
        self.polls: list[str] = []
        self.plans: list[str] = []
        self.is_refusing = False
        self.query = ""
        self.loop: asyncio.AbstractEventLoop | None = None
        self.url = ""

    def context(self):
        now = timezone.now()
        return {
            "user": types.SimpleNamespace(
                get_username="ana", get_full_name="Ana Kovač", is_staff=False
            ),
            "request": types.SimpleNamespace(csp_nonce=NONCE, path="/", resolver_match=None),
            "namespaces": ["prod", "staging"],
            "current_namespace": "prod",
            "nav": {"job_count": 412, "node_count": 1284, "attention_count": 2},
            "csrf_token": "token-of-the-page",
            "kinds": ["running", "deploying", "awaiting_promotion", "degraded", "failed", "lost"],
            "then": now - timedelta(seconds=100),
            "later": now + timedelta(seconds=108),
            "length": timedelta(seconds=189),
            "segments": [("stable", 58), ("validating", 15), ("starting", 5), ("failed", 2)],
            "windows": [0.01, 0.02, None, 0.07, 0.03, 0.01],
            "names": [f"gw-fra-{number:03}" for number in range(120)],
            "spec": "name: edge\ntype: pipeline\nrollout:\n  strategy: canary\n  \n",
            "q": self.query,
            "revision": self.revision,
            "words": self.words,
        }

    def render(self, source):
        with override_settings(
            ROOT_URLCONF="tests.live.shell_site",
            STORAGES={
                **settings.STORAGES,
                "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
            },
        ):
            return engines["django"].from_string(source).render(self.context())

    def push(self, words, revision):
        """Send the box to every open page, as the consumer does."""
        self.words, self.revision = words, revision
        message = (
            '<hx-partial hx-target="#rollout-7-waves" hx-swap="outerMorph">'
            f"{self.render(BOX)}</hx-partial>"
        )
        for queue in list(self.sockets):
            self.loop.call_soon_threadsafe(queue.put_nowait, message)

    def cut(self, *, refuse):
        """End every socket; refuse new ones or not."""
        self.is_refusing = refuse
        for queue in list(self.sockets):
            self.loop.call_soon_threadsafe(queue.put_nowait, None)

    async def __call__(self, scope, receive, send):
        if scope["type"] == "websocket":
            await self._socket(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _socket(self, receive, send):
        await receive()
        if self.is_refusing:
            await send({"type": "websocket.close", "code": 4000})
            return
        await send({"type": "websocket.accept"})
        queue: asyncio.Queue = asyncio.Queue()
        self.sockets.append(queue)
        while (message := await queue.get()) is not None:
            await send({"type": "websocket.send", "text": message})
        self.sockets.remove(queue)
        await send({"type": "websocket.close", "code": 1012})

    async def _answer(self, scope, receive, send):
        body = b""
        while (part := await receive()).get("more_body"):
            body += part["body"]
        status, kind, content = self._content(scope, body + part.get("body", b""))
        headers = [
            (b"content-type", kind.encode()),
            (b"content-security-policy", POLICY.encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _content(self, scope, body):
        address = scope["path"]
        if address.startswith("/static/"):
            file = settings.BASE_DIR / "static" / address.removeprefix("/static/")
            return 200, mimetypes.guess_type(file.name)[0] or "text/plain", file.read_bytes()
        if address.startswith("/live/"):
            self.polls.append(address)
            return 200, "text/html; charset=utf-8", self.render(BOX).encode()
        if address == "/schema":
            return 200, "application/json", SCHEMA.encode()
        if address == "/plan":
            headers = dict(scope["headers"])
            self.plans.append(f"{headers[b'x-csrftoken'].decode()} {body.decode()}")
            return 200, "text/html; charset=utf-8", PROBLEM.format("type is unknown").encode()
        self.query = scope["query_string"].decode().removeprefix("q=")
        page = {"/": ROLLOUT, "/edit": EDITOR, "/list": LIST}.get(
            address, '{% include "404.html" %}'
        )
        return 200, "text/html; charset=utf-8", self.render(page).encode()

    def serve(self):
        """Listen on a free port of the loop-back address, in a thread of its own."""
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(self, lifespan="off", log_level="error"))

        async def main():
            self.loop = asyncio.get_running_loop()
            await server.serve(sockets=[listener])

        thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
        thread.start()
        return server, thread
