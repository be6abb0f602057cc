"""Bodies that are not a JSON object in UTF-8, or that are expensive to parse."""

import gzip
import zlib

from tests.system.hostile.requests import body, reversal

VALID = body()
LARGEST = 64 * 1024


def nested(depth: int, opening: str, closing: str) -> bytes:
    """The valid body with an unknown member, nested to this depth in total."""
    return body(more=f',"note":{opening * (depth - 1)}{closing * (depth - 1)}')


REFUSED = {
    "empty": b"",
    "white space only": b" \r\n\t",
    "a byte order mark after the object": VALID + b"\xef\xbb\xbf",
    "UTF-16": VALID.decode().encode("utf-16"),
    "UTF-16 without a byte order mark": VALID.decode().encode("utf-16-le"),
    "UTF-32": VALID.decode().encode("utf-32"),
    "UTF-7": b"+AHs-" + VALID[1:],
    "EBCDIC": VALID.decode().encode("cp500"),
    "Latin-1": body(redemption='"é"').decode().encode("latin-1"),
    "an invalid first byte": body(redemption='"?"').replace(b"?", b"\x80"),
    "a slash in two bytes": body(redemption='"?"').replace(b"?", b"\xc0\xaf"),
    "half a surrogate pair in three bytes": body(redemption='"?"').replace(b"?", b"\xed\xa0\x80"),
    "a character beyond Unicode": body(redemption='"?"').replace(b"?", b"\xf4\x90\x80\x80"),
    "a character that is cut off": VALID + b"\xf0\x9f\x92",
    "a NUL before the object": b"\0" + VALID,
    "a NUL after the object": VALID + b"\0",
    "a NUL in a string": body(redemption='"R\0"'),
    "a tab in a string": body(redemption='"R\t"'),
    "a line break in a string": body(redemption='"R\n"'),
    "an unknown escape": body(redemption='"\\x41"'),
    "an escape that is cut off": body(redemption='"\\u004"'),
    "an escape with a sign": body(redemption='"\\u+041"'),
    "a vertical tab as white space": b"\x0b" + VALID,
    "a no-break space as white space": "\u00a0".encode() + VALID,
    "a line separator as white space": "\u2028".encode() + VALID,
    "a letter after the object": VALID + b"x",
    "another object after the object": VALID + VALID,
    "a semicolon after the object": VALID + b";",
    "the last byte missing": VALID[:-1],
    "one bracket too many": VALID + b"}",
    "a comma after the last member": VALID[:-1] + b",}",
    "a comment": b"/* hello */" + VALID,
    "a comment to the end of the line": VALID + b"// hello",
    "single quotes": VALID.replace(b'"', b"'"),
    "keys without quotes": VALID.replace(b'"identifier"', b"identifier"),
    "a key that is a number": b"{1:2}",
    "a function call around the object": b"reverse(" + VALID + b")",
    "an anti-hijacking prefix": b")]}',\n" + VALID,
    "an array around the object": b"[" + VALID + b"]",
    "a string around the object": b'"' + VALID.replace(b'"', b'\\"') + b'"',
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
    "10,000 unclosed objects": b'{"a":' * 10_000,
    "60,000 quotes": b"{" + b'"' * 60_000,
    "60,000 backslashes in an unclosed string": b'{"' + b"\\" * 60_000,
    "60,000 minus signs": b'{"a":' + b"-" * 60_000,
    "gzip": gzip.compress(VALID, mtime=0),
}
ACCEPTED = {
    "white space around the object": b" \r\n\t" + VALID + b" \r\n\t",
    "arrays 16 deep": nested(16, "[", "]"),
    "10,000 brackets in a string": body(more=',"note":"' + "[{" * 10_000 + '"'),
    "a byte order mark before the object": b"\xef\xbb\xbf" + VALID,
    "15,000 empty arrays side by side": body(more=',"note":[' + ",".join(["[]"] * 15_000) + "]"),
    "10,000 escapes in a string": body(more=',"note":"' + "\\u0041" * 10_000 + '"'),
    "20,000 escaped quotes in a string": body(more=',"note":"' + '\\"' * 20_000 + '"'),
    "exactly the largest allowed size": VALID.ljust(LARGEST),
}
TOO_LARGE = {
    "one byte more than the largest allowed size": VALID.ljust(LARGEST + 1),
    "10 MB of white space after the object": VALID.ljust(10_000_000),
    "10 MB of opening brackets": b"[" * 10_000_000,
    "a million duplicate keys": b'{"a":1' + b',"a":1' * 1_000_000 + b"}",
}
COMPRESSED = {
    "gzip": gzip.compress(VALID, mtime=0),
    "deflate": zlib.compress(VALID),
    "gzip, gzip": gzip.compress(gzip.compress(b" " * 10_000_000, mtime=0), mtime=0),
}

BODIES = [
    *(reversal(f"body: {name}", sent) for name, sent in REFUSED.items()),
    *(reversal(f"body: {name}", sent, 200, None) for name, sent in ACCEPTED.items()),
    *(reversal(f"body: {name}", sent, 413, 413) for name, sent in TOO_LARGE.items()),
    *(
        reversal(f"body: {coding}, declared in Content-Encoding", sent, 415, 415).with_header(
            "Content-Encoding", coding
        )
        for coding, sent in COMPRESSED.items()
    ),
]
