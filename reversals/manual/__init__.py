"""Manual reversals and corrections: preview, approval and bulk runs."""
