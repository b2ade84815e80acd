"""The process behind `forks.py`: loads modules once, then forks a child for every call at a socket.

A call is one message, an object of `Call`'s fields, with the child's three streams. The answers are the child's
process id and, whenever it stops or ends, its state: the exit code, negative for a signal, or null for a stop.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
import traceback
import warnings
from pathlib import Path

LONGEST_MESSAGE = 1 << 17


def main(address):
    """Serve at a socket until standard input ends."""
    load(json.loads(sys.stdin.readline()))
    gc.collect()
    gc.freeze()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(address)
        listener.listen()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            caller, _ = listener.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                return serve(caller)
            caller.close()
    return 0


def load(modules):
    """Import what children would load by and by."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in modules:
            with contextlib.suppress(ImportError):
                importlib.import_module(module)
    if "evalscope.run" in modules:
        import evalscope.report
        from evalscope.api.registry import BENCHMARK_REGISTRY
        from quick_page import write_page

        assert "k2_verifier" in list(BENCHMARK_REGISTRY)
        evalscope.report.gen_html_report_file = write_page


def serve(caller):
    """Fork a child for one call and tell the caller of it; in the child, give its exit code."""
    message, streams, _, _ = socket.recv_fds(caller, LONGEST_MESSAGE, 3)
    pid = os.fork()
    if pid == 0:
        caller.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        return run(**json.loads(message))
    for stream in streams:
        os.close(stream)
    caller.send(json.dumps(pid).encode())
    state = None
    while state is None:
        _, status = os.waitpid(pid, os.WUNTRACED)
        state = None if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)
        # A caller that does not wait is gone.
        with contextlib.suppress(BrokenPipeError):
            caller.send(json.dumps(state).encode())
    os._exit(0)


def run(*, arguments, settings, code, folder, environment, hook, point, file_size, unprivileged):
    """Do what one child is for; give its exit code. It ends as an interpreter does, so that what hangs shows."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    # The server's own streams may be files, and would go on seeking.
    for name, number in (("stdout", 1), ("stderr", 2)):
        encoding = getattr(sys, name).encoding
        setattr(sys, name, open(number, "w", encoding=encoding, closefd=False))  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if file_size:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size,) * 2)
    if unprivileged and os.geteuid() == 0:
        give_up_capabilities()
    if hook:
        import site

        site.main()
    if point:
        watch(**point)
    fork_runs_of_a_matrix(environment)
    try:
        if code is not None:
            exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})
        elif settings is not None:
            from evalscope import TaskConfig, run_task

            run_task(TaskConfig(**settings))
        else:
            from k2_verifier_adapter.cli import main as k2_verifier

            sys.argv = ["k2-verifier", *arguments]
            k2_verifier(prog_name="k2-verifier")
    except SystemExit as error:
        return error.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def fork_runs_of_a_matrix(environment):
    """Have the command that is named start the runs of a matrix, which are forks as well then."""
    if command := environment.get("K2_COMMAND"):
        from k2_verifier_adapter.evalscope_plugin import vendor_runs

        vendor_runs.COMMAND = (command,)


def give_up_capabilities():
    """Make permissions bind root, too."""
    version_3, this_process = 0x20080522, 0
    header = (ctypes.c_uint32 * 2)(version_3, this_process)
    if ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError("capset failed")


def watch(event, path, times, number):
    """Send this process a signal when something is done to a file for the given time.

    Args:
        event: `open` or `rename` (before either is done), or `write` (in the middle).
        path: What the file's path ends with, or part of it; of a rename, the new one.
        times: Which time of all it is, counted from 1.
        number: The signal.
    """
    seen = 0
    write = os.write

    def happened(what, file):
        nonlocal seen
        # A path is bytes or a number here and there.
        if what == event and isinstance(file, (str, os.PathLike)) and path in os.fspath(file):
            seen += 1
            if seen == times:
                os.kill(os.getpid(), number)

    def heard(what, arguments):
        if what in ("open", "os.rename"):
            happened(what.removeprefix("os."), arguments[1 if what == "os.rename" else 0])

    def write_in_halves(file, data):
        half = len(data) // 2
        write(file, data[:half])
        happened("write", Path(f"/proc/self/fd/{file}").readlink())
        return half + write(file, data[half:])

    sys.addaudithook(heard)
    if event == "write":
        os.write = write_in_halves


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
