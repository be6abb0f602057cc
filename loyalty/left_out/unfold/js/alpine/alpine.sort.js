// No page of the back office sorts rows by dragging, so this file takes the place of unfold's.
