"""How staff sign in: the password, then the second factor; and how long that lasts."""
