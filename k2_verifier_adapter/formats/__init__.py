"""Files: dataset rows, EvalScope runs, upstream's results. Reading and writing, no judging."""
