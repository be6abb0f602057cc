"""The WSGI application that a production server loads."""

import gc
import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = get_wsgi_application()
# What is loaded by now stays: a collection that looked through all of it would hold up some call.
gc.freeze()
