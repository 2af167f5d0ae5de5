"""Where slides are opened from: one file a kind, all through EZ-WSI."""
