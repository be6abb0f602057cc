"""The URLs of the API and of the back office.

The URLs of health checks and metrics are not here, because `MonitoringMiddleware` answers them first.
"""

from django.contrib import admin
from django.urls import path, re_path
from django.views.decorators.csrf import csrf_exempt

from reversals.api.errors import not_found
from reversals.api.index import index
from reversals.api.openapi.views import ReadDocument, ViewDocument
from reversals.api.reads.views import ListReversals, ReadPoints, ReadRedemption, ReadReversal
from reversals.api.redemptions import RedeemPoints
from reversals.api.reversals import ReversePoints

# An id in a URL may contain any character, even a slash or a line break. An impossible id is answered as unknown.
urlpatterns = [
    re_path(r"^v2/points/reverse/?$", ReversePoints.as_view()),
    re_path(r"^v2/customers/(?P<customer_id>[^/]+)/redemptions/?$", RedeemPoints.as_view()),
    re_path(r"^v2/points/reversals/?$", ListReversals.as_view()),
    re_path(r"^v2/points/reversals/(?P<reversal_id>(?s:.+?))/?$", ReadReversal.as_view()),
    re_path(r"^v2/points/redemptions/(?P<redemption_id>(?s:.+?))/?$", ReadRedemption.as_view()),
    re_path(r"^v2/customers/(?P<customer_id>(?s:.+?))/points/?$", ReadPoints.as_view()),
    path("openapi.json", ReadDocument.as_view(), name="openapi"),
    path("docs/", ViewDocument.as_view()),
    path("admin/", admin.site.urls),
    path("", index),
    # Unknown URLs are answered in the API's envelope, with DEBUG too, because client programs read the reply. The URLs
    # /admin and /docs are excluded, because Django redirects them to the URL with a slash.
    re_path(r"^(?!admin|docs$)", csrf_exempt(not_found), {"exception": None}),
]
handler403 = "loyalty.staff.error_pages.forbidden"
handler400 = "reversals.api.errors.bad_request"
handler404 = "reversals.api.errors.not_found"
handler500 = "reversals.api.errors.server_error"
