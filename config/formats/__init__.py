"""Date and time formats of the back office: ISO 8601, because it is unambiguous in every country."""
