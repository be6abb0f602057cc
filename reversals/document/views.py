"""The document's two addresses: as JSON, and as a page with calls to try; both for everyone."""

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema_view
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.request import Request
from rest_framework.views import APIView

from reversals.document import operations
from reversals.document.generation import written_document
from reversals.errors import ReadError

METHODS = ("get", "head")

# The page asks nobody but this server, whatever its scripts may learn to do.
_OWN_SERVER_ONLY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
)


class ReadDocument(APIView):
    """`GET /openapi.json`."""

    authentication_classes = ()
    http_method_names = METHODS
    ladder = ReadError

    @operations.read_document
    def get(self, request: Request) -> HttpResponse:
        return HttpResponse(written_document(), content_type="application/json")


@extend_schema_view(get=operations.view_document)
class ViewDocument(SpectacularSwaggerSplitView):
    """`GET /docs/`."""

    authentication_classes = ()
    http_method_names = METHODS
    ladder = ReadError
    url_name = "openapi"
    template_name_js = "document/viewer.js"

    @property
    def default_response_headers(self) -> dict[str, str]:
        return super().default_response_headers | {"Content-Security-Policy": _OWN_SERVER_ONLY}
