"""What one response is worth, and which failures it shows."""
