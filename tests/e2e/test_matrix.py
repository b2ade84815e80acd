"""Several vendors in one matrix: each as in its single run, whatever becomes of the others or of the command."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock
from support.commands import invoke
from support.forks import ForkServer, installed
from support.published import Published
from support.resumed import ANSWERS, report
from support.runs import EVALSCOPES_WARNINGS, MODEL, bundled_rows, evaluate, judged, without_proxy, write_rows

from k2_verifier_adapter.core.model_profiles import model_profiles
from k2_verifier_adapter.evalscope_plugin import vendor_runs
from k2_verifier_adapter.simulator import PROFILES, FaithfulVendor, SimulatedVendor, profile_with

pytestmark = EVALSCOPES_WARNINGS

ROWS = bundled_rows(24)
KEYS = {"FAST_KEY": "sk-fast-0123456789abcd", "LIMITED_KEY": "sk-limited-0123456789abcd"}
PROFILE_OF = {
    "slow": PROFILES["leaky-parser"],
    "fast": PROFILES["noisy"],
    "limited": profile_with({"http_429@1": 0.3, "http_503@1": 0.2, "truncated_json": 0.2}),
}
"""The slow one, which waits for the fast one, stands first: one after the other they would never end."""
OWN = {
    "fast": {"key": "FAST_KEY", "concurrency": 8, "price_in": 0.6, "price_out": 2.5},
    "limited": {"key": "LIMITED_KEY", "concurrency": 2, "requests_per_minute": 6000, "retries": 4},
    "slow": {"concurrency": 3, "headers": {"X-Team": "verifier"}, "extra_body": {"top_p": 0.5}},
}
"""What each vendor of the file has of its own."""

_PATIENCE_S = 60


def free_port() -> int:
    """Choose a port that nobody serves at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@dataclass
class Bench:
    """Ports that vendors serve at one after the other, their file, and where processes come from."""

    folder: Path
    forks: ForkServer
    command: str
    ports: dict[str, int] = field(
        default_factory=lambda: {name: free_port() for name in (*PROFILE_OF, "dead")}
    )

    @property
    def vendor_file(self) -> Path:
        """The three vendors, and one behind whose address nobody is."""
        listed = [
            {"name": name, "model": MODEL, "api_url": f"http://127.0.0.1:{port}/v1", **OWN.get(name, {})}
            for name, port in self.ports.items()
        ]
        path = self.folder / "vendors.yaml"
        path.write_text(yaml.safe_dump({"vendors": listed}))
        return path

    def arguments(self, folder: Path, *more: str) -> list[str]:
        """Give the command line of the matrix."""
        rows = write_rows(self.folder / "rows.jsonl", ROWS)
        shared = json.dumps({"k2_verifier": {"local_path": str(rows)}})
        flags = ["--dataset-args", shared, "--generation-config", '{"retries": 2, "retry_interval": 0}']
        return ["matrix", str(self.vendor_file), "--work-dir", str(folder), *flags, *more]

    @contextlib.contextmanager
    def serving(self, latency: Any = None):
        """Serve the three; `latency` is told whose row it is for."""
        vendors = {}
        with contextlib.ExitStack() as stack:
            for name, profile in PROFILE_OF.items():
                slow = None if latency is None else lambda row, name=name: latency(name, row)
                vendors[name] = SimulatedVendor(ROWS, profile, seed=1, latency=slow, record_requests=True)
                stack.enter_context(vendors[name].running(self.ports[name]))
            yield vendors

    def single(self, name: str, run: Path, **more: Any) -> dict[str, SimulatedVendor]:
        """Run one vendor alone, in this process; give the vendors."""
        own = OWN[name]
        config = {"retries": own.get("retries", 2), "extra_body": own.get("extra_body"), "retry_interval": 0}
        with self.serving() as vendors:
            evaluate(
                f"http://127.0.0.1:{self.ports[name]}/v1",
                run,
                self.folder / "rows.jsonl",
                eval_batch_size=own["concurrency"],
                generation_config={key: value for key, value in config.items() if value is not None},
                **more,
            )
        return vendors


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Have the runs' processes forked."""
    with contextlib.closing(ForkServer()) as forks, installed(forks) as commands:
        yield Bench(tmp_path_factory.mktemp("matrix"), forks, str(commands / "k2-verifier"))


