"""One JSON object on one line for each log record."""

import json
import logging
from datetime import UTC, datetime


class JsonFormatter(logging.Formatter):
    """Structured lines: time, level, logger, message, and the record's `data` members."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line; control characters are escaped by JSON itself."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "data", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
