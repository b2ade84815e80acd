"""`python -m k2_verifier_adapter`: the `k2-verifier` command."""

from __future__ import annotations

from k2_verifier_adapter.cli import main

if __name__ == "__main__":
    main(prog_name="k2-verifier")
