"""How the machines that watch this one, and people who look for a call, learn what it does."""
