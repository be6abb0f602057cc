"""Reads all settings of the project from the environment. An invalid value stops the start with a message."""

import logging
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

import environ
from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from django.core.exceptions import ImproperlyConfigured, PermissionDenied, SuspiciousOperation
from django.templatetags.static import static
from django.utils.crypto import salted_hmac
from psycopg import IsolationLevel, ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pythonjsonlogger.core import RESERVED_ATTRS

from config import __version__

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
env.read_env(BASE_DIR / ".env")


def switch(name: str, *, default: bool = False) -> bool:
    """Returns the on/off variable `name`, or `default` if it is missing or empty.

    Raises ImproperlyConfigured for any other text. Note: environ alone would read any unknown text as off.
    """
    text = env.str(name, "").strip().lower()
    if not text:
        return default
    if text in {"on", "true", "yes", "1"}:
        return True
    if text in {"off", "false", "no", "0"}:
        return False
    raise ImproperlyConfigured(f"{name} is {text!r}; expected on or off")


def whole_number(name: str, default: int) -> int:
    """Returns the variable `name`, a whole number from 0, or `default` if it is missing or empty."""
    text = env.str(name, "").strip()
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ImproperlyConfigured(f"{name} is {text!r}; expected a whole number, 0 to 999999999")
    return int(text)


def keys(name: str) -> list[str]:
    """Returns the keys in the variable `name`, separated by commas."""
    return [key.strip() for key in env.str(name, "").split(",") if key.strip()]


def pepper_of(secret_key: str) -> str:
    """Returns the pepper that is used with this SECRET_KEY if API_PEPPER is not set."""
    return salted_hmac("loyalty.pepper", "", secret_key, algorithm="sha256").hexdigest()


def networks(name: str) -> list[IPv4Network | IPv6Network]:
    """Returns the networks in the variable `name`, separated by commas. A single address is a network of one."""
    try:
        return [ip_network(text.strip()) for text in env.str(name, "").split(",") if text.strip()]
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}: {error}; expected networks such as 10.0.0.0/8, with commas") from error


def header(name: str) -> str:
    """Returns the key in `request.META` of the header that the variable `name` names, or "" if it is missing or empty.

    WSGI turns both "-" and "_" of a header's name into "_", so a client could send X_Forwarded_For beside the proxy's
    X-Forwarded-For. A name without them cannot be sent in a second way.
    """
    text = env.str(name, "").strip()
    if not text:
        return ""
    if not (text.isascii() and text.isalnum()):
        raise ImproperlyConfigured(
            f"{name} is {text!r}; expected a name of letters and digits only, such as ForwardedFor, because the server"
            " cannot tell a header with - from a header with _, which a client can add. Let the proxy set that header"
        )
    return f"HTTP_{text.upper()}"


def address(name: str) -> tuple[str, int] | None:
    """Returns host and port in the variable `name`, or None if it is missing or empty."""
    text = env.str(name, "").strip()
    if not text:
        return None
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ImproperlyConfigured(f"{name} is {text!r}; expected host and port, such as 127.0.0.1:8001")
    return host.strip("[]"), int(port)


def mail_server(name: str) -> dict[str, Any]:
    """Returns Django's settings of the mail server at the URL in the variable `name`."""
    expected = f"{name} must look like smtp+tls://user:password@host:587, smtp+ssl://... or consolemail://"
    try:
        found: dict[str, Any] = environ.Env.email_url_config(env.str(name))
    except Exception:  # environ raises what it stumbles over; its message can quote a part of the password
        raise ImproperlyConfigured(f"{expected}; in a password, write % / : @ as %25 %2F %3A %40") from None
    if found.get("EMAIL_BACKEND", "").endswith(".smtp.EmailBackend") and not found.get("EMAIL_HOST"):
        raise ImproperlyConfigured(expected)
    return found


