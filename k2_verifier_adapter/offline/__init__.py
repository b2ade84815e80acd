"""Work without EvalScope: runs and logs to summaries, comparisons, rows of official answers."""
