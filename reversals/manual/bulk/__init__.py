"""Bulk runs: many manual reversals from a file or a selection, checked first and then made one by one."""
