"""What may not be shown: credentials, and texts that a shared report leaves out."""
