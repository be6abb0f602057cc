"""The WSGI application that a production server loads."""

import gc
import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
_django = get_wsgi_application()

# Imported after Django is set up, because it reads settings.
from config.floods import refusing_floods  # noqa: E402

application = refusing_floods(_django)
# Excludes all objects loaded so far from garbage collection, because a scan of them would delay a call.
gc.freeze()
if settings.MONITORING_ADDRESS:
    from config.monitoring import serve_monitoring  # it needs Django's apps

    serve_monitoring(_django, settings.MONITORING_ADDRESS)