@pytest.fixture(scope="module")
def singles(bench, together):
    """Run each vendor alone."""
    runs = {name: bench.folder / "single" / name for name in PROFILE_OF}
    for name, run in runs.items():
        bench.single(name, run)
    return runs


@pytest.fixture(scope="module")
def together(bench):
    """Run all of them, the slow one answering nothing until the fast one has answered everything."""
    folder, came = bench.folder / "together", Counter()
    fast_is_through = threading.Event()

    def latency(name, row):
        came[name] += 1
        if came["fast"] == len(ROWS):
            fast_is_through.set()
        if name == "slow":
            came["waited in vain"] += not fast_is_through.wait(_PATIENCE_S)
        return 0.0

    with pytest.MonkeyPatch.context() as patch, bench.serving(latency) as vendors:
        patch.setattr(vendor_runs, "COMMAND", (bench.command,))
        for name, value in without_proxy(KEYS).items():
            patch.setenv(name, value)
        result = invoke(*bench.arguments(folder))
    assert came["waited in vain"] == 0
    return folder, result, vendors


def assert_equal(run: Path, single: Path) -> None:
    """Hold a vendor's run against its single run: every case, every number."""
    assert judged(run) == judged(single)
    assert report(run) == report(single)


@pytest.mark.parametrize("name", PROFILE_OF)
def test_each_vendor_is_as_in_its_single_run(together, singles, name):
    """Speed, faults and limits of the others, and a dead one, change no number; none waits for another."""
    folder, _, _ = together
    assert_equal(folder / name, singles[name])


def test_each_vendor_is_gone_on_with_alone(bench, together, singles, tmp_path):
    """A vendor's run is an ordinary one: `--use-cache` with its own settings asks for what is missing, and no more."""
    run = tmp_path / "limited"
    shutil.copytree(together[0] / "limited", run)
    answers = run / ANSWERS
    answers.write_text("".join(answers.read_text().splitlines(keepends=True)[3:]))
    vendors = bench.single("limited", run, use_cache=str(run))
    assert len({request.body for request in vendors["limited"].requests}) == 3
    assert judged(run) == judged(singles["limited"])


def test_the_page(together):
    """A dead vendor is told with its reason and left out of the comparison; exit codes, cost and price are there."""
    folder, result, _ = together
    assert result.exit_code == 2
    found = json.loads((folder / "matrix.json").read_text())
    assert Published("matrix").problems(found) == []
    vendors = {vendor["name"]: vendor for vendor in found["vendors"]}
    codes = {name: vendor["exit_code"] for name, vendor in vendors.items()}
    assert codes == {"fast": 0, "limited": 0, "slow": 0, "dead": 2}
    assert [vendor["run"] for vendor in found["vendors"]] == ["A", "B", "C", None]
    assert "check the API URL" in vendors["dead"]["reason"]
    assert found["comparison"]["cases"] == len(ROWS)
    assert [run["model"] for run in found["comparison"]["runs"]] == list(PROFILE_OF)
    spent = vendors["fast"]["spent"]
    price = (0.6 * spent["prompt_tokens"] + 2.5 * spent["completion_tokens"]) / 1e6
    assert spent["price"] == pytest.approx(price)
    assert price > 0
    assert vendors["limited"]["spent"]["requests"] > len(ROWS) == spent["requests"]
    assert vendors["slow"]["spent"]["price"] is None
    for name in ("matrix.txt", "matrix.md", "matrix.html"):
        page = (folder / name).read_text()
        assert all(text in page for text in ("Leaderboard", "Latency and cost", "Vendors", "dead"))
    assert (folder / "matrix.txt").read_text() == result.stdout


