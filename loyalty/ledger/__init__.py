"""The ledger: what points, lots and redemptions are, how they are locked, read and drawn."""