def database(name: str, default: str = environ.Env.NOTSET) -> dict[str, Any]:
    """Returns Django's settings of the database at the URL in the variable `name`: SQLite or PostgreSQL."""
    url = env.str(name, default)
    expected = f"{name} must look like sqlite:///var/loyalty.sqlite3 or postgres://user:password@host:5432/name"
    try:
        connection = environ.Env.db_url_config(url)
        connection |= several_hosts(url)
    except ValueError:
        # Its message can quote a part of the password, and so would its traceback.
        raise ImproperlyConfigured(f"{expected}; in a password, write % / : @ as %25 %2F %3A %40") from None
    engine = connection.get("ENGINE")
    options = connection.pop("OPTIONS", {})
    if engine == "django.db.backends.sqlite3":
        return connection | sqlite_options(connection["NAME"], options)
    if engine != "django.db.backends.postgresql":
        raise ImproperlyConfigured(expected)
    check_postgresql_options(name, options)
    return postgresql_options(options) | connection | {"ENGINE": "loyalty.postgresql"}


def sqlite_options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    if name != ":memory:":
        name = str(BASE_DIR / name)
        Path(name).parent.mkdir(parents=True, exist_ok=True)
    return {
        "NAME": name,
        # The connection stays open, because SQLite reads all tables and triggers when it opens the file, which takes
        # longer than a whole reversal.
        "CONN_MAX_AGE": None,
        # IMMEDIATE takes the write lock at the start of a transaction. Otherwise a transaction that reads first and
        # writes later can fail, whatever the timeout. legacy_alter_table lets a migration rebuild a table that
        # triggers refer to.
        "OPTIONS": {"timeout": 5}
        | options
        | {
            "transaction_mode": "IMMEDIATE",
            "init_command": ("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA legacy_alter_table=ON;"),
        },
        "TEST": {"NAME": str(BASE_DIR / "var" / "test.sqlite3")},
    }


def check_postgresql_options(name: str, options: dict[str, Any]) -> None:
    """Raises ImproperlyConfigured for a parameter of the URL in the variable `name` that libpq does not know."""
    try:
        make_conninfo(**options)
    except ProgrammingError as error:  # its message has the parameter's name and not its value
        raise ImproperlyConfigured(
            f"{name}: {str(error).strip()}; expected parameters of PostgreSQL such as sslmode or options"
        ) from error


def several_hosts(url: str) -> dict[str, Any]:
    """Returns HOST and PORT of a URL that names several hosts, as libpq reads them, or nothing for any other URL.

    Raises ValueError if libpq cannot read them. Note: environ gives all hosts one port where some have none, and keeps
    the brackets of IPv6 addresses.
    """
    hosts = url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    if "," not in hosts:
        return {}
    try:
        parsed = conninfo_to_dict(f"postgresql://{hosts}")
    except ProgrammingError:  # its message has a part of the URL, which can be a password
        raise ValueError("the hosts cannot be read") from None
    return {"HOST": parsed["host"], "PORT": parsed.get("port", "")}


