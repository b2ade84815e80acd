"""`k2-verifier` as a command on the path of a shell, without the seconds that EvalScope takes to load for each call."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from support.runs import without_proxy

_CALL = """#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect({address!r})
    call = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [call], [0, 1, 2])
    sys.exit(server.recv(1)[0])
"""


@contextlib.contextmanager
def installed() -> Iterator[Path]:
    """Give a folder for the path, with `k2-verifier` and `python`, as an installation makes one."""
    # A socket's address may have about a hundred characters, which pytest's folders can exceed.
    with tempfile.TemporaryDirectory(prefix="k2-") as name:
        folder, address = Path(name) / "bin", str(Path(name) / "socket")
        folder.mkdir()
        texts = {
            "python": f'#!/bin/sh\nexec "{sys.executable}" "$@"\n',
            "k2-verifier": _CALL.format(python=sys.executable, address=address),
        }
        for command, text in texts.items():
            (folder / command).write_text(text)
            (folder / command).chmod(0o755)
        with subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("command_server.py")), address],
            # Pipes both: Python's streams would go on seeking where they began as files.
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Forks of a process with threads may hang.
            env=without_proxy({**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}),
        ) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            try:
                yield folder
            finally:
                with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as last:
                    last.connect(address)
                    last.send(b"")
