"""Staff: the back office's site, access to orgs, the audit of changes, and sign-in."""
