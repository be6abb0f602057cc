"""Every setting of the project, read from the environment; a wrong value refuses to start and says which."""

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
from pythonjsonlogger.core import RESERVED_ATTRS

from config import __version__

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
env.read_env(BASE_DIR / ".env")


def switch(name: str, *, default: bool = False) -> bool:
    """The on/off variable `name`, `default` when absent or empty; environ alone would take any unknown word as off."""
    text = env.str(name, "").strip().lower()
    if not text:
        return default
    if text in {"on", "true", "yes", "1"}:
        return True
    if text in {"off", "false", "no", "0"}:
        return False
    raise ImproperlyConfigured(f"{name} is {text!r}; expected on or off")


def whole_number(name: str, default: int) -> int:
    """The variable `name`, a whole number from 0, `default` when absent or empty."""
    text = env.str(name, "").strip()
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ImproperlyConfigured(f"{name} is {text!r}; expected a whole number, 0 to 999999999")
    return int(text)


def networks(name: str) -> list[IPv4Network | IPv6Network]:
    """The networks in the variable `name`, with commas; an address alone is a network of one."""
    try:
        return [ip_network(text.strip()) for text in env.str(name, "").split(",") if text.strip()]
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}: {error}; expected networks like 10.0.0.0/8, with commas") from error


def database(name: str, default: str = environ.Env.NOTSET) -> dict[str, Any]:
    """The Django connection that the URL in the variable `name` describes: SQLite or PostgreSQL."""
    url = env.str(name, default)
    expected = f"{name} must look like sqlite:///var/loyalty.sqlite3 or postgres://user:password@host:5432/name"
    try:
        connection = environ.Env.db_url_config(url)
    except ValueError as error:
        raise ImproperlyConfigured(f"{expected}: {error}") from error
    engine = connection.get("ENGINE")
    if engine == "django.db.backends.sqlite3":
        return connection | sqlite_options(connection["NAME"])
    if engine == "django.db.backends.postgresql":
        return connection | postgresql_options(connection.get("OPTIONS", {}))
    raise ImproperlyConfigured(expected)


def sqlite_options(name: str) -> dict[str, Any]:
    if name != ":memory:":
        name = str(BASE_DIR / name)
        Path(name).parent.mkdir(parents=True, exist_ok=True)
    return {
        "NAME": name,
        # To open the file anew costs more than a whole reversal: all tables and triggers are read first.
        "CONN_MAX_AGE": None,
        # A transaction that reads first and writes later can fail on SQLite whatever the timeout: take the
        # write lock at once. legacy_alter_table lets a later migration remake a table that triggers name.
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 5,
            "init_command": ("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA legacy_alter_table=ON;"),
        },
        "TEST": {"NAME": str(BASE_DIR / "var" / "test.sqlite3")},
    }


def postgresql_options(options: dict[str, Any]) -> dict[str, Any]:
    timeouts = {
        "lock_timeout": "2s",
        "statement_timeout": "5s",
        "idle_in_transaction_session_timeout": "10s",
    }
    of_session = {
        "options": " ".join(f"-c {name}={value}" for name, value in timeouts.items()),
        "prepare_threshold": 3,
    }
    return {
        "CONN_MAX_AGE": None,
        "DISABLE_SERVER_SIDE_CURSORS": DATABASE_POOLER,
        "OPTIONS": options
        | {
            "connect_timeout": 3,
            # A server that fell silent is given up after 10 s, whatever TCP would do.
            "tcp_user_timeout": 10_000,
            # Django's default binds on the client, and then nothing is ever prepared.
            "server_side_binding": True,
        }
        | ({} if DATABASE_POOLER else of_session),
    }


def is_unforeseen(record: logging.LogRecord) -> bool:
    """Whether the record tells of a fault. A refusal is an answer: its record is the attempt and the access line."""
    return record.exc_info is not None and not isinstance(record.exc_info[1], PermissionDenied | SuspiciousOperation)


