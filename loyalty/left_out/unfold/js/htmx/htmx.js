// No page of the back office uses htmx, so this file takes the place of unfold's.
