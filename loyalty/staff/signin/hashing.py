"""Hashes passwords on one thread of each worker, so that sign-ins do not occupy the threads that answer API calls."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from django.contrib.auth.hashers import PBKDF2PasswordHasher

# A hash takes a third of a second of CPU time. The request that asks for it waits, so waiting is bounded too: one
# password is being hashed and one waits.
AT_ONCE = 2
# API calls go first: a hash may take longer when they need the CPU.
NICE = 10


class HashingBusy(Exception):
    """Too many passwords are being hashed. Nothing was checked; the user can try again in a moment."""


class BoundedPBKDF2PasswordHasher(PBKDF2PasswordHasher):
    """Django's default hasher, with the same hashes. Raises HashingBusy instead of waiting behind several others."""

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        if not _places.acquire(blocking=False):
            raise HashingBusy
        try:
            return _hashing.submit(super().encode, password, salt, iterations).result()
        finally:
            _places.release()


def _yield_to_api_calls() -> None:
    with suppress(OSError):  # only Linux has a priority for each thread
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


_places = threading.BoundedSemaphore(AT_ONCE)
_hashing = ThreadPoolExecutor(1, "hashing", initializer=_yield_to_api_calls)