def postgresql_options(options: dict[str, Any]) -> dict[str, Any]:
    """Returns Django's settings of a PostgreSQL connection: the project's own beside `options`, the URL's parameters.

    Timeouts and the isolation level are the project's, whatever the URL and the server say. A timeout for connecting
    can be the URL's.
    """
    session = {
        "lock_timeout": "2s",
        "statement_timeout": "5s",
        "idle_in_transaction_session_timeout": "10s",
        "default_transaction_isolation": r"read\ committed",
    }
    own: dict[str, Any] = {
        # Each BEGIN names the level, because a pooler does not take the session's settings.
        "isolation_level": IsolationLevel.READ_COMMITTED,
        # Django's default is client-side binding, with which no statement is prepared.
        "server_side_binding": True,
    }
    if not DATABASE_POOLER:
        settings_of_session = " ".join(f"-c {name}={value}" for name, value in session.items())
        # PostgreSQL takes the last one of equal names.
        own["options"] = f"{options.get('options', '')} {settings_of_session}".strip()
        own["prepare_threshold"] = 3
    # A machine that is gone without a word is noticed by unconfirmed data after 10 s, else by probes after 25 s.
    defaults = {"connect_timeout": 2, "tcp_user_timeout": 10_000}
    defaults |= {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
    return {
        "CONN_MAX_AGE": None,
        "DISABLE_SERVER_SIDE_CURSORS": DATABASE_POOLER,
        "OPTIONS": defaults | options | own,
    }


def is_unforeseen(record: logging.LogRecord) -> bool:
    """Returns whether the log record is of an unexpected error.

    Refusals are expected: the attempt and the access log record them.
    """
    return record.exc_info is not None and not isinstance(record.exc_info[1], PermissionDenied | SuspiciousOperation)


# Shown in /health/ready, in the OpenAPI document and in the footer of each page.
VERSION = __version__
DEBUG = switch("DEBUG")
SECRET_KEY = env.str("SECRET_KEY", "not-a-secret-for-debugging-only" if DEBUG else "")
if not SECRET_KEY:
    raise ImproperlyConfigured("SECRET_KEY is not set; it is required unless DEBUG is on")
# Former values of SECRET_KEY, or the next one, with which sessions and links of other servers were signed.
SECRET_KEY_FALLBACKS = keys("SECRET_KEY_FALLBACKS")
# The key of the hashes of API secrets. The former ones are tried where it does not match.
API_PEPPER_IS_SET = bool(env.str("API_PEPPER", ""))
API_PEPPER = env.str("API_PEPPER", "") or pepper_of(SECRET_KEY)
API_PEPPER_FORMER = [
    *keys("API_PEPPER_FORMER"),
    *(pepper_of(key) for key in SECRET_KEY_FALLBACKS),
]
if any(len(pepper) < 32 for pepper in (API_PEPPER, *API_PEPPER_FORMER)):
    raise ImproperlyConfigured("API_PEPPER or API_PEPPER_FORMER is too short; expected at least 32 characters")
# Whether webhook URLs may use plain http and private or loopback addresses: for tests and closed networks.
WEBHOOKS_TO_PRIVATE_ADDRESSES = switch("WEBHOOKS_TO_PRIVATE_ADDRESSES")
# Whether staff need a one-time code after the password.
STAFF_SECOND_FACTOR = switch("STAFF_SECOND_FACTOR", default=True)
# Whether everything is served over https only. Off by default, because the demo is served over plain http.
HTTPS_ONLY = switch("HTTPS_ONLY")
# The proxies whose headers are trusted, and the names of the headers with the client's address and scheme.
TRUSTED_PROXIES = networks("TRUSTED_PROXIES")
FORWARDED_FOR_HEADER = header("FORWARDED_FOR_HEADER")
FORWARDED_PROTO_HEADER = header("FORWARDED_PROTO_HEADER")
if TRUSTED_PROXIES and not FORWARDED_FOR_HEADER:
    raise ImproperlyConfigured(
        "TRUSTED_PROXIES is set, but FORWARDED_FOR_HEADER is not; set it to the header in which the proxy sends the"
        " client's address, such as ForwardedFor. X-Forwarded-For is not read, because the server cannot tell it from"
        " X_Forwarded_For, which a client can add (docs/deployment.md)"
    )
if HTTPS_ONLY and not (TRUSTED_PROXIES and FORWARDED_PROTO_HEADER):
    raise ImproperlyConfigured(
        "HTTPS_ONLY is on, so every request would count as http and be redirected forever; set TRUSTED_PROXIES to the"
        " proxies that end TLS, such as 10.0.0.0/8, FORWARDED_PROTO_HEADER to the header in which they send http or"
        " https, such as ForwardedProto, and FORWARDED_FOR_HEADER to the header with the client's address,"
        " such as ForwardedFor; or set HTTPS_ONLY to off"
    )
# Failed logins per minute of one username from one address, after which further ones are refused. 0 is no limit.
API_FAILED_LOGINS_PER_MINUTE = whole_number("API_FAILED_LOGINS_PER_MINUTE", 60)
# Calls per minute of an API client without its own limit. 0 is no limit.
API_CALLS_PER_MINUTE = whole_number("API_CALLS_PER_MINUTE", 60_000)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
for origin in CSRF_TRUSTED_ORIGINS:
    if "://" not in origin:
        raise ImproperlyConfigured(f"CSRF_TRUSTED_ORIGINS contains {origin!r}; expected https://host")

# json: one JSON object per line. line: text.
LOG_FORMAT = env.str("LOG_FORMAT", "") or ("line" if DEBUG else "json")
if LOG_FORMAT not in {"json", "line"}:
    raise ImproperlyConfigured(f"LOG_FORMAT is {LOG_FORMAT!r}; expected json or line")
LOG_LEVEL = (env.str("LOG_LEVEL", "") or "INFO").upper()
if LOG_LEVEL not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
    raise ImproperlyConfigured(f"LOG_LEVEL is {LOG_LEVEL!r}; expected DEBUG, INFO, WARNING or ERROR")
# The public address of the server, behind the proxy, to which `doctor` sends a request. Empty: it sends none.
PUBLIC_URL = env.str("PUBLIC_URL", "").rstrip("/")
if PUBLIC_URL and not PUBLIC_URL.startswith(("https://", "http://")):
    raise ImproperlyConfigured(f"PUBLIC_URL is {PUBLIC_URL!r}; expected an address such as https://loyalty.example.com")
# The mail server. Empty: no mail is sent. With it, the worker tells approvers of requests, and users of decisions.
EMAIL_URL = env.str("EMAIL_URL", "")
EMAIL_TIMEOUT = 10
if EMAIL_URL:
    globals().update(mail_server("EMAIL_URL"))
    DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.str("EMAIL_FROM", "")
    if "@" not in DEFAULT_FROM_EMAIL:
        raise ImproperlyConfigured(
            f"EMAIL_FROM is {DEFAULT_FROM_EMAIL!r}; with EMAIL_URL it must be the sender's address, such as"
            " loyalty@example.com"
        )
    if not PUBLIC_URL:
        raise ImproperlyConfigured("EMAIL_URL is set, but PUBLIC_URL is not; emails link to the back office there")
# The bearer token for /metrics. Without one, only this machine can read /metrics.
METRICS_TOKEN = env.str("METRICS_TOKEN", "")
# A further address for health and metrics, which answers while all threads hang. None: only the server's own.
MONITORING_ADDRESS = address("MONITORING_ADDRESS")
# The file to which seal_ledger appends the heads of its chain. Users who can write to the database should not be able
# to write to this file.
LEDGER_ANCHOR = BASE_DIR / (env.str("LEDGER_ANCHOR", "") or "var/ledger.anchor")

# After this many days the worker removes attempts, the client addresses in them, and events. 0 keeps them.
ATTEMPTS_KEPT_FOR_DAYS = whole_number("ATTEMPTS_KEPT_FOR_DAYS", 0)
ATTEMPT_ADDRESSES_KEPT_FOR_DAYS = whole_number("ATTEMPT_ADDRESSES_KEPT_FOR_DAYS", 30)
EVENTS_KEPT_FOR_DAYS = whole_number("EVENTS_KEPT_FOR_DAYS", 0)
# The queues of the worker (reversals.operations.worker).
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend", "QUEUES": ["scheduled", "requested"]}}

# Whether a pooler gives each transaction another session. Then statements cannot be prepared, and the timeouts are set
# on the database role (deploy/role.sql).
DATABASE_POOLER = switch("DATABASE_POOLER")
DATABASES = {"default": database("DATABASE_URL", "sqlite:///var/loyalty.sqlite3")}
# A streaming replica, from which the back office reads while the replica is up to date.
if env.str("DATABASE_REPLICA_URL", ""):
    DATABASES["replica"] = database("DATABASE_REPLICA_URL")
    if {each["ENGINE"] for each in DATABASES.values()} != {"loyalty.postgresql"}:
        raise ImproperlyConfigured("DATABASE_REPLICA_URL is set, so it and DATABASE_URL must both be PostgreSQL")
    DATABASE_ROUTERS = ["config.replica.ReplicaRouter"]
# Each worker's own cache, for rate limits. Note: workers do not share it.
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 10_000}}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "config.apps.BackOfficeConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "axes",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_tasks",
    "django_tasks_db",
    "loyalty",
    "reversals",
]
MIDDLEWARE = [
    "loyalty.request_id.RequestIdMiddleware",
    "reversals.api.monitoring.access.AccessMiddleware",
    "config.headers.HeadersMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "config.waits.LimitMiddleware",
    "reversals.api.monitoring.views.MonitoringMiddleware",
    "config.api.HttpsMiddleware",
    "config.api.ApiMiddleware",
    # The rest is for pages only.
    "loyalty.staff.signin.gate.SignInMiddleware",
    "config.headers.BackOfficePolicyMiddleware",
    "config.compression.CompressionMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "loyalty.staff.signin.sessions.SessionUserMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "loyalty.staff.signin.gate.BodyMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "axes.middleware.AxesMiddleware",
]
if "replica" in DATABASES:
    before = MIDDLEWARE.index("django.contrib.sessions.middleware.SessionMiddleware")
    MIDDLEWARE.insert(before, "config.replica.ReplicaMiddleware")
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
PASSWORD_HASHERS = ["loyalty.staff.signin.hashing.BoundedPBKDF2PasswordHasher"]
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]