# Shown in /health/ready, in the OpenAPI document and at the foot of each page.
VERSION = __version__
DEBUG = switch("DEBUG")
SECRET_KEY = env.str("SECRET_KEY", "not-a-secret-for-debugging-only" if DEBUG else "")
if not SECRET_KEY:
    raise ImproperlyConfigured("SECRET_KEY is not set; it is required unless DEBUG is on")
# Keys the hashes of API secrets. Changing it makes every issued secret invalid.
API_PEPPER = env.str("API_PEPPER", "") or salted_hmac("loyalty.pepper", "", SECRET_KEY, algorithm="sha256").hexdigest()
if len(API_PEPPER) < 32:
    raise ImproperlyConfigured("API_PEPPER is too short; expected at least 32 characters")
# Whether webhooks may be plain http and lead to private or loopback addresses: for tests and closed networks.
WEBHOOKS_TO_PRIVATE_ADDRESSES = switch("WEBHOOKS_TO_PRIVATE_ADDRESSES")
# Whether staff need a code from their phone after the password.
STAFF_SECOND_FACTOR = switch("STAFF_SECOND_FACTOR", default=True)
# Whether everything is served over https only. Off by default: the demo and a first try are served over plain http.
HTTPS_ONLY = switch("HTTPS_ONLY")
# The proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.
TRUSTED_PROXIES = networks("TRUSTED_PROXIES")
# Wrong credentials per API client and address, after which their next ones are refused; 0 is no limit.
API_FAILED_LOGINS_PER_MINUTE = whole_number("API_FAILED_LOGINS_PER_MINUTE", 60)
# Calls per API client, unless it has a limit of its own; 0 is no limit.
API_CALLS_PER_MINUTE = whole_number("API_CALLS_PER_MINUTE", 60_000)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
for origin in CSRF_TRUSTED_ORIGINS:
    if "://" not in origin:
        raise ImproperlyConfigured(f"CSRF_TRUSTED_ORIGINS holds {origin!r}; expected https://host")

# One JSON object in a line for machines, or text for people.
LOG_FORMAT = env.str("LOG_FORMAT", "") or ("line" if DEBUG else "json")
if LOG_FORMAT not in {"json", "line"}:
    raise ImproperlyConfigured(f"LOG_FORMAT is {LOG_FORMAT!r}; expected json or line")
# The bearer token for /metrics; without one it is for this machine only.
METRICS_TOKEN = env.str("METRICS_TOKEN", "")
# To which file seal_ledger appends the heads of its chain: best where who may write the database may not write.
LEDGER_ANCHOR = BASE_DIR / (env.str("LEDGER_ANCHOR", "") or "var/ledger.anchor")

# Whether a pooler hands each transaction another session: then nothing can be prepared, and the timeouts are those
# that the database's role has (deploy/role.sql).
DATABASE_POOLER = switch("DATABASE_POOLER")
DATABASES = {"default": database("DATABASE_URL", "sqlite:///var/loyalty.sqlite3")}
# A streaming replica, from which pages are read while it is up to date.
if env.str("DATABASE_REPLICA_URL", ""):
    DATABASES["replica"] = database("DATABASE_REPLICA_URL")
    if {each["ENGINE"] for each in DATABASES.values()} != {"django.db.backends.postgresql"}:
        raise ImproperlyConfigured("DATABASE_REPLICA_URL needs PostgreSQL there and in DATABASE_URL")
    DATABASE_ROUTERS = ["config.replica.ReplicaRouter"]
# What one worker remembers of limits. It is no place for what all workers must know.
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
    "loyalty",
    "reversals",
]
MIDDLEWARE = [
    "loyalty.request_id.RequestIdMiddleware",
    "reversals.api.monitoring.access.AccessMiddleware",
    "config.headers.HeadersMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "reversals.api.monitoring.views.MonitoringMiddleware",
    "config.api.ApiMiddleware",
    # From here on for pages.
    "config.headers.BackOfficePolicyMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
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
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]

