"""The process behind `zygote.py`: loads EvalScope once, then forks a child for every run it is told of.

Reads one JSON object a line from standard input and answers with one. A child ends as the interpreter
does, so that what would keep it from ending shows.
"""

import ctypes
import gc
import importlib
import json
import os
import resource
import signal
import sys
import traceback
from pathlib import Path

_LOADED = (
    "evalscope.benchmarks",
    "evalscope.report.renderer",
    "evalscope.run",
    "k2_verifier_adapter.cli",
    "k2_verifier_adapter.evalscope_plugin.running",
    "k2_verifier_adapter.reports.text",
    "openai.resources.chat",
)
"""What a run would load by and by."""


def main():
    """Obey until standard input ends."""
    for module in _LOADED:
        importlib.import_module(module)
    import evalscope.report
    from evalscope.api.registry import BENCHMARK_REGISTRY
    from quick_page import write_page

    assert "k2_verifier" in list(BENCHMARK_REGISTRY)
    evalscope.report.gen_html_report_file = write_page
    gc.collect()
    gc.freeze()
    say({"ready": True})
    for line in sys.stdin:
        command = json.loads(line)
        if "wait" in command:
            _, status = os.waitpid(command["wait"], os.WUNTRACED)
            say({"code": None if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)})
        else:
            pid = os.fork()
            if pid == 0:
                return run(command)
            say({"pid": pid})
    return 0


def say(answer):
    """Answer the test."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def run(command):
    """Do what one child is for; give its exit code."""
    for stream, path in enumerate((os.devnull, command["stdout"], command["stderr"])):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(file, stream)
        os.close(file)
    sys.stdout.reconfigure(line_buffering=False)
    os.chdir(command["folder"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if command["file_size"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (command["file_size"],) * 2)
    if command["unprivileged"] and os.geteuid() == 0:
        give_up_capabilities()
    if command["trace"] or command["at"]:
        watch(str(Path(command["folder"]).parent), command["trace"], command["at"], command["signal"])
    try:
        if command["settings"] is None:
            from k2_verifier_adapter.cli import main as k2_verifier

            k2_verifier(command["arguments"], prog_name="k2-verifier")
        else:
            from evalscope import TaskConfig, run_task

            run_task(TaskConfig(**command["settings"]))
    except SystemExit as error:
        return error.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def give_up_capabilities():
    """Make permissions bind root, too."""
    version_3, this_process = 0x20080522, 0
    header = (ctypes.c_uint32 * 2)(version_3, this_process)
    if ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError("capset failed")


def watch(folder, trace, at, number):
    """Count everything that is done to files below a folder; write it down, or signal itself at a step."""
    steps = 0
    log = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666) if trace else None
    write = os.write

    def step(what, path):
        nonlocal steps
        steps += 1
        if log is not None:
            write(log, f"{what} {path}\n".encode())
        if steps == at:
            os.kill(os.getpid(), number)

    def heard(event, arguments):
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.truncate"):
            path = arguments[1] if event == "os.rename" else arguments[0]
            # A path is bytes or a number here and there.
            if isinstance(path, (str, os.PathLike)) and str(Path(folder, path)).startswith(folder):
                step(event, Path(folder, path).relative_to(folder))

    def write_in_halves(file, data):
        half = len(data) // 2
        write(file, data[:half])
        step("write", "")
        return half + write(file, data[half:])

    sys.addaudithook(heard)
    os.write = write_in_halves


if __name__ == "__main__":
    sys.exit(main())
