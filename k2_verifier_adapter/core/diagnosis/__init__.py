"""Probable causes: from what the responses show to what may be wrong with the server."""