# Failed sign-ins lock the pair of username and address for a while, to stop guesses of passwords. The username alone is
# not locked, so that an attacker elsewhere cannot lock a user out.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_LOCKOUT_CALLABLE = "loyalty.staff.signin.lockout.as_locked_out"
AXES_CLIENT_IP_CALLABLE = "loyalty.clients.addresses.address_of"
AXES_DISABLE_ACCESS_LOG = True
# These parameters are masked in the record of a failed sign-in, including the fields of the password change page.
AXES_SENSITIVE_PARAMETERS = ["username", "ip_address", "old_password", "new_password1", "new_password2"]
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False

# The page after sign-in and sign-out. django-unfold's sign-in form does not pass on Django's own redirect.
LOGIN_REDIRECT_URL = "admin:index"
LOGOUT_REDIRECT_URL = "admin:login"

# A sign-in ends soon on an unattended screen, and at the latest after a working day.
STAFF_IDLE_LIMIT = timedelta(minutes=30)
STAFF_SESSION_LIMIT = timedelta(hours=12)
SESSION_ENGINE = "loyalty.staff.signin.sessions"
SESSION_COOKIE_AGE = int(STAFF_SESSION_LIMIT.total_seconds())
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
# Lax and not strict, so that a user who follows a link from a ticket is still signed in.
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS_ONLY

