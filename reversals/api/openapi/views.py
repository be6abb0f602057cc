"""Serves the OpenAPI document publicly: as JSON, and as a page where calls can be tried."""

from csp.constants import SELF
from csp.decorators import csp_replace
from django.http import HttpResponse
from django.utils.decorators import method_decorator
from drf_spectacular.utils import extend_schema_view
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.request import Request

from reversals.api.call import ApiView
from reversals.api.openapi import operations
from reversals.api.openapi.generation import written_document
from reversals.refusals import ReadError

METHODS = ("get", "head")

# Restricts the page to this server, even if a later version of its scripts calls other hosts.
_POLICY = {
    "script-src": [SELF],
    "connect-src": [SELF],
    "style-src": [SELF],
    "img-src": [SELF, "data:"],
}


class ReadDocument(ApiView):
    """`GET /openapi.json`."""

    authentication_classes = ()
    http_method_names = METHODS
    ladder = ReadError

    @operations.read_document
    def get(self, request: Request) -> HttpResponse:
        return HttpResponse(written_document(), content_type="application/json")


@extend_schema_view(get=operations.view_document)
@method_decorator(csp_replace(_POLICY), name="dispatch")
class ViewDocument(SpectacularSwaggerSplitView):
    """`GET /docs/`."""

    authentication_classes = ()
    http_method_names = METHODS
    ladder = ReadError
    url_name = "openapi"
    template_name = "document/viewer.html"
    template_name_js = "document/viewer.js"
