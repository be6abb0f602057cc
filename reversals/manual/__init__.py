"""What staff ask for: reversals and corrections, previewed, approved and made in bulk."""
