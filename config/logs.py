"""Formats log records as text, so that no content of a record can look like another line."""

import logging
from typing import Any

_BREAKS = [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029]
_ESCAPES = {code: f"\\u{code:04x}" for code in _BREAKS}


class LineFormatter(logging.Formatter):
    """Writes one line per record with control characters escaped, followed by the indented traceback, if any."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return super().formatMessage(record).translate(_ESCAPES)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        lines = super().formatException(ei).splitlines()
        return "\n".join(f"    {line.translate(_ESCAPES)}" for line in lines)
