"""The version and the benchmarks' names, where every layer can read them."""

__version__ = "0.1.0"

BENCHMARK = "k2_verifier"
CONFORMANCE = "kimi_conformance"
BENCHMARKS = (BENCHMARK, CONFORMANCE)
