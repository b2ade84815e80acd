"""Event streams: from bytes to one completion."""
