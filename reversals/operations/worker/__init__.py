"""The worker: runs scheduled and requested tasks, and delivers events."""