# Django's own page tells users to set DEBUG=True.
CSRF_FAILURE_VIEW = "loyalty.staff.csrf.failure"

# Pages are redirected from http to https. HttpsMiddleware refuses everything else over http but health checks and
# metrics, which machines of the same network request.
SECURE_SSL_REDIRECT = HTTPS_ONLY
SECURE_REDIRECT_EXEMPT = [r"^(?!admin|docs|static/)"]
SECURE_HSTS_SECONDS = int(timedelta(days=365).total_seconds()) if HTTPS_ONLY else 0
# Browsers keep both for a year, for all subdomains, so only the domain's owner can decide them.
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS_ONLY and switch("HSTS_PRELOAD")
# `check --deploy` would ask for both.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
# HttpsMiddleware removes this header from requests that do not come from TRUSTED_PROXIES.
SECURE_PROXY_SSL_HEADER = (FORWARDED_PROTO_HEADER, "https") if TRUSTED_PROXIES and FORWARDED_PROTO_HEADER else None
SECURE_REFERRER_POLICY = SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
PERMISSIONS_POLICY = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"
# The default policy, for replies of the API: no content may run, load or be framed, because they are not pages.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {"default-src": [NONE], "base-uri": [NONE], "form-action": [NONE], "frame-ancestors": [NONE]}
}
# Pages contain no inline scripts. django-unfold needs UNSAFE_EVAL, because Alpine.js evaluates expressions in
# attributes, and UNSAFE_INLINE for its inline styles.
BACK_OFFICE_POLICY = {
    "script-src": [SELF, UNSAFE_EVAL],
    "style-src": [SELF, UNSAFE_INLINE],
    "img-src": [SELF, "data:"],
    "font-src": [SELF],
    "connect-src": [SELF],
    "form-action": [SELF],
}
# The name that an authenticator app shows with the code.
OTP_TOTP_ISSUER = "Loyalty back office"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["reversals.api.authentication.ApiClientAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": [],
    "EXCEPTION_HANDLER": "reversals.api.errors.answer_exception",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "OAS_VERSION": "3.1.0",
    "TITLE": "Loyalty back office",
    "DESCRIPTION": "Reverses redeemed points, exactly once, to the lots that they came from.",
    "VERSION": VERSION,
    "PREPROCESSING_HOOKS": ["reversals.api.openapi.generation.as_published"],
    "POSTPROCESSING_HOOKS": ["reversals.api.openapi.generation.complete"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    # validatorUrl None prevents the viewer from sending the document to a validator on another host.
    "SWAGGER_UI_SETTINGS": {"validatorUrl": None, "deepLinking": True},
}

UNFOLD = {
    "SITE_TITLE": "Loyalty back office",
    "SITE_HEADER": "Loyalty back office",
    "SITE_SYMBOL": "loyalty",
    "SITE_URL": None,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": True,
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("backoffice/favicon.svg")},
    ],
    "STYLES": [lambda request: static("backoffice/style.css")],
    "SCRIPTS": [lambda request: static("backoffice/access.js")],
    "LOGIN": {"form": "loyalty.staff.signin.forms.SignInForm"},
    "DASHBOARD_CALLBACK": "reversals.admin.home.dashboard",
    # Lighter than unfold's own color, which has too little contrast for small text on the dark background.
    "COLORS": {"primary": {"500": "oklch(72% .19 305.5)"}},
    "SIDEBAR": {"navigation": "reversals.admin.navigation.sections"},
}

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
FORMAT_MODULE_PATH = ["config.formats"]
STATIC_URL = "/static/"
# Almost empty files in place of those of unfold that no page uses: 290 KB of scripts and a font.
STATICFILES_DIRS = [BASE_DIR / "loyalty" / "left_out"]
# Static files of the admin and of /docs/ are served from their packages, so collectstatic is not needed.
WHITENOISE_USE_FINDERS = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "request_id": {"()": "loyalty.request_id.RequestIdFilter"},
        "unforeseen": {"()": "django.utils.log.CallbackFilter", "callback": is_unforeseen},
    },
    "formatters": {
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "format": "%(levelname)s %(name)s %(request_id)s %(message)s",
            "timestamp": "time",
            "rename_fields": {"levelname": "level", "name": "logger"},
            # Django adds the request to its log records, and the request contains the query string.
            "reserved_attrs": [*RESERVED_ATTRS, "request"],
        },
        "line": {
            "()": "config.logs.LineFormatter",
            "format": "%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s",
        },
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT, "filters": ["request_id"]},
    },
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        "django.request": {"filters": ["unforeseen"]},
        "django.security": {"level": "CRITICAL"},  # any client can cause these; the access log has the 400 or 403
        # At DEBUG this logger writes the whole context of a page, including a new secret or recovery code.
        "django.template": {"level": "INFO"},
        "axes": {"level": "WARNING"},
    },
}
