"""Sets the environment of a test run before Django reads it, so that no test depends on a developer's `.env`."""

import gc
import os

os.environ["SECRET_KEY"] = "a-secret-for-tests-that-nobody-else-uses"
os.environ["API_PEPPER"] = ""
os.environ["DEBUG"] = "off"
os.environ["STAFF_SECOND_FACTOR"] = "off"
os.environ["HTTPS_ONLY"] = "off"
os.environ["ALLOWED_HOSTS"] = "testserver,localhost,127.0.0.1"
os.environ.setdefault("DATABASE_URL", "sqlite:///var/loyalty.sqlite3")
# All tests share an address and some send many wrong credentials, so limits are off unless a test sets them.
os.environ["API_FAILED_LOGINS_PER_MINUTE"] = "0"
os.environ["TRUSTED_PROXIES"] = os.environ["FORWARDED_FOR_HEADER"] = os.environ["FORWARDED_PROTO_HEADER"] = ""
os.environ["DATABASE_REPLICA_URL"] = ""
os.environ["METRICS_TOKEN"] = os.environ["EMAIL_URL"] = os.environ["PUBLIC_URL"] = ""
os.environ["DATABASE_POOLER"] = "off"
os.environ["LOG_FORMAT"] = "json"
# Django and pytest keep so many objects that to look among them for garbage as often as usual takes an eighth of a run.
gc.set_threshold(50_000)
