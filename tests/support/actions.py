"""A workflow's job, run as GitHub's runner runs it, as far as that goes on this machine.

Expressions are evaluated, the steps' scripts run in bash, files and commands to the runner are read. Of the actions,
those that carry artifacts are stood in for; checkout, set-up and caches do nothing.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_TOKEN = re.compile(r"'(?:[^']|'')*'|\|\||&&|==|!=|[!()]|[\w.-]+")
_OPERATORS = {"||": " or ", "&&": " and ", "!": " not ", "(": "(", ")": ")", "==": "==", "!=": "!="}
_SHELLS = {"bash": ["bash", "--noprofile", "--norc", "-eo", "pipefail"], None: ["bash", "-e"]}
_COMMAND = re.compile(r"::[a-z-]+.*::|##\[")
_FILES = ("GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")


@dataclass
class Finished:
    """A step that ran.

    Attributes:
        outcome: `success` or `failure`.
        code: Exit code of its script.
        log: What it printed, both streams.
        commands: The lines that the runner takes for commands.
        outputs: What it wrote to `GITHUB_OUTPUT`.
    """

    outcome: str
    code: int = 0
    log: str = ""
    commands: tuple[str, ...] = ()
    outputs: dict[str, str] = field(default_factory=dict)


@dataclass
class Job:
    """One job of a workflow.

    Attributes:
        content: The workflow.
        folder: Where it works; `workspace`, the runner's files and the artifacts are made there.
        contexts: `inputs`, `vars`, `secrets` and `github`.
        environment: What every process has.
        skipped: Whether a script is not run at all.
        artifacts: Where artifacts are kept: shared by the jobs that may see each other's.
    """

    content: Mapping[str, Any]
    folder: Path
    contexts: Mapping[str, Mapping[str, Any]]
    environment: Mapping[str, str]
    skipped: Callable[[str], bool]
    artifacts: Path
    steps: dict[str, Finished] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ((_, self.job),) = self.content["jobs"].items()
        self.workspace = self.folder / "workspace"
        self.workspace.mkdir(parents=True)
        for name in _FILES:
            (self.folder / name).touch()
        self.variables = self._filled(self.job.get("env", {}), {})

    @property
    def summary(self) -> str:
        """The step summary."""
        return (self.folder / "GITHUB_STEP_SUMMARY").read_text(encoding="utf-8")

    @property
    def failed(self) -> bool:
        """Whether a step has failed."""
        return any(step.outcome == "failure" for step in self.steps.values())

    @property
    def wanted(self) -> bool:
        """Whether the job's own condition lets it run."""
        return bool(self._value(self.job.get("if", "success()")))

    def run(self) -> Job:
        """Run the steps in order."""
        for step in self.job["steps"]:
            condition = step.get("if", "success()")
            if "always()" not in condition and self.failed:
                continue
            if self._value(condition):
                name = step.get("name", step.get("uses"))
                self.steps[name] = self._act(step) if "uses" in step else self._script(step)
        return self

    def _act(self, step: Mapping[str, Any]) -> Finished:
        given = self._filled(step.get("with", {}), self.variables)
        action = step["uses"].partition("@")[0]
        if action == "actions/upload-artifact":
            source = self.workspace / given["path"]
            if source.exists():
                target = self.artifacts / self.contexts["github"]["run_id"] / given["name"]
                # Hidden files are left out unless asked for.
                shutil.copytree(source, target, ignore=shutil.ignore_patterns(".*"))
        elif action == "actions/download-artifact":
            source = self.artifacts / given["run-id"] / given["name"]
            if not source.exists():
                return Finished("failure", 1, f"artifact not found: {given['name']}")
            shutil.copytree(source, self.workspace / given["path"])
        return Finished("success")

    def _script(self, step: Mapping[str, Any]) -> Finished:
        text = step["run"]
        if self.skipped(text):
            return Finished("success")
        script = self.folder / "script.sh"
        script.write_text(self._filled({"run": text}, self.variables)["run"], encoding="utf-8")
        shell = _SHELLS[step.get("shell", self.content.get("defaults", {}).get("run", {}).get("shell"))]
        for name in ("GITHUB_ENV", "GITHUB_OUTPUT"):
            (self.folder / name).write_text("")
        done = subprocess.run(
            [*shell, str(script)],
            cwd=self.workspace,
            env={
                **self.environment,
                **{name: str(self.folder / name) for name in _FILES},
                **self.variables,
                **self._filled(step.get("env", {}), self.variables),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        self.variables |= self._pairs("GITHUB_ENV")
        outcome = "failure" if done.returncode else "success"
        found = Finished(
            outcome, done.returncode, done.stdout, tuple(commands(done.stdout)), self._pairs("GITHUB_OUTPUT")
        )
        if "id" in step:
            self.steps[step["id"]] = found
        return found

    def _pairs(self, name: str) -> dict[str, str]:
        lines = (self.folder / name).read_text(encoding="utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def _filled(self, texts: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, str]:
        return {
            name: _EXPRESSION.sub(lambda found: _as_text(self._value(found[1], variables)), _as_text(text))
            for name, text in texts.items()
        }

    def _value(self, expression: str, variables: Mapping[str, str] | None = None) -> Any:
        """Evaluate an expression: names, texts, `==`, `!=`, `!`, `&&` and `||`, which Python's are like."""
        own = self.variables if variables is None else variables
        steps = {name: {"outputs": step.outputs} for name, step in self.steps.items()}
        contexts = {**self.contexts, "env": own, "steps": steps}
        found: list[str] = []
        for token in _TOKEN.findall(expression):
            if token in _OPERATORS:
                found.append(_OPERATORS[token])
            elif token.startswith("'"):
                found.append(repr(token[1:-1].replace("''", "'")))
            elif token in ("always", "success"):
                found.append("(lambda: True)")
            else:
                found.append(repr(_looked_up(contexts, token)))
        return eval("".join(found), {"__builtins__": {}})


def read_workflow(path: Path) -> dict[str, Any]:
    """Read a workflow."""
    # YAML 1.1, which PyYAML reads, takes the key `on` for true.
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["on"] = content.pop(True)
    return content


def commands(log: str) -> list[str]:
    """List the lines of a log that the runner obeys, `stop-commands` and its end left out."""
    found, marker = [], None
    for line in map(str.strip, log.splitlines()):
        if marker is not None:
            if line == f"::{marker}::":
                marker = None
        elif line.startswith("::stop-commands::"):
            marker = line.removeprefix("::stop-commands::")
        elif _COMMAND.match(line) or "##[" in line:
            found.append(line)
    return found


def _looked_up(contexts: Mapping[str, Any], name: str) -> Any:
    """Give what a dotted name stands for; nothing for what is not there, as in GitHub's expressions."""
    value: Any = contexts
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return "" if value is None else value


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
