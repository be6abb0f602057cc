"""Invalid methods, addresses and query strings."""

from tests.system.hostile.requests import (
    CUSTOMER_ID,
    DRY_RUN,
    READ,
    REDEEM,
    REDEMPTION_ID,
    REVERSALS,
    REVERSE,
    Hostile,
    body,
    reading,
)

METHODS = ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "REVERSE", "G'OR'1"]
TO_REVERSE = {
    "a slash at the end": ("/v2/points/reverse/?dryRun=true", None),
    "a letter as an escape": ("/v2/points/%72everse?dryRun=true", None),
    "a slash as an escape at the end": ("/v2/points/reverse%2F?dryRun=true", None),
    "two slashes at the end": ("/v2/points/reverse//", 404),
    "two slashes within": ("/v2//points/reverse", 404),
    "upper case": ("/V2/points/reverse", 404),
    "a line break at the end": ("/v2/points/reverse%0A", 404),
    "a line break and a header": ("/v2/points/reverse%0D%0AX-A:%20b", 404),
    "a NUL at the end": ("/v2/points/reverse%00", 404),
    "a NUL and another ending": ("/v2/points/reverse%00.json", 404),
    "a parameter of the path": ("/v2/points/reverse;dryRun=true", 404),
    "a suffix": ("/v2/points/reverse.json", 404),
    "a parent folder": ("/v2/points/../points/reverse", 404),
    "an escaped parent folder": ("/v2/points/%2e%2e/points/reverse", 404),
    "a dot": ("/v2/points/./reverse", 404),
    "a backslash": ("/v2/points%5Creverse", 404),
    "a slash in two bytes (overlong UTF-8)": ("/v2/points%C0%AFreverse", 404),
    "bytes that are not UTF-8": ("/v2/points/%FF%FE", 404),
    "an escape of an escape": ("/v2/points/%2572everse", 404),
    "full-width letters": ("/v2/points/%EF%BD%92everse", 404),
    "another version": ("/v3/points/reverse", 404),
    "60,000 characters": ("/v2/" + "p" * 60_000, 404),
    "the root": ("/", 404),
}
OPTIONS = {
    "upper case": ("dryRun=TRUE", 887),
    "a number": ("dryRun=1", 887),
    "nothing": ("dryRun=", 887),
    "no value": ("dryRun", 887),
    "twice": ("dryRun=true&dryRun=true", 887),
    "both": ("dryRun=true&dryRun=false", 887),
    "a NUL": ("dryRun=true%00", 887),
    "a space": ("dryRun=true%20", 887),
    "bytes that are not UTF-8": ("dryRun=%FF", 887),
    "a name in lower case": ("dryrun=true", 887),
    "a name with an underscore": ("dry_run=true", 887),
    "a name with brackets": ("dryRun[]=true", 887),
    "a name with a space": ("dryRun%20=true", 887),
    "an unknown expansion": ("dryRun=true&expand=secrets", 887),
    "an empty expansion": ("dryRun=true&expand=lines,", 887),
    "two expansions": ("dryRun=true&expand=lines&expand=lines", 887),
    "20,000 expansions": ("dryRun=true&expand=" + "lines," * 10_000, 887),
    "1,001 parameters": ("dryRun=true" + "&a" * 1_001, 887),
    "an escape that is cut off": ("dryRun=true&a=%F", None),
    "another question mark": ("dryRun=true&?=?&/../", None),
    "900 unknown parameters": ("dryRun=true" + "&a" * 900, None),
    "a semicolon instead of an ampersand": ("dryRun=true;a=b", 887),
}
READINGS = {
    "a redemption with a NUL": ("/v2/points/redemptions/%00", 404, 404),
    "a redemption in bytes that are not UTF-8": ("/v2/points/redemptions/%FF", 404, 404),
    "a redemption with a slash": (f"/v2/points/redemptions/{REDEMPTION_ID}%2F..", 404, 404),
    "a redemption with a parameter of the path": (f"{READ};a=b", 404, 404),
    "a redemption of 60,000 characters": ("/v2/points/redemptions/" + "R" * 60_000, 404, 404),
    "a redemption with an SQL condition": ("/v2/points/redemptions/'%20OR%201=1--", 404, 404),
    "a redemption with a template expression": ("/v2/points/redemptions/%7B%7B7*7%7D%7D", 404, 404),
    "a reversal with a NUL": (f"{REVERSALS}/%00", 404, 404),
    "a reversal of emoji": (f"{REVERSALS}/" + "%F0%9F%92%A9" * 6, 404, 404),
    "a customer with a NUL": ("/v2/customers/%00/points", 404, 404),
    "a customer beyond 63 bits": ("/v2/customers/9223372036854775808/points", 404, 404),
    "a negative customer": (f"/v2/customers/-{CUSTOMER_ID}/points", 404, 404),
    "a customer in Arabic digits": ("/v2/customers/%D9%A5%D9%A6/points", 404, 404),
    "a cursor with a NUL": (f"{REVERSALS}?cursor=%00", 400, 887),
    "a cursor of 60,000 characters": (f"{REVERSALS}?cursor=" + "c" * 60_000, 400, 887),
    "a limit of zero": (f"{REVERSALS}?limit=0", 400, 887),
    "a negative limit": (f"{REVERSALS}?limit=-1", 400, 887),
    "a limit of 10,000 digits": (f"{REVERSALS}?limit=" + "9" * 10_000, 400, 887),
    "a limit in Arabic digits": (f"{REVERSALS}?limit=%D9%A5", 400, 887),
    "a limit in superscript digits": (f"{REVERSALS}?limit=%C2%B2", 400, 887),
    "a malformed time": (f"{REVERSALS}?from=yesterday", 400, 887),
    "a time in the year 10000": (f"{REVERSALS}?from=10000-01-01T00:00:00Z", 400, 887),
    "a time before the earliest": (f"{REVERSALS}?from=0001-01-01T00:00:00%2B14:00", 400, 887),
    "a filter twice": (f"{REVERSALS}?redemptionId=a&redemptionId=b", 400, 887),
    "a filter with a NUL": (f"{REVERSALS}?redemptionId=%00", 200, None),
    "1,001 parameters": (f"{REVERSALS}?a" + "&a" * 1_001, 400, 887),
}
ELSEWHERE = {
    "a file outside the static folder": ("/static/../config/settings.py", 404, 404),
    "a file outside the static folder, escaped": ("/static/..%2F..%2Fconfig%2Fsettings.py", 404, 404),
    "a static file with a NUL": ("/static/%00", 404, 404),
    "a static file of 60,000 characters": ("/static/" + "s" * 60_000, 404, 404),
    "the settings file": ("/.env", 404, 404),
    "the Git repository": ("/.git/config", 404, 404),
    "the login page of WordPress": ("/wp-login.php", 404, 404),
    "the back office with a NUL": ("/admin/%00/", 302, None),
    "the back office in bytes that are not UTF-8": ("/admin/%FF/", 302, None),
}

