"""JSON Schemas: upstream's verdict, within bounded time."""
