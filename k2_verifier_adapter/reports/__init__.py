"""Reports: one summary, shown as text or JSON, and the exit code that follows from it."""
