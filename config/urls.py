"""The addresses of the API and of the back office.

Those of health and metrics are answered before these are looked at: `reversals.api.monitoring.views`.
"""

from django.contrib import admin
from django.urls import path, re_path
from django.views.decorators.csrf import csrf_exempt

from reversals.api.errors import not_found
from reversals.api.openapi.views import ReadDocument, ViewDocument
from reversals.api.reads.views import ListReversals, ReadPoints, ReadRedemption, ReadReversal
from reversals.api.redemptions import RedeemPoints
from reversals.api.reversals import ReversePoints

# An id in an address may hold anything, a slash or a line break too: what no id can be is answered as unknown.
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
    # In the envelope, and in DEBUG too: client programs read it. Django adds the slash to /admin and /docs.
    re_path(r"^(?!admin|docs$)", csrf_exempt(not_found), {"exception": None}),
]
handler400 = "reversals.api.errors.bad_request"
handler404 = "reversals.api.errors.not_found"
handler500 = "reversals.api.errors.server_error"
