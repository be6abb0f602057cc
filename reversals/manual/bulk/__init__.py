"""Reversals by hand that are asked for together: from a file or a selection, checked first, then made one by one."""
