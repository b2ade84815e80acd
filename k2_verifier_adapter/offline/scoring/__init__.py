"""Scoring results files offline: in this process, in several, or on Ray."""
