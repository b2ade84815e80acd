"""The HTTP client: the exact request out, the raw bytes in."""
