"""Every setting, from the environment (and `.env`): one file, no base/dev/prod.

DEBUG on 127.0.0.1 is the default, so that a clone runs at once. Production means `DEBUG=false`;
a wrong or missing value then stops the start with a sentence that names the variable.
"""

import contextlib
import os
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

from config.backoffice import UNFOLD as UNFOLD  # the admin's navigation is code of its own

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()
env_file = env.str("ENV_FILE", default=str(BASE_DIR / ".env"))
env.read_env(env_file)  # a missing file is fine; the environment wins


def _var_dir() -> Path:
    """Return the directory of everything we write, made where it is not there yet."""
    directory = Path(env.str("VAR_DIR", default=str(BASE_DIR / "var")))
    with contextlib.suppress(OSError):
        directory.mkdir(parents=True, exist_ok=True)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ImproperlyConfigured(
            f"No permission to write in {directory}: run as the owner of this folder, "
            "or set VAR_DIR to a folder of your own."
        )
    return directory


VAR_DIR = _var_dir()


def _secret_key(debug: bool) -> str:
    """Return SECRET_KEY; in DEBUG a random one is kept under `var/` so that logins survive."""
    key: str = env.str("SECRET_KEY", default="")
    if key:
        return key
    if not debug:
        raise ImproperlyConfigured("SECRET_KEY is missing: set it to a long random text.")
    kept = VAR_DIR / "secret_key"
    if not kept.exists():
        kept.write_text(secrets.token_urlsafe(50))
    return kept.read_text()


def _number(name: str, default: int, lowest: int, highest: int) -> int:
    """Return a setting that is a whole number; raises ImproperlyConfigured with what to write."""
    text = env.str(name, default=str(default)).strip()
    if not (text.isascii() and text.isdigit() and lowest <= int(text) <= highest):
        raise ImproperlyConfigured(
            f"{name} must be a whole number from {lowest} to {highest}, not “{text}”."
        )
    return int(text)


# --- where and how we run -----------------------------------------------------------------------

DEBUG = env.bool("DEBUG", default=True)
PORT = _number("PORT", 8000, 0, 65_535)
PUBLIC_URL = env.str("PUBLIC_URL", default=f"http://127.0.0.1:{PORT}").rstrip("/")
SECRET_KEY = _secret_key(DEBUG)
_public = urlsplit(PUBLIC_URL)
if _public.scheme not in ("http", "https") or not _public.hostname:
    raise ImproperlyConfigured("PUBLIC_URL must be a full address such as https://charge.example")
if not DEBUG and "PUBLIC_URL" not in env.ENVIRON:
    raise ImproperlyConfigured("PUBLIC_URL is missing: set it to the address drivers open.")
ALLOWED_HOSTS = env.list(
    "ALLOWED_HOSTS",
    default=["127.0.0.1", "localhost", "[::1]", "testserver"] if DEBUG else [_public.hostname],
)
CSRF_TRUSTED_ORIGINS = [f"{_public.scheme}://{_public.netloc}"]
SECURE = _public.scheme == "https"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE
SECURE_SSL_REDIRECT = not DEBUG and SECURE
# Proxies (addresses or networks) whose X-Forwarded-For and -Proto are believed; nobody else's are.
# TLS ended by this process, without a proxy; nginx is the usual way (docs/operations.md).
TLS_CERTIFICATE = env.str("TLS_CERTIFICATE", default="")
TLS_KEY = env.str("TLS_KEY", default="")
TLS_CLIENT_CA = env.str("TLS_CLIENT_CA", default="")
TRUSTED_PROXIES = env.list("FORWARDED_ALLOW_IPS", default=[] if DEBUG else ["127.0.0.1", "::1"])
SECURE_HSTS_SECONDS = 31_536_000 if SECURE and not DEBUG else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = bool(SECURE_HSTS_SECONDS)
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CSRF_FAILURE_VIEW = "billing.portal.errors.csrf_failure"

# --- databases, broker: embedded by default, PostgreSQL and Redis when named ----------------------

_sqlite_options: dict[str, Any] = {
    "timeout": 20,
    "transaction_mode": "IMMEDIATE",
    "init_command": (
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
        " PRAGMA temp_store=MEMORY; PRAGMA cache_size=-32000"
    ),
}


