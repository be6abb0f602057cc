"""What the back office costs on a large ledger, measured on this machine; run by `make bench`."""