def test_each_vendor_is_sent_its_own(together):
    """Key, headers and body parameters go to their own vendor; no key is in any file or in what is printed."""
    folder, result, vendors = together
    keys = {
        name: {request.headers.get("Authorization") for request in vendors[name].requests} for name in vendors
    }
    assert keys == {
        "fast": {f"Bearer {KEYS['FAST_KEY']}"},
        "limited": {f"Bearer {KEYS['LIMITED_KEY']}"},
        "slow": {"Bearer EMPTY"},
    }
    assert {request.headers.get("X-Team") for request in vendors["slow"].requests} == {"verifier"}
    bodies = {name: json.loads(vendors[name].requests[0].body) for name in vendors}
    assert [body.get("top_p") for body in bodies.values()] == [0.5, None, None]
    left = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for key in KEYS.values():
        assert key.encode() not in left
        assert key not in result.output


def test_suites_of_probes_are_asked_too(bench, tmp_path):
    """With `--suite` each vendor is asked for its contract before its rows; the page has a table of it."""
    k2, rows, run = model_profiles()["k2"], write_rows(tmp_path / "rows.jsonl", ROWS[:4]), tmp_path / "run"
    good = SimulatedVendor(ROWS[:4], PROFILES["official"], by_rules=k2)
    bad = FaithfulVendor(k2, ["stream_without_done"])
    with good.running() as one, bad.running() as two, pytest.MonkeyPatch.context() as patch:
        patch.setattr(vendor_runs, "COMMAND", (bench.command,))
        patch.setenv("NO_PROXY", "127.0.0.1")
        urls = {"good": one.url, "bad": two.url}
        listed = [{"name": name, "model": "kimi-k2", "api_url": url} for name, url in urls.items()]
        file = tmp_path / "vendors.json"
        file.write_text(json.dumps(listed))
        result = invoke("matrix", file, "--work-dir", run, "--rows", rows, "--suite", "stream")
    assert result.exit_code == 0, result.output
    page = json.loads((run / "matrix.json").read_text())
    assert Published("matrix").problems(page) == []
    vendors = {vendor["name"]: vendor for vendor in page["vendors"]}
    assert vendors["good"]["conformance"] == {"stream": {"status": "pass", "passed": 13, "total": 13}}
    assert vendors["bad"]["conformance"]["stream"]["status"] == "fail"
    assert vendors["good"]["requests"]["completed"] == 4
    assert "13/13" in result.stdout.partition("Conformance")[2]


def start(bench, folder):
    """Start the command in a process of its own, its runs in others."""
    variables = {**KEYS, "K2_COMMAND": bench.command}
    return bench.forks.start(
        bench.folder, name=folder.name, arguments=bench.arguments(folder), variables=variables
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_matrix_that_is_killed_goes_on(bench, singles, tmp_path, number):
    """Killed in the middle, or interrupted, the runs store what they have and end; the same command sends the rest."""
    in_the_middle, came = threading.Event(), Counter()

    def latency(name, row):
        came[name] += 1
        if all(came[other] >= 5 for other in PROFILE_OF):
            in_the_middle.set()
        # Beyond its fifth request no vendor answers, so that none is through.
        return 0.0 if came[name] <= 5 else 3600.0

    folder = tmp_path / "killed"
    with bench.serving(latency):
        child = start(bench, folder)
        assert in_the_middle.wait(_PATIENCE_S)
        child.send_signal(number)
        # The dead vendor's run has ended by itself, or not.
        assert child.wait() in ((2, 3) if number == signal.SIGINT else (-number,)), child.stderr
        for name in PROFILE_OF:
            lock = folder / name / "k2_verifier" / MODEL / "k2_thinking" / ".lock"
            with FileLock(lock, timeout=_PATIENCE_S):
                pass
    assert (folder / "matrix.json").exists() == (number == signal.SIGINT)
    with bench.serving() as vendors:
        assert start(bench, folder).wait() == 2
    for name, single in singles.items():
        assert 0 < len({request.body for request in vendors[name].requests}) < len(ROWS)
        assert judged(folder / name) == judged(single)
