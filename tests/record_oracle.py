"""Separated text read character by character, as RFC 4180 has it: what the compiled reader must equal."""

from __future__ import annotations


def records_of(
    content: bytes, separator: bytes, line_end: bytes, record_max: int, search: int
) -> list[bytes]:
    """The records without their line ends."""
    found, begin = [], 0
    while begin < len(content):
        end = _record_end(content, begin, separator, line_end, record_max, search)
        found.append(content[begin:end])
        begin = end + 1
    return found


def _record_end(
    content: bytes, begin: int, separator: bytes, line_end: bytes, record_max: int, search: int
) -> int:
    """Where the record that begins at `begin` ends: a line end or the end of the content without a line end."""
    breaks: list[int] = []  # line ends in an open quote
    where = "field begins"
    for at in range(begin, len(content)):
        if where == "in quotes" and at - begin > search and breaks:
            return _cut(breaks, begin, record_max)
        byte = content[at : at + 1]
        if byte == line_end and where != "in quotes":
            return at
        if byte == line_end:
            breaks.append(at)
        where = "too far" if at - begin > search else _next(where, byte, separator)
    if where == "in quotes" and breaks and len(content) - begin > record_max:
        return _cut(breaks, begin, record_max)
    return len(content) - content.endswith(line_end)


def _cut(breaks: list[int], begin: int, record_max: int) -> int:
    """Where a record ends whose quote is never closed."""
    near = [at for at in breaks if at - begin <= record_max]
    return near[-1] if near else breaks[0]


def _next(where: str, byte: bytes, separator: bytes) -> str:
    if where in ("in quotes", "too far"):
        return "behind a quote" if byte == b'"' and where == "in quotes" else where
    if byte == separator:
        return "field begins"
    if byte == b'"' and where in ("field begins", "behind a quote"):
        return "in quotes"
    if where == "field begins":
        return where if byte in (b" ", b"\t") else "plain"
    if where in ("behind a quote", "quotes closed") and byte in (b" ", b"\t", b"\r", b"\n"):
        return "quotes closed"
    return "plain"


def fields_of(record: bytes, separator: bytes) -> list[bytes] | None:
    """The fields of a record without blanks and quotes; None where a quote in it is wrong."""
    fields: list[bytes] = []
    rest = record.removesuffix(b"\n").removesuffix(b"\r")
    while True:
        text = rest.lstrip(b" \t" if separator != b"\t" else b" ")
        if text.startswith(b'"'):
            inside, behind = _quoted(text[1:])
            blanks = b" \r" if separator == b"\t" else b" \t\r"
            behind = None if behind is None else behind.lstrip(blanks)
            if behind is None or (behind and not behind.startswith(separator)):
                return None
            fields.append(inside.strip(b" \t" if separator != b"\t" else b" "))
        else:
            plain, found, more = text.partition(separator)
            fields.append(plain.strip(b" \t" if separator != b"\t" else b" "))
            behind = found + more
        if not behind:
            return fields
        rest = behind[1:]


def _quoted(text: bytes) -> tuple[bytes, bytes | None]:
    """The text up to the closing quote, and the text after it; None without a closing quote."""
    inside = b""
    while True:
        before, quote, text = text.partition(b'"')
        if not quote:
            return inside + before, None
        if not text.startswith(b'"'):
            return inside + before, text
        inside, text = inside + before + b'"', text[1:]
