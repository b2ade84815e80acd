"""Errors that the package raises for its users.

Every error says what is wrong, the offending value, what was expected and what to do; the command
line prints it without a traceback, EvalScope shows it as the exception's last line.
"""

from __future__ import annotations

import errno
import os

_FULL = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})
_REFUSED = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO),
        *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
    }
)


class K2VerifierError(Exception):
    """Base class of everything this package raises on purpose."""


class UsageError(K2VerifierError):
    """A setting, flag or file name cannot be used as given."""


class UnknownFlagError(UsageError):
    """A flag is none of EvalScope's."""

    def __init__(self, flag: str, known: list[str]) -> None:
        self.flag = flag
        self.known = known
        what = "unknown flag" if flag.startswith("-") else "belongs to no flag:"
        super().__init__(f"{what} {flag!r}; see `k2-verifier eval --help`, `evalscope eval --help`")


class DataError(K2VerifierError):
    """Rows, results or a run directory cannot be read."""


class BadRowsError(DataError):
    """At least one row cannot be used; all of them are listed, in file order."""

    def __init__(
        self, source: str, problems: list[str], total: int, *, shown: int = 20, advice: str | None = None
    ) -> None:
        self.source = source
        self.problems = problems
        listed = "; ".join(problems[:shown])
        more = f"; and {len(problems) - shown} more" if len(problems) > shown else ""
        noun = "row" if len(problems) == 1 else "rows"
        super().__init__(
            f"{source}: {len(problems)} of {total} {noun} cannot be used: {listed}{more}. "
            f"{advice or 'Correct or remove them'}; nothing was sent."
        )


class StorageError(DataError):
    """A file cannot be written: the disk is full or read-only, or its place cannot be written to."""

    def __init__(self, path: str | os.PathLike[str], cause: OSError, *notes: str) -> None:
        """Make the message: what, why, and the notes, which say what is lost and what to do."""
        self.path = os.fspath(path)
        self.cause = cause
        what = f"{self.path}: cannot be written: {cause.strerror or cause}"
        super().__init__("; ".join((what, *notes)))

    @property
    def full(self) -> bool:
        """Whether space is what is missing: on the disk, in the quota, or in a file's allowed size."""
        return self.cause.errno in _FULL

    @classmethod
    def of(cls, error: OSError, place: str | os.PathLike[str]) -> StorageError | None:
        """Take an error of the operating system for one of storage; None if it is about something else.

        The place is named where the error names no file, as that of a failed `write`.
        """
        if error.errno not in _FULL | _REFUSED:
            return None
        named = isinstance(error.filename, str) and error.filename
        return cls(named or place, error)


class CacheMismatchError(K2VerifierError):
    """A stored response answers a request that differs from today's."""


class EndpointError(K2VerifierError):
    """The endpoint refused the first requests, as it will the others, so the run was stopped."""


class TakeoverError(K2VerifierError):
    """EvalScope's own benchmark of the same name would run instead of this adapter."""


class RunInterruptedError(K2VerifierError):
    """The user interrupted a run; what was answered is stored in its directory."""

    def __init__(self, run: str) -> None:
        self.run = run
        super().__init__(f"interrupted; what was answered is kept: go on with --use-cache {run}")


class RunStoppedError(RunInterruptedError, EndpointError):
    """A run could not succeed any more and was stopped; what was answered is stored in its directory."""

    def __init__(self, run: str, reason: str) -> None:
        super().__init__(run)
        self.reason = reason
        self.args = (f"stopped: {reason}; what was answered is kept: go on with --use-cache {run}",)