def _database() -> dict[str, Any]:
    """Return Django's settings of the one database: `DATABASE_URL`, or SQLite under `var/`."""
    url = env.str("DATABASE_URL", default="")
    try:
        config: dict[str, Any] = dict(
            env.db_url_config(url or f"sqlite:///{VAR_DIR / 'csms.sqlite3'}")
        )
    except Exception as error:  # environ raises several kinds
        raise ImproperlyConfigured(f"DATABASE_URL is not a database address: {error}") from error
    if config["ENGINE"].endswith("sqlite3"):
        config["ENGINE"] = "stations.sqlite3"  # transactions of a process take turns
        config["OPTIONS"] = _sqlite_options
        config["CONN_MAX_AGE"] = None
        config["TEST"] = {"NAME": env.str("TEST_SQLITE", default="") or None}
    else:
        config["CONN_HEALTH_CHECKS"] = True  # a connection that a restart broke is never handed out
        config["OPTIONS"] = {"pool": {"min_size": 1, "max_size": _number("DB_POOL", 12, 1, 1_000)}}
    return config


DATABASES = {"default": _database()}
IS_SQLITE = DATABASES["default"]["ENGINE"].endswith("sqlite3")
# Units (an incoming call each) that share one commit; 1 turns the group commit off, to measure it.
WRITER_MAX_BATCH = _number("WRITER_MAX_BATCH", 500, 1, 10_000)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env.str("REDIS_URL", default="")
EMBEDDED = not REDIS_URL  # one process: broker, schedule and news bus in memory
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}
    if REDIS_URL
    else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
}
CELERY_BROKER_URL = REDIS_URL or "memory://localhost/"
CELERY_BROKER_TRANSPORT_OPTIONS = {} if REDIS_URL else {"polling_interval": 0.05}
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ALWAYS_EAGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_MAX_MEMORY_PER_CHILD = 400_000  # KiB: PDF rendering grows
CELERY_TIMEZONE = "UTC"

# --- applications ---------------------------------------------------------------------------------

INSTALLED_APPS = [
    "daphne",
    "unfold",
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "unfold.contrib.import_export",
    "unfold.contrib.simple_history",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "djmoney",
    "import_export",
    "simple_history",
    "django_htmx",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "config",  # for `manage.py run`
    "stations",
    "monitoring",
    "firmware",
    "billing",
]
AUTH_USER_MODEL = "stations.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*"]
ACCOUNT_LOGIN_BY_CODE_ENABLED = True
# Whoever signs up shows first that the address is theirs, with a code sent to it: an account opened
# for somebody else's address would otherwise be shared with its owner, who signs in by code later.
ACCOUNT_ADAPTER = "config.signin.Accounts"
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_EMAIL_VERIFICATION_BY_CODE_ENABLED = True
ACCOUNT_RATE_LIMITS = {"login_failed": "10/m/ip,5/5m/key"}
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/account/"
MFA_TOTP_ISSUER = "CSMS"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

MIDDLEWARE = [
    "config.middleware.probes",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.csp.ContentSecurityPolicyMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "config.middleware.back_office_language",
    "config.middleware.back_office_policy",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "billing.portal.errors.unknown_addresses",
    "allauth.account.middleware.AccountMiddleware",
    "simple_history.middleware.HistoryRequestMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "config.middleware.acting_user",
    "config.signin.second_factor",
]
ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.csp",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "billing.portal.context.brand",
            ],
        },
    },
]

# --- words, times, money --------------------------------------------------------------------------

LANGUAGE_CODE = "en"
LANGUAGES = [
    ("en", _("English")),
    ("de", _("German")),
    ("fr", _("French")),
    ("it", _("Italian")),
    ("nl", _("Dutch")),
    ("es", _("Spanish")),
    ("pl", _("Polish")),
]
LOCALE_PATHS = [BASE_DIR / "templates" / "locale"]
TIME_ZONE = "UTC"
USE_TZ = USE_I18N = True
DEFAULT_CURRENCY = env.str("DEFAULT_CURRENCY", default="EUR")

# --- files ----------------------------------------------------------------------------------------

STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
MEDIA_ROOT = VAR_DIR / "media"
STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # WhiteNoise warns where it is missing
MEDIA_URL = (
    ""  # nothing uploaded is served by name: firmware, logs and PDFs have views of their own
)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = DEBUG
DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 1024 * 1024

# --- the back office ------------------------------------------------------------------------------

