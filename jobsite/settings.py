"""Every setting of the product, read from the environment with a working default."""

import os
import secrets
from datetime import timedelta
from pathlib import Path

import environ
from csp.constants import NONCE, NONE, SELF
from psycopg_pool.base import AttemptWithBackoff

from jobsite.instance import read_instance

env = environ.Env()
BASE_DIR = Path(__file__).resolve().parent.parent
DATA = Path(env.str("DATA", default=str(BASE_DIR / "var"))).resolve()

# --- Web -----------------------------------------------------------------------------------
DEBUG = env.bool("DEBUG", default=False)
# Without a key from the environment each process would sign with its own: `up` makes one and
# hands it to all; a lone command (migrate, create_token) may use a fresh one.
SECRET_KEY = env.str("SECRET_KEY", default="") or secrets.token_urlsafe(48)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
PORT = env.int("PORT", default=8000)
BASE_URL = env.str("BASE_URL", default=f"http://127.0.0.1:{PORT}")
BEHIND_TLS = env.bool("BEHIND_TLS", default=BASE_URL.startswith("https://"))

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "channels",
    "csp",
    "django_htmx",
    "rest_framework",
    "drf_spectacular",
    "knox",
    "jobsite",
    "access",
    "live",
    "nodes",
    "jobs",
    "rollouts",
]

MIDDLEWARE = [
    "jobsite.middleware.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    # Static files are compressed when they are collected, answers here.
    "django.middleware.gzip.GZipMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    # A view is for signed-in people unless it says otherwise (login_not_required).
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "jobsite.middleware.NulMiddleware",
    "jobsite.middleware.RefusalMiddleware",
]

ROOT_URLCONF = "jobsite.urls"
ASGI_APPLICATION = "jobsite.asgi.application"
APPEND_SLASH = True

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
                "access.context.navigation",
            ],
            "builtins": ["live.templatetags.components"],
        },
    }
]

# --- Truth: PostgreSQL -----------------------------------------------------------------------
# The running instance says where its sockets are: a long data path moves them elsewhere.
_running = read_instance(DATA).get("urls", {})
DATABASE_URL = env.str(
    "DATABASE_URL",
    default=_running.get("DATABASE_URL", f"postgresql://postgres@/app?host={DATA / 'run'}"),
)
DATABASES = {"default": environ.Env.db_url_config(DATABASE_URL)}
DATABASES["default"].update(
    {
        "CONN_MAX_AGE": 0,
        # A pooled connection that PostgreSQL's restart killed is replaced before it is used.
        "CONN_HEALTH_CHECKS": True,
        "ATOMIC_REQUESTS": False,
        "DISABLE_SERVER_SIDE_CURSORS": True,
    }
)
_timeouts = (
    f"-c statement_timeout={env.int('STATEMENT_TIMEOUT_MS', default=15000)} "
    "-c lock_timeout=5000 -c idle_in_transaction_session_timeout=30000"
)
DATABASES["default"].setdefault("OPTIONS", {}).update(
    {
        "options": _timeouts,
        "pool": {
            "min_size": 1,
            "max_size": env.int("DATABASE_POOL", default=12),
            "timeout": env.float("DATABASE_POOL_TIMEOUT", default=10),
        },
    }
)
# Left alone, a pool waits 1, 2, 4… up to 300 s between its tries, and as long between connections
# that died with a restarted server: PostgreSQL would be back for minutes before it is asked again.
AttemptWithBackoff.INITIAL_DELAY = 0.25
AttemptWithBackoff.DELAY_BACKOFF = 1.0
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Doorbell: Valkey or Redis ---------------------------------------------------------------
REDIS_URL = env.str(
    "REDIS_URL",
    default=_running.get("REDIS_URL", f"unix://{DATA / 'run' / 'valkey.sock'}?db=0"),
)


def broker_url(redis_url: str) -> str:
    """Celery's form of a Redis URL: sockets are spelt `redis+socket`, and it has database 1."""
    if redis_url.startswith("unix://"):
        path = redis_url.removeprefix("unix://").split("?")[0]
        return f"redis+socket://{path}?virtual_host=1"
    return redis_url


CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", default=broker_url(REDIS_URL))
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL], "prefix": env.str("CHANNEL_PREFIX", default="jobsite")},
    }
}
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}
}

# --- Celery: a doorbell, nothing more (law 1; asserted by a test) ----------------
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_TIME_LIMIT = 30
CELERY_TASK_SOFT_TIME_LIMIT = 20
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 60,
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "socket_timeout": 10,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 25,
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_CHANNEL_ERROR_RETRY = True
# A process of a worker's pool is renewed after so many tasks; 0 is never.
CELERY_WORKER_MAX_TASKS_PER_CHILD = env.int("WORKER_TASKS", default=500) or None
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 15
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_WORKER_HIJACK_ROOT_LOGGER = False

