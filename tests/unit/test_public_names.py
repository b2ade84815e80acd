"""What users, scripts and dashboards hold on to, as literal lists: a change here is one for the changelog."""

from __future__ import annotations

import ast
import importlib.metadata
import re
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

import k2_verifier_adapter
from k2_verifier_adapter import cli
from k2_verifier_adapter.cli import dataset, evaluate
from k2_verifier_adapter.core import gate
from k2_verifier_adapter.core.metrics import DEFINITIONS, ERROR_RATE, FLIP_RATE, PRIMARY_METRIC
from k2_verifier_adapter.evalscope_plugin import registration
from k2_verifier_adapter.evalscope_plugin.parameters import PARAMETERS as DECLARED

PACKAGE = Path(k2_verifier_adapter.__file__).parent
CONFIGS = PACKAGE.parent / "configs"

EXPORTS = ["__version__", "install"]

COMMANDS = {
    "compare": None,
    "conform": None,
    "dataset": ["build", "check"],
    "demo": None,
    "doctor": None,
    "eval": None,
    "export": None,
    "matrix": None,
    "history": None,
    "report": None,
    "score": None,
    "simulate": None,
}
"""The commands, and those below them."""

EXIT_CODES = (
    "Exit codes: 0 done and, if a gate was asked, passed; 1 gate failed; 2 usage error or no data; "
    "3 inconclusive or incomplete."
)

METRICS = [
    "trigger_similarity",
    "schema_accuracy",
    "call_surplus",
    "count_finish_reason_tool_calls",
    "count_successful_tool_call",
    "tool_call_precision",
    "tool_call_recall",
    "count_finish_reason_stop",
    "count_finish_reason_others",
    "schema_validation_error_count",
    "official_similarity",
    "tool_name_agreement",
    "argument_agreement",
    "inference_error_rate",
    "decision_flip_rate",
]

PARAMETERS = [
    "baseline",
    "call_surplus_tolerance",
    "gate",
    "inconclusive",
    "malformed_history",
    "margin",
    "max_minutes",
    "max_requests",
    "max_response_mb",
    "max_total_tokens",
    "min_coverage",
    "min_schema_accuracy",
    "min_trigger_similarity",
    "normalize_tool_call_ids",
    "profile",
    "requests_per_minute",
    "sample",
    "sample_seed",
    "stop_when_decided",
]
"""`dataset_args.k2_verifier.extra_params`."""

OWN_VARIABLES = {
    "K2_VERIFIER_ADAPTER_DISABLE",  # EvalScope's own benchmark runs
    "K2_VERIFIER_API_KEY",  # then OPENAI_API_KEY
    "OPENAI_API_KEY",
}
OTHERS_VARIABLES = {
    *("EVALSCOPE_API_KEY", "EVALSCOPE_BASE_URL"),  # EvalScope's own, to be masked
    *("HF_ENDPOINT", "MODELSCOPE_DOMAIN", "MODELSCOPE_ENDPOINT"),  # where the hub is
    "RAY_ADDRESS",
    *("NO_COLOR", "TERM"),
}
CONFIG_VARIABLES = {"K2_VERIFIER_API_URL", "K2_VERIFIER_MODEL", "K2_VERIFIER_ROWS"}
"""What the shipped task files are filled in from."""


def test_exports():
    """The package exports its version and `install`, and both are there."""
    assert k2_verifier_adapter.__all__ == EXPORTS
    assert all(hasattr(k2_verifier_adapter, name) for name in EXPORTS)


def test_entry_points():
    """The distribution brings one command and no other entry point."""
    found = importlib.metadata.distribution("k2-verifier-adapter").entry_points
    assert [(entry.group, entry.name, entry.value) for entry in found] == [
        ("console_scripts", "k2-verifier", "k2_verifier_adapter.cli:main")
    ]
    assert found["k2-verifier"].load() is cli.main


def test_command_names():
    """Every command has its name."""
    found = {
        name: sorted(command.commands) if isinstance(command, click.Group) else None
        for name, command in cli.main.commands.items()
    }
    assert found == COMMANDS


def test_exit_codes(tmp_path):
    """The four exit codes have their meaning, wherever one is given."""
    assert [gate.PASSED, gate.GATE_FAILED, gate.UNUSABLE, gate.INCONCLUSIVE] == [0, 1, 2, 3]
    assert dataset.UNUSABLE == gate.UNUSABLE
    assert evaluate.INTERRUPTED == gate.INCONCLUSIVE
    no_run = CliRunner().invoke(cli.main, ["export", str(tmp_path), "--output", str(tmp_path / "results")])
    assert no_run.exit_code == gate.UNUSABLE
    assert no_run.stderr.startswith("k2-verifier: error: ")
    assert EXIT_CODES in " ".join(cli.main.help.split())


def test_metric_names():
    """The metrics have their names, and the primary one is the first."""
    assert [*(definition.name for definition in DEFINITIONS), ERROR_RATE, FLIP_RATE] == METRICS
    assert METRICS[0] == PRIMARY_METRIC


def test_parameter_names():
    """EvalScope takes these extra parameters for the benchmark, and no others."""
    assert registration.BENCHMARK == "k2_verifier"
    assert sorted(parameter.name for parameter in DECLARED) == PARAMETERS


def _variables_read(tree: ast.AST) -> set[str]:
    """Name the literals with which a module looks into `os.environ`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.environ.get", "os.getenv"):
            key = node.args[0]
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            key = node.slice
        else:
            continue
        if isinstance(key, ast.Constant):
            found.add(key.value)
    return found


def test_environment_variables():
    """These environment variables are read, and no others but those of proxies and certificates."""
    modules = [ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")]
    assert set().union(*map(_variables_read, modules)) == OTHERS_VARIABLES
    assert {registration.DISABLE_VARIABLE, *evaluate.KEY_VARIABLES} == OWN_VARIABLES
    assert evaluate.KEY_VARIABLES[0] == "K2_VERIFIER_API_KEY", "the first that is set is taken"


@pytest.mark.skipif(not CONFIGS.is_dir(), reason="the task files are not beside the package")
def test_variables_of_the_task_files():
    """The shipped task files ask for these variables."""
    texts = [yaml.safe_dump(yaml.safe_load(path.read_text())) for path in CONFIGS.glob("*.yaml")]
    assert set(re.findall(r"\$\{(\w+)", "".join(texts))) == CONFIG_VARIABLES
