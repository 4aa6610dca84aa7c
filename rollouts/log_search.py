"""A log that is searched, and one that is taken home whole: lines by a text, and all of them."""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from channels.db import database_sync_to_async
from django.db.models import Max

from rollouts.log_lines import LINE_MAX, LogLine, level_css, plain_lines
from rollouts.models import LogChunk
from rollouts.sets import fetch

# A search looks at so many of the newest chunks, and shows so many lines.
MOST_CHUNKS = 20_000
MOST_FOUND = 500
# Bytes of chunks that one answer is made from.
MOST_READ = 16 * 1024 * 1024
MOST_TEXT = 200
# A download ends here, and says so; REST gives the rest.
MOST_BYTES = 64 * 1024 * 1024
_PAGE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The lines of a log that hold a text; the newest ones when there are too many."""

    text: str
    lines: tuple[LogLine, ...]
    has_more: bool
    # How many lines the log has, and whether all of them were looked at.
    total: int
    is_whole: bool


def search_log(execution_id: UUID, text: str) -> Found:
    """Return the lines that hold a text, whatever the case of its letters; two queries.

    Lines keep the numbers that they have in the whole log. A chunk that was cut in the middle of
    a colour is found by its plain text only.
    """
    wanted = wanted_text(text)
    ((total, chunks),) = fetch(
        "SELECT coalesce(sum(line_count), 0)::bigint, count(*) FROM rollouts_logchunk "
        "WHERE execution_id = %s",
        [execution_id],
    )
    rows = fetch(
        r"""
        SELECT size, behind, stream, lines, at FROM (
            SELECT counted.*, sum(octet_length(lines)) OVER (ORDER BY seq DESC) AS size FROM (
                SELECT newest.*, sum(line_count) OVER (ORDER BY seq DESC) AS behind FROM (
                    SELECT seq, stream, lines, line_count, at FROM rollouts_logchunk
                    WHERE execution_id = %s ORDER BY seq DESC LIMIT %s
                ) newest
            ) counted WHERE lower(lines) LIKE lower(%s)
        ) sized WHERE size - octet_length(lines) < %s ORDER BY seq DESC LIMIT %s
        """,
        [execution_id, MOST_CHUNKS, f"%{_escaped(wanted)}%", MOST_READ, MOST_FOUND + 1],
    )
    pattern = re.compile(re.escape(wanted), re.IGNORECASE)
    hits = [
        line
        for _, behind, stream, lines, at in reversed(rows)
        for line in _hits(pattern, int(total - behind) + 1, stream, lines, at)
    ]
    return Found(
        text=wanted,
        lines=tuple(hits[-MOST_FOUND:]),
        has_more=len(hits) > MOST_FOUND or (bool(rows) and rows[-1][0] >= MOST_READ),
        total=total,
        is_whole=chunks <= MOST_CHUNKS,
    )


def wanted_text(text: str) -> str:
    """Return what is searched for: the text without space around it, and not endlessly long."""
    return text.strip()[:MOST_TEXT]


def _escaped(text: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", text)


def _hits(
    pattern: re.Pattern[str], first: int, stream: str, lines: str, at: datetime
) -> list[LogLine]:
    return [
        LogLine(
            number=number,
            at=at,
            stream=stream,
            text=line[:LINE_MAX],
            css=level_css(line),
            parts=_parts(pattern, line),
        )
        for number, line in enumerate(plain_lines(lines), start=first)
        if pattern.search(line)
    ]


def _parts(pattern: re.Pattern[str], line: str) -> tuple[tuple[str, bool], ...]:
    """Cut a line into what is found and what stands around it; a long one from its first find on."""
    first = pattern.search(line)
    begin = first.start() if first and first.end() > LINE_MAX else 0
    shown, parts, at = line[begin : begin + LINE_MAX], [], 0
    for hit in pattern.finditer(shown):
        parts += [(shown[at : hit.start()], False), (hit[0], True)]
        at = hit.end()
    return tuple(part for part in (*parts, (shown[at:], False)) if part[0])


# --- The whole log -------------------------------------------------------------------------------


async def whole_log(execution_id: UUID) -> AsyncIterator[str]:
    """Give a log from its beginning, some chunks at a time, each line with its time and stream.

    What is written while it is read is left out, so that it ends.
    """
    newest = await database_sync_to_async(_newest)(execution_id)
    read = database_sync_to_async(_page)
    after, given = -1, 0
    while chunks := await read(execution_id, after, newest):
        for chunk in chunks:
            text = _as_text(chunk)
            given += len(text.encode())
            if given > MOST_BYTES:
                yield f"-- cut after {MOST_BYTES >> 20} MiB; the REST interface gives the rest\n"
                return
            yield text
        after = chunks[-1].seq


def _newest(execution_id: UUID) -> int:
    chunks = LogChunk.objects.filter(execution=execution_id)
    return chunks.aggregate(newest=Max("seq"))["newest"] or 0


def _page(execution_id: UUID, after: int, until: int) -> Sequence[LogChunk]:
    chunks = LogChunk.objects.filter(execution=execution_id, seq__gt=after, seq__lte=until)
    return list(chunks.order_by("seq")[:_PAGE])


def _as_text(chunk: LogChunk) -> str:
    lead = f"{chunk.at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + f"Z {chunk.stream} "
    return "".join(f"{lead}{line}\n" for line in plain_lines(chunk.lines))