# Who guesses passwords is stopped: as many wrong ones for a username from an address lock that pair for a while. The
# pair, so that nobody can lock a colleague out from elsewhere.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_LOCKOUT_CALLABLE = "loyalty.staff.signin.lockout.as_locked_out"
AXES_CLIENT_IP_CALLABLE = "loyalty.clients.addresses.address_of"
AXES_DISABLE_ACCESS_LOG = True
# What is kept of a wrong try is without the passwords, those of the page that changes one too.
AXES_SENSITIVE_PARAMETERS = ["username", "ip_address", "old_password", "new_password1", "new_password2"]
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False

# After signing in at the sign-in page itself: django-unfold's form does not hand on Django's own answer.
LOGIN_REDIRECT_URL = "admin:index"
LOGOUT_REDIRECT_URL = "admin:login"

# A till's screen left alone is soon nobody's, and a working day is the longest that one sign-in is good for.
STAFF_IDLE_LIMIT = timedelta(minutes=30)
STAFF_SESSION_LIMIT = timedelta(hours=12)
SESSION_ENGINE = "loyalty.staff.signin.sessions"
SESSION_COOKIE_AGE = int(STAFF_SESSION_LIMIT.total_seconds())
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
# Lax and not strict: a link to the back office in a ticket must find the person signed in.
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS_ONLY

# What comes over plain http is sent on to https, but for what the machines beside this one ask.
SECURE_SSL_REDIRECT = HTTPS_ONLY
SECURE_REDIRECT_EXEMPT = [r"^health/", r"^metrics$"]
SECURE_HSTS_SECONDS = int(timedelta(days=365).total_seconds()) if HTTPS_ONLY else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS_ONLY
# Anybody can write this header, so it is believed only where a proxy is said to be in front, which then sets it.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXIES else None
SECURE_REFERRER_POLICY = SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
PERMISSIONS_POLICY = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"
# Replies of the API are no pages: nothing in them runs, loads or can be framed.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {"default-src": [NONE], "base-uri": [NONE], "form-action": [NONE], "frame-ancestors": [NONE]}
}
# No script stands in a page. Alpine.js, which django-unfold's pages are made with, evaluates the expressions in their
# attributes, and they have styles of their own.
BACK_OFFICE_POLICY = {
    "script-src": [SELF, UNSAFE_EVAL],
    "style-src": [SELF, UNSAFE_INLINE],
    "img-src": [SELF, "data:"],
    "font-src": [SELF],
    "connect-src": [SELF],
    "form-action": [SELF],
}
# The name that an authenticator app shows beside the code.
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
    "DESCRIPTION": "Reverses redeemed points, exactly once, into the lots that they came from.",
    "VERSION": VERSION,
    "PREPROCESSING_HOOKS": ["reversals.api.openapi.generation.as_published"],
    "POSTPROCESSING_HOOKS": ["reversals.api.openapi.generation.complete"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    # Without it the viewer sends the document to a validator on another host.
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
    # Lighter than unfold's own: as small text on the dark ground that one has too little contrast.
    "COLORS": {"primary": {"500": "oklch(72% .19 305.5)"}},
    "SIDEBAR": {"navigation": "reversals.admin.navigation.sections"},
}

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
FORMAT_MODULE_PATH = ["config.formats"]
STATIC_URL = "/static/"
# The files of the admin and of /docs/ are served from where they are installed; there is no collecting step to forget.
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
            # Django hands its records the request, and in that stands the query string.
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
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {
        "django.request": {"filters": ["unforeseen"]},
        "django.security": {"level": "CRITICAL"},  # anybody can cause it; the access line says 400 or 403
        # At DEBUG it writes all that a page was made of, a new secret or recovery code too.
        "django.template": {"level": "INFO"},
        "axes": {"level": "WARNING"},
    },
}
