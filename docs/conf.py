"""Configures Sphinx for the documentation: `make docs` builds it into var/docs, offline, and fails on any warning."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from config import __version__

project = "Loyalty back office"
author = "The authors of the loyalty back office"
version = release = __version__

extensions = ["myst_parser"]
# Headings down to the third level get an anchor, so that links like `page.md#heading` work here and on a code host.
myst_heading_anchors = 3
exclude_patterns = ["clients"]

html_theme = "furo"
html_title = f"{project} {version}"
html_show_copyright = False
