"""Errors that the package raises for its users.

Every error says what is wrong, the offending value, what was expected and what to do; the command
line prints it without a traceback, EvalScope shows it as the exception's last line.
"""

from __future__ import annotations


class K2VerifierError(Exception):
    """Base class of everything this package raises on purpose."""


class UsageError(K2VerifierError):
    """A setting, flag or file name cannot be used as given."""


class DataError(K2VerifierError):
    """Rows, results or a run directory cannot be read."""


class BadRowsError(DataError):
    """At least one row cannot be used; all bad rows are listed.

    Attributes:
        problems: One `RowProblem` text a bad row, in file order.
    """

    def __init__(self, source: str, problems: list[str], total: int, *, shown: int = 20) -> None:
        self.source = source
        self.problems = problems
        listed = "; ".join(problems[:shown])
        more = f"; and {len(problems) - shown} more" if len(problems) > shown else ""
        noun = "row" if len(problems) == 1 else "rows"
        super().__init__(
            f"{source}: {len(problems)} of {total} {noun} cannot be used: {listed}{more}. "
            "Correct or remove them; nothing was sent."
        )


class CacheMismatchError(K2VerifierError):
    """A stored response answers a request that differs from today's."""


class EndpointError(K2VerifierError):
    """The endpoint refused or failed the first requests alike, so the run was stopped."""


class TakeoverError(K2VerifierError):
    """EvalScope's own benchmark of the same name would run instead of this adapter."""


class RunInterruptedError(K2VerifierError):
    """The user interrupted a run; what was answered is stored.

    Attributes:
        run: Path of the run directory.
    """

    def __init__(self, run: str) -> None:
        self.run = run
        super().__init__(f"interrupted; what was answered is kept: go on with --use-cache {run}")
