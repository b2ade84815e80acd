"""The contract of tool calling: probes, what they expect, and what their answers are worth."""
