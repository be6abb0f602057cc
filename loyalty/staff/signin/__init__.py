"""Sign-in of staff: the password, the second factor, the lock-out and the session's limits."""
