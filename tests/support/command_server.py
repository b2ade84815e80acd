"""The process behind `installed_command.py`: loads EvalScope once, then forks a child for every call of the command.

A call is one message: arguments, folder and environment, and the caller's three streams. The answer is the exit code.
"""

import gc
import importlib
import json
import os
import socket
import sys
import traceback

_LOADED = (
    "evalscope.benchmarks",
    "evalscope.report.renderer",
    "evalscope.run",
    "k2_verifier_adapter.evalscope_plugin.running",
    "k2_verifier_adapter.offline.stored",
    "markdown",
    "plotly.express",
)
"""What a call would load by and by."""

_LONGEST_MESSAGE = 1 << 20


def main(address):
    """Serve at a socket until an empty message comes."""
    for module in _LOADED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(address)
        listener.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            caller, _ = listener.accept()
            with caller:
                message, streams, _, _ = socket.recv_fds(caller, _LONGEST_MESSAGE, 3)
                if not message:
                    return
                pid = os.fork()
                if pid == 0:
                    run(streams, *json.loads(message))
                for stream in streams:
                    os.close(stream)
                _, status = os.waitpid(pid, 0)
                caller.send(bytes([os.waitstatus_to_exitcode(status) % 256]))


def run(streams, arguments, folder, environment):
    """Be the command."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    code = 1
    try:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        from k2_verifier_adapter.cli import main as k2_verifier

        sys.argv = ["k2-verifier", *arguments]
        k2_verifier(prog_name="k2-verifier")
    except SystemExit as error:
        code = error.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1])
