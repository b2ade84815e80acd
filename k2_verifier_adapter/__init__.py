"""k2-verifier-adapter: does a vendor's Kimi K2 endpoint call tools as the official one does?

Importing this package is cheap and makes EvalScope use it for the benchmark `k2_verifier`.
"""

from k2_verifier_adapter.evalscope_plugin.registration import install
from k2_verifier_adapter.version import __version__

__all__ = ["__version__", "install"]


install()