# Staff must set up an authenticator app before the back office opens.
STAFF_SECOND_FACTOR = env.bool("STAFF_SECOND_FACTOR", default=not DEBUG)
# Maps show a bundled outline of the countries. A tile server is asked only where one is named.
MAP_TILES_URL = env.str("MAP_TILES_URL", default="")
# Where pages may fetch tiles from: `https://{s}.tile.example/{z}/…` → `https://*.tile.example`.
MAP_TILES_ORIGIN = "/".join(MAP_TILES_URL.split("/", 3)[:3]).replace("{s}", "*")
MAP_ATTRIBUTION = env.str("MAP_ATTRIBUTION", default="")

# --- chargers -------------------------------------------------------------------------------------

JOURNAL_REACTIONS = "config.reactions.REACTIONS"

OCPP_UNKNOWN_STATIONS = env.str("OCPP_UNKNOWN_STATIONS", default="pending")
if OCPP_UNKNOWN_STATIONS not in ("reject", "pending", "accept"):
    raise ImproperlyConfigured("OCPP_UNKNOWN_STATIONS must be reject, pending or accept.")
MASTER_PASS_GROUP = env.str("MASTER_PASS_GROUP", default="")  # its tokens stop any session
FRAMES_KEPT_DAYS = _number("FRAMES_KEPT_DAYS", 90, 1, 36_500)

# --- payments, mail, watching ---------------------------------------------------------------------

STRIPE_API_KEY = env.str("STRIPE_API_KEY", default="")
STRIPE_PUBLISHABLE_KEY = env.str("STRIPE_PUBLISHABLE_KEY", default="")
STRIPE_WEBHOOK_SECRET = env.str("STRIPE_WEBHOOK_SECRET", default="")
STRIPE_API_BASE = env.str("STRIPE_API_BASE", default="")
if STRIPE_API_BASE and not DEBUG:
    raise ImproperlyConfigured("STRIPE_API_BASE is for the sandbox only: unset it in production.")
# The stand-in for Stripe: only with DEBUG, on loopback, and without keys of our own.
PAYMENT_SANDBOX = (
    DEBUG and not STRIPE_API_KEY and _public.hostname in ("127.0.0.1", "localhost", "::1")
)


def _mailer() -> dict[str, Any]:
    """Return how mail leaves: `EMAIL_URL`, or files under `var/mail` where none is named."""
    if not env.str("EMAIL_URL", default=""):
        return {
            "BACKEND": "django.core.mail.backends.filebased.EmailBackend",
            "OPTIONS": {"file_path": str(VAR_DIR / "mail")},
        }
    try:
        given = env.email_url("EMAIL_URL")
    except Exception as error:  # environ raises several kinds
        raise ImproperlyConfigured(f"EMAIL_URL is not a mail address: {error}") from error
    if not given["EMAIL_BACKEND"].endswith("smtp.EmailBackend"):
        return {"BACKEND": given["EMAIL_BACKEND"]}
    return {
        "BACKEND": given["EMAIL_BACKEND"],
        "OPTIONS": {
            "host": given["EMAIL_HOST"],
            "port": given["EMAIL_PORT"] or 25,
            "username": given["EMAIL_HOST_USER"] or "",
            "password": given["EMAIL_HOST_PASSWORD"] or "",
            "use_tls": given.get("EMAIL_USE_TLS", False),
            "use_ssl": given.get("EMAIL_USE_SSL", False),
            "timeout": 20,
        },
    }


MAILERS = {"default": _mailer()}
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.str(
    "DEFAULT_FROM_EMAIL", default=f"charging@{_public.hostname}"
)
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")
# Hosts in our own network that a webhook may be sent to; every other private address is refused.
WEBHOOK_PRIVATE_HOSTS = env.list("WEBHOOK_PRIVATE_HOSTS", default=[])
SENTRY_DSN = env.str("SENTRY_DSN", default="")
if SENTRY_DSN:
    import sentry_sdk  # takes a third of a second

    sentry_sdk.init(dsn=SENTRY_DSN, send_default_pii=False)

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", default="INFO")},
    "loggers": {
        "django.server": {"level": "WARNING"},
        "celery": {"level": "WARNING"},
        "stripe": {"level": "WARNING"},
        "uvicorn": {"level": "WARNING"},  # nginx keeps the access log
    },
}
