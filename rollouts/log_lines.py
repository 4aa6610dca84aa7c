"""Log lines as a page shows them: control sequences of terminals taken out, levels told apart."""

import re
from dataclasses import dataclass
from datetime import datetime

# One line of a log may be a megabyte; a page needs its beginning.
LINE_MAX = 4000

# CSI and OSC sequences, two-character escapes, and every other control character but the tab.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
_LEVEL = re.compile(
    r"""(?ix) (?: \blevel["']?\s*[=:]\s*["']? | ^[^a-z]{0,40} \b )
    (fatal|panic|critical|error|err|warning|warn|debug|trace) \b"""
)
_CSS = {"warning": "lv-warn", "warn": "lv-warn", "debug": "lv-dim", "trace": "lv-dim"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line as it is shown: no control sequences; the browser escapes nothing twice."""

    number: int
    at: datetime
    stream: str
    text: str
    css: str
    # The text in pieces, each with whether it is what was searched for; empty without a search.
    parts: tuple[tuple[str, bool], ...] = ()


def plain_lines(text: str) -> list[str]:
    r"""Return the lines of a chunk without colours and control characters.

    >>> plain_lines("\x1b[31mred\x1b[0m\nnext\r")
    ['red', 'next']
    """
    return [_ESCAPES.sub("", line) for line in text.split("\n")]


def level_css(line: str) -> str:
    """Return the class of a line's level, "" for an ordinary one.

    >>> level_css('level=error msg="no space left"')
    'lv-err'
    """
    found = _LEVEL.search(line[:200])
    return _CSS.get(found[1].lower(), "lv-err") if found else ""