TARGETS = [
    *(Hostile(f"method: {method}", 405, 405, method=method, body=b"") for method in METHODS),
    Hostile("method: HEAD", 405, None, method="HEAD", body=b""),
    Hostile("method: GET with the valid body", 405, 405, method="GET"),
    *(
        Hostile(f"address to reverse at: {name}", code or 200, code, target=target)
        for name, (target, code) in TO_REVERSE.items()
    ),
    *(
        Hostile(f"dryRun: {name}", 400 if code else 200, code, target=f"{REVERSE}?{query}")
        for name, (query, code) in OPTIONS.items()
    ),
    *(reading(f"reading {name}", *answered) for name, answered in READINGS.items()),
    *(reading(f"requesting {name}", *answered) for name, answered in ELSEWHERE.items()),
    *(
        Hostile(f"redeeming for {name}", 400, 816, target=f"/v2/customers/{customer}/redemptions", body=b'{"points":1}')
        for name, customer in {
            "a NUL": "%00",
            "bytes that are not UTF-8": "%FF",
            "a customer beyond 63 bits": "9223372036854775808",
            "an SQL condition": "'%20OR%201=1--",
        }.items()
    ),
    Hostile("redeeming: a dry run in the query", 400, 887, target=f"{REDEEM}?dryRun=true", body=b'{"points":1}'),
    reading("the back office in a session with a NUL", "/admin/", 302).with_header(
        "Cookie", 'sessionid="a-session-of-32-characters-or-so\\000"'
    ),
    Hostile("signing in without a token", 403, None, target="/admin/login/", body=b"username=a&password=b"),
    Hostile("signing in with 10 MB", 413, None, target="/admin/login/", body=b"a" * 10_000_000),
    Hostile("posting to the OpenAPI document", 405, 405, target="/openapi.json", body=body()),
    Hostile("asking for the allowed methods", 405, 405, method="OPTIONS", target=DRY_RUN, body=b""),
]
