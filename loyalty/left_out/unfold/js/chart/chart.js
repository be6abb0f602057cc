// The server draws the charts, so this file takes the place of unfold's chart library.
