"""Tells where a request comes from, for whoever counts failures by address."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from django.conf import settings
from django.http import HttpRequest

# Whoever has one IPv6 address has its whole /64.
IPV6_PREFIX = 64


def address_of(request: HttpRequest) -> str | None:
    """The IPv4 address that the request comes from, or the first one of the IPv6 /64; None where there is none.

    A header could name any address, so X-Forwarded-For is read only as far as a proxy of TRUSTED_PROXIES wrote it:
    from its end, where each proxy adds whom it answers.
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
