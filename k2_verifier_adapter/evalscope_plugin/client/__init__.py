"""The exact request out, the raw bytes in: one retry layer, the pace, what may be spent."""
