"""The ledger: amounts of points, identifiers, locks, queries and the drawing order."""
