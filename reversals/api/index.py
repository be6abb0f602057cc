"""Answers `/`: leads a browser to the back office, and tells a program the addresses of the API."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.vary import vary_on_headers

from reversals.api.errors import not_found

ADDRESSES = {
    "reverse": "POST /v2/points/reverse",
    "redeem": "POST /v2/customers/{customerId}/redemptions",
    "reversal": "GET /v2/points/reversals/{reversalId}",
    "reversals": "GET /v2/points/reversals?redemptionId=",
    "redemption": "GET /v2/points/redemptions/{redemptionId}",
    "points": "GET /v2/customers/{customerId}/points",
    "openapi": "GET /openapi.json",
    "documentation": "GET /docs/",
    "ready": "GET /health/ready",
    "backOffice": "GET /admin/",
}


@csrf_exempt
@vary_on_headers("Accept")
def index(request: HttpRequest) -> HttpResponse:
    """Redirects to /admin/ if the caller accepts HTML, as browsers do; else returns the addresses as JSON."""
    if request.method not in {"GET", "HEAD"}:
        return not_found(request, None)
    if "text/html" in request.headers.get("Accept", ""):
        return redirect("admin:index")
    return JsonResponse({"name": "Loyalty back office", "version": settings.VERSION, "addresses": ADDRESSES})
