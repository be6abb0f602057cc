"""Finds the client address of a request, by which failed logins are counted."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from django.conf import settings
from django.http import HttpRequest

# Addresses of one IPv6 /64 count as one, because a network usually gets a whole /64.
IPV6_PREFIX = 64


def address_of(request: HttpRequest) -> str | None:
    """Returns the request's IPv4 address, or the first address of its IPv6 /64, or None without an address.

    X-Forwarded-For is read from its end, where each proxy appends the address of its client. It is read only as far as
    proxies in TRUSTED_PROXIES wrote it, because a client can send any address in this header.
    """
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    believed = None
    for hop in (request.META.get("REMOTE_ADDR", ""), *reversed(forwarded)):
        address = _parsed(hop)
        if address is None:
            break
        believed = address
        if not any(address in network for network in settings.TRUSTED_PROXIES):
            break
    return None if believed is None else _counted_as(believed)


@lru_cache(1024)
def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.strip())
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _counted_as(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((int(address), IPV6_PREFIX), strict=False).network_address)
