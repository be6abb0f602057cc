"""Everything that is not a call: the worker and its tasks, and what the home page counts."""
