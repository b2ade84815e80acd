"""The version and the benchmark's name, where every layer can read them."""

__version__ = "0.1.0"

BENCHMARK = "k2_verifier"