# --- Access ------------------------------------------------------------------------------------
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
LOGIN_URL = "access:sign-in"
LOGIN_REDIRECT_URL = "dashboard"
LOGOUT_REDIRECT_URL = "access:sign-in"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = BEHIND_TLS
SESSION_COOKIE_NAME = "__Host-session" if BEHIND_TLS else "session"
CSRF_COOKIE_SECURE = BEHIND_TLS
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "access.views.csrf_failure"
KNOX_TOKEN_MODEL = "access.ApiToken"  # noqa: S105 - the name of a model
# Its migrations would make a second, unused table of tokens beside access.ApiToken's.
MIGRATION_MODULES = {"knox": None}
REST_KNOX = {
    "TOKEN_TTL": timedelta(days=90),
    "TOKEN_PREFIX": "jst_",
    "AUTH_HEADER_PREFIX": "Bearer",
    "TOKEN_MODEL": "access.ApiToken",
}

# --- Headers -----------------------------------------------------------------------------------
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_HSTS_SECONDS = 31536000 if BEHIND_TLS else 0
SECURE_SSL_REDIRECT = False
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_TLS else None
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF, NONCE],
        "style-src": [SELF, NONCE],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    }
}

# --- REST --------------------------------------------------------------------------------------
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "access.authentication.ApiTokenAuthentication",
        "access.authentication.BrowserSessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PARSER_CLASSES": [
        "jobsite.rest.StrictJsonParser",
        "jobsite.rest.StrictYamlParser",
        "jobsite.rest.StrictOldYamlParser",
    ],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "jobsite.rest.JsonWhateverIsAccepted",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "EXCEPTION_HANDLER": "jobsite.rest.problem_handler",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Jobsite",
    "DESCRIPTION": "Jobs on a fleet of nodes, rolled out in waves.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.IsAuthenticated"],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "jobsite.openapi.add_refusals",
    ],
}

# --- Static files ------------------------------------------------------------------------------
STATIC_URL = "/static/"
STATIC_ROOT = DATA / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": env.str(
            "STATICFILES_STORAGE",
            default="whitenoise.storage.CompressedManifestStaticFilesStorage",
        )
    },
}
WHITENOISE_USE_FINDERS = DEBUG

# --- Time and language -------------------------------------------------------------------------
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

# --- Nodes: presence (docs/semantics.md 1.10) -----------------------------------------------------------
HEARTBEAT_INTERVAL = timedelta(seconds=env.float("HEARTBEAT_INTERVAL", default=10))
DISCONNECTED_AFTER = timedelta(seconds=env.float("DISCONNECTED_AFTER", default=30))
LOST_AFTER = timedelta(seconds=env.float("LOST_AFTER", default=330))
START_GRACE = timedelta(seconds=env.float("START_GRACE", default=90))
# The start clock of an execution whose job has no health check (docs/semantics.md C02).
START_DEADLINE = timedelta(seconds=env.float("START_DEADLINE", default=300))
# How often what is due is looked for without being told, by the web's sweeper and by beat's bell.
SWEEP_INTERVAL = timedelta(seconds=env.float("SWEEP_INTERVAL", default=1))
# A jump of the ingest clock by more than this is a gap in which silence is no evidence.
INGEST_GAP = timedelta(seconds=5)
# At most this share of a namespace turns lost in one sweep; above it the sweep holds.
LOST_BRAKE_PERCENT = env.int("LOST_BRAKE_PERCENT", default=20)
# What /install/agent.pyz serves; `up` builds it.
AGENT_FILE = DATA / "jobsite-agent.pyz"
CONTROL_KEY_FILE = Path(env.str("CONTROL_KEY_FILE", default=str(DATA / "control_key")))

# How long windows, log lines, evaluations and events of executions and nodes are kept; 0 days is
# for ever (docs/semantics.md 4.13).
RETENTION = timedelta(days=env.float("RETENTION_DAYS", default=30))

# --- Logs --------------------------------------------------------------------------------------
LOG_LEVEL = env.str("LOG_LEVEL", default="INFO")
LOG_FILE = env.str("JOBSITE_LOG_FILE", default="")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {"()": "jobsite.logs.JsonFormatter"},
        "console": {"format": "%(levelname)s %(name)s %(message)s"},
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": env.str("LOG_FORMAT", default="console"),
        },
    },
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        "django.request": {"level": "ERROR"},
        "uvicorn.error": {"level": "WARNING"},
        "uvicorn.access": {"level": "WARNING"},
        # A line for each ring of a bell would drown the rest.
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
        # One line a request: the file always, the console never.
        "jobsite.request": {"level": "INFO", "handlers": [], "propagate": False},
    },
}
if LOG_FILE:
    LOGGING["handlers"]["file"] = {  # type: ignore[index]
        "class": "logging.handlers.WatchedFileHandler",
        "filename": LOG_FILE,
        "formatter": "json",
    }
    LOGGING["root"]["handlers"].append("file")  # type: ignore[index]
    LOGGING["loggers"]["jobsite.request"]["handlers"] = ["file"]  # type: ignore[index]
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobsite.settings")
