"""All that knows EvalScope: taking the name over, the transport, the evaluator, the adapter."""
