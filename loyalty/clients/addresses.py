"""Finds the client address of a request, by which failed logins are counted."""

import logging
from collections.abc import Mapping
from functools import cache, lru_cache
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

from django.conf import settings
from django.http import HttpRequest

logger = logging.getLogger(__name__)

# Addresses of one IPv6 /64 count as one, because a network usually gets a whole /64.
IPV6_PREFIX = 64
# An IPv6 address with zone, brackets, quotes and port is shorter.
LONGEST_HOP = 100
# Packets from 100::/64 are discarded everywhere (RFC 6666), so no client has an address in it.
DISCARD_ONLY = int(IPv6Address("100::"))


def address_of(request: HttpRequest) -> str | None:
    """Returns the request's IPv4 address, or the first address of its IPv6 /64, or None without an address.

    Behind proxies, the header in FORWARDED_FOR_HEADER is read from its end, where each proxy appends its client, and
    only as far as proxies in TRUSTED_PROXIES wrote it, because a client can send any address in this header. An
    entry that is not an address counts as a separate address and not as the proxy that wrote it, because otherwise all
    clients of that proxy would share its limits.
    """
    return address_in(request.META)


def address_in(environ: Mapping[str, Any]) -> str | None:
    """Returns the same for the WSGI environment of a request."""
    address = _parsed(environ.get("REMOTE_ADDR", ""))
    if address is None:
        return None
    if _is_trusted(address):
        header = environ.get(settings.FORWARDED_FOR_HEADER)
        if header is None:
            _warn_of_missing_header()
        for hop in _hops(header):
            address = _parsed(hop)
            if address is None:
                return _in_place_of(hop)
            if not _is_trusted(address):
                break
    return _counted_as(address)


def comes_from_proxy(request: HttpRequest) -> bool:
    """Returns whether a proxy in TRUSTED_PROXIES sent the request."""
    address = _parsed(request.META.get("REMOTE_ADDR", ""))
    return address is not None and _is_trusted(address)


def _hops(header: str | None) -> list[str]:
    """Returns the header's entries from its end, without empty ones, or one empty entry if there is no other."""
    if header is None:
        return []
    hops = [hop.strip() for hop in header.split(",")]
    return [hop for hop in reversed(hops) if hop] or [""]


def _is_trusted(address: IPv4Address | IPv6Address) -> bool:
    return any(address in network for network in settings.TRUSTED_PROXIES)


def _parsed(hop: str) -> IPv4Address | IPv6Address | None:
    return _parsed_before(hop) if len(hop) <= LONGEST_HOP else None


@lru_cache(1024)
def _parsed_before(hop: str) -> IPv4Address | IPv6Address | None:
    """Returns the address in 192.0.2.1, 192.0.2.1:80, 2001:db8::1, [2001:db8::1], [2001:db8::1%eth0]:80 or quotes."""
    host = hop.strip().strip('"').strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ip_address(host.strip())
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _in_place_of(hop: str) -> str:
    """Returns an address that no client has, the same one for the same hop."""
    digest = sha256(hop.encode("utf-8", "replace")).digest()[: (128 - IPV6_PREFIX) // 8]
    return str(IPv6Address(DISCARD_ONLY + int.from_bytes(digest)))


def _counted_as(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((int(address), IPV6_PREFIX), strict=False).network_address)


@cache
def _warn_of_missing_header() -> None:
    """Warns once, because the proxy is then set up for another header and all its clients share its address."""
    logger.warning("a proxy in TRUSTED_PROXIES sent no header named by FORWARDED_FOR_HEADER; its clients share limits")
