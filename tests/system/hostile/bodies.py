"""Bodies that are no JSON object in UTF-8, or that are made to cost more than they are worth."""

import gzip
import zlib

from tests.system.hostile.requests import body, reversal

GOOD = body()
LARGEST = 64 * 1024


def nested(depth: int, opening: str, closing: str) -> bytes:
    """The good body with a member that is not known, in all so deep."""
    return body(more=f',"note":{opening * (depth - 1)}{closing * (depth - 1)}')


REFUSED = {
    "empty": b"",
    "white space only": b" \r\n\t",
    "a byte order mark before it": b"\xef\xbb\xbf" + GOOD,
    "UTF-16": GOOD.decode().encode("utf-16"),
    "UTF-16 without a byte order mark": GOOD.decode().encode("utf-16-le"),
    "UTF-32": GOOD.decode().encode("utf-32"),
    "UTF-7": b"+AHs-" + GOOD[1:],
    "EBCDIC": GOOD.decode().encode("cp500"),
    "Latin-1": body(redemption='"é"').decode().encode("latin-1"),
    "a byte that begins nothing": body(redemption='"?"').replace(b"?", b"\x80"),
    "a slash in two bytes": body(redemption='"?"').replace(b"?", b"\xc0\xaf"),
    "half a surrogate pair in three bytes": body(redemption='"?"').replace(b"?", b"\xed\xa0\x80"),
    "a character beyond Unicode": body(redemption='"?"').replace(b"?", b"\xf4\x90\x80\x80"),
    "a character that is cut off": GOOD + b"\xf0\x9f\x92",
    "a NUL before it": b"\0" + GOOD,
    "a NUL after it": GOOD + b"\0",
    "a NUL in a string": body(redemption='"R\0"'),
    "a tab in a string": body(redemption='"R\t"'),
    "a line break in a string": body(redemption='"R\n"'),
    "an unknown escape": body(redemption='"\\x41"'),
    "an escape that is cut off": body(redemption='"\\u004"'),
    "an escape with a sign": body(redemption='"\\u+041"'),
    "a vertical tab for white space": b"\x0b" + GOOD,
    "a no-break space for white space": "\u00a0".encode() + GOOD,
    "a line separator for white space": "\u2028".encode() + GOOD,
    "something after it": GOOD + b"x",
    "another object after it": GOOD + GOOD,
    "a semicolon after it": GOOD + b";",
    "the last byte missing": GOOD[:-1],
    "one bracket too many": GOOD + b"}",
    "a comma after the last member": GOOD[:-1] + b",}",
    "a comment": b"/* hello */" + GOOD,
    "a comment to the end of the line": GOOD + b"// hello",
    "single quotes": GOOD.replace(b'"', b"'"),
    "keys without quotes": GOOD.replace(b'"identifier"', b"identifier"),
    "a key that is a number": b"{1:2}",
    "a function call round it": b"reverse(" + GOOD + b")",
    "an unreadable prefix against hijacking": b")]}',\n" + GOOD,
    "an array round it": b"[" + GOOD + b"]",
    "a string round it": b'"' + GOOD.replace(b'"', b'\\"') + b'"',
    "a number": b"1",
    "a string": b'"text"',
    "null": b"null",
    "a form": b"redemptionId=R41453239231&identifier=1",
    "XML with an entity of a file": b'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY f SYSTEM "file:///etc/passwd">]><r>&f;</r>',
    "YAML": b"redemptionId: R41453239231",
    "a pickle": b"cos\nsystem\n(S'id'\ntR.",
    "arrays 17 deep": nested(17, "[", "]"),
    "objects 17 deep": body(more=',"note":' + '{"a":' * 15 + "{}" + "}" * 15 + "}"),
    "60,000 opening brackets": b"[" * 60_000,
    "10,000 objects that never end": b'{"a":' * 10_000,
    "60,000 quotes": b"{" + b'"' * 60_000,
    "60,000 backslashes in a string that never ends": b'{"' + b"\\" * 60_000,
    "60,000 minus signs": b'{"a":' + b"-" * 60_000,
    "gzip": gzip.compress(GOOD, mtime=0),
}
ACCEPTED = {
    "white space round it": b" \r\n\t" + GOOD + b" \r\n\t",
    "arrays 16 deep": nested(16, "[", "]"),
    "10,000 brackets in a string": body(more=',"note":"' + "[{" * 10_000 + '"'),
    "15,000 empty arrays side by side": body(more=',"note":[' + ",".join(["[]"] * 15_000) + "]"),
    "10,000 escapes in a string": body(more=',"note":"' + "\\u0041" * 10_000 + '"'),
    "20,000 escaped quotes in a string": body(more=',"note":"' + '\\"' * 20_000 + '"'),
    "just as large as is allowed": GOOD.ljust(LARGEST),
}
TOO_LARGE = {
    "a byte larger than is allowed": GOOD.ljust(LARGEST + 1),
    "10 MB of white space after it": GOOD.ljust(10_000_000),
    "10 MB of opening brackets": b"[" * 10_000_000,
    "a million duplicate keys": b'{"a":1' + b',"a":1' * 1_000_000 + b"}",
}
COMPRESSED = {
    "gzip": gzip.compress(GOOD, mtime=0),
    "deflate": zlib.compress(GOOD),
    "gzip, gzip": gzip.compress(gzip.compress(b" " * 10_000_000, mtime=0), mtime=0),
}

BODIES = [
    *(reversal(f"body: {name}", sent) for name, sent in REFUSED.items()),
    *(reversal(f"body: {name}", sent, 200, None) for name, sent in ACCEPTED.items()),
    *(reversal(f"body: {name}", sent, 413, 413) for name, sent in TOO_LARGE.items()),
    *(
        reversal(f"body: {coding} that is said to be so", sent).with_header("Content-Encoding", coding)
        for coding, sent in COMPRESSED.items()
    ),
]
