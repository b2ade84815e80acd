"""`docs/parameters.md` names every parameter there is, with its type and default, and none that is not."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator

import click
import pytest
from documents import DOCS, PACKAGE, ROOT, Line, headings, links, read, spans, table_under
from evalscope import TaskConfig
from evalscope.api.model import GenerateConfig

from k2_verifier_adapter.cli import main
from k2_verifier_adapter.core.presets import PRESETS, preset_for
from k2_verifier_adapter.evalscope_plugin.adapter import benchmark_meta
from k2_verifier_adapter.evalscope_plugin.asked import check_dataset_args
from k2_verifier_adapter.evalscope_plugin.parameters import PARAMETERS, check_parameters
from k2_verifier_adapter.evalscope_plugin.running import explicit_flags
from k2_verifier_adapter.simulator import PROFILES

PAGE = DOCS / "parameters.md"
PROSE, _ = read(PAGE)
_VARIABLE = re.compile(r"[A-Z0-9]+(?:_[A-Z0-9]+)+")
PYTHONS_OWN = {
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),  # urllib.request.getproxies
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),  # ssl
}
"""Variables that are read, but by no name in this package."""


def names_in(cell: str) -> list[str]:
    """List what a table cell names."""
    return [span for span in spans(cell) if span]


def names_under(heading: str) -> list[str]:
    """List what the first column of a table names, in order."""
    return [name for row in table_under(PROSE, heading) for name in names_in(row[0])]


def json_of(span: str) -> object:
    """Decode the JSON in a code span."""
    return json.loads(span.replace("\\|", "|"))


# --- presets ---------------------------------------------------------------------------------------


def test_the_presets_are_those_of_the_code():
    """Parameters, timeout, threshold and self-agreement of every subset are as in `core/presets.py`."""
    rows = {row[0].strip("`"): row[1:] for row in table_under(PROSE, "Presets of the subsets")}
    assert set(rows) == {*PRESETS, "any other"}
    for subset, cells in rows.items():
        preset = preset_for(subset)
        sent = preset.parameters
        assert cells[:4] == [
            str(sent.get("temperature", "–")),
            str(sent.get("max_tokens", "–")),
            json.dumps(sent["stream"]),
            f"{preset.timeout_s:g}",
        ]
        assert set(sent) <= {"temperature", "max_tokens", "stream"}
        if preset.standard is None:
            assert cells[4:] == ["–", "–"]
        else:
            agreement = preset.standard.self_agreement
            assert cells[4:] == [
                f"{preset.standard.threshold:g}",
                f"{agreement.lowest:g}, {agreement.mean:g}",
            ]


# --- EvalScope's settings --------------------------------------------------------------------------


def test_every_extra_parameter_is_there():
    """The table is that of the declarations: name, type or choices, default, description, example."""
    assert table_under(PROSE, "extra_params of the benchmark") == [
        [
            f"`{parameter.name}`",
            ", ".join(f"`{choice}`" for choice in parameter.choices) or parameter.kind.__name__,
            f"`{json.dumps(parameter.default)}`",
            parameter.description,
            f"`{json.dumps(parameter.example)}`",
        ]
        for parameter in PARAMETERS
    ]


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.name)
def test_the_examples_of_extra_parameters_are_accepted(parameter):
    """An example sets its parameter to another value than the default, and the code takes it."""
    assert check_parameters(parameter.example)[parameter.name] != parameter.default


def test_what_is_said_of_the_pace_holds_for_the_last_parameters():
    """The parameters that are no part of a run's identity are the last ones of the table."""
    of_session = [parameter.of_session for parameter in PARAMETERS]
    assert of_session == sorted(of_session)
    assert next(parameter.name for parameter in PARAMETERS if parameter.of_session) == "requests_per_minute"


@pytest.mark.parametrize("row", table_under(PROSE, "generation_config"), ids=lambda row: row[0])
def test_generation_config_holds_fields_of_evalscope(row):
    """Each name is a field of EvalScope's, with its default if one is stated, and the example fits."""
    names, (example,) = names_in(row[0]), names_in(row[3])
    fields = GenerateConfig.model_fields
    assert set(names) <= set(fields)
    for name in names:
        stated = row[1]
        assert str(fields[name].default) == (stated if stated.isdigit() else "None"), name
    given = json_of(example)
    assert set(given) & set(names)
    assert GenerateConfig(**given).model_fields_set >= set(given)


@pytest.mark.parametrize("row", table_under(PROSE, "dataset_args"), ids=lambda row: row[0])
def test_dataset_args_are_known(row):
    """Each name is one that the adapter knows, with EvalScope's default, and the example is accepted."""
    meta = benchmark_meta()
    (name,), (example,) = names_in(row[0]), names_in(row[3])
    given = json_of(example)
    assert list(given) == [name]
    check_dataset_args({"k2_verifier": given}, ["k2_verifier"])
    default = getattr(meta, name, None)
    shown = default if isinstance(default, str) else json.dumps(default)
    assert row[1] == ("–" if default is None else f"`{shown}`")


def test_the_settings_of_the_task_are_evalscopes():
    """Each name is a setting of EvalScope's; where a default is stated as a value, it is EvalScope's."""
    fields = TaskConfig.model_fields
    for row in table_under(PROSE, "Settings of the task"):
        names = names_in(row[0])
        assert names
        assert set(names) <= set(fields)
        stated = row[1].strip("`")
        if stated in ("true", "false") or stated.isdigit():
            (name,) = names
            assert json.dumps(fields[name].default) == stated, name
    assert not set(names_under("Settings of the task")) & without_effect() - {"dataset_args"}


def without_effect() -> set[str]:
    """Give what the page says has no effect."""
    return {name.removeprefix("generation_config.") for name in names_under("Settings without effect")}


def test_what_has_no_effect_exists_all_the_same():
    """A setting without effect is one that EvalScope takes."""
    known = {*TaskConfig.model_fields, *GenerateConfig.model_fields, *vars(benchmark_meta())}
    assert without_effect() <= known


def test_the_stated_concurrency_is_that_of_an_api():
    """`eval_batch_size` is what EvalScope makes of it for an API, retries and their interval alike."""
    task = TaskConfig(model="m", api_url="http://127.0.0.1:1/v1", datasets=["k2_verifier"])
    (row,) = [row for row in table_under(PROSE, "Settings of the task") if row[0] == "`eval_batch_size`"]
    assert row[1] == f"{task.eval_batch_size} for an API"
    assert (task.generation_config.retries, task.generation_config.retry_interval) == (5, 10)


@pytest.mark.parametrize("row", table_under(PROSE, "Settings of the task"), ids=lambda row: row[0])
def test_the_examples_of_settings_are_flags_of_evalscope(row):
    """An example parses with EvalScope's own parser, and sets the setting it is an example of."""
    (example,) = names_in(row[3])
    assert set(explicit_flags(shlex.split(example))) & set(names_in(row[0]))


# --- environment -----------------------------------------------------------------------------------


def variables_in(source: str) -> Iterator[str]:
    """Yield the environment variables that a module reads by name, or keeps the name of."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            key, owner = (node.args or [None])[0], node.func.value
        elif isinstance(node, ast.Subscript):
            key, owner = node.slice, node.value
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            constants = (value.value for value in values if isinstance(value, ast.Constant))
            yield from (text for text in constants if isinstance(text, str) and _VARIABLE.fullmatch(text))
            continue
        else:
            continue
        name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
        if name == "environ" and isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value


def test_every_environment_variable_is_there():
    """The table names what the code and the shipped task files read, and what Python reads for them."""
    read_by_code = {
        name for path in PACKAGE.rglob("*.py") for name in variables_in(path.read_text(encoding="utf-8"))
    }
    read_by_files = {
        name
        for path in (ROOT / "configs").glob("*.yaml")
        for name in re.findall(r"\$\{(\w+)", path.read_text(encoding="utf-8"))
    }
    assert {"K2_VERIFIER_API_KEY", "K2_VERIFIER_ADAPTER_DISABLE", "NO_COLOR"} <= read_by_code
    assert set(names_under("Environment variables")) == read_by_code | read_by_files | PYTHONS_OWN


@pytest.mark.parametrize("row", table_under(PROSE, "Environment variables"), ids=lambda row: row[0])
def test_the_examples_of_variables_set_them(row):
    """An example exports one of the variables of its row."""
    (example,) = names_in(row[3])
    exported = re.fullmatch(r"export (\w+)=\S+", example)
    assert exported
    assert exported[1] in names_in(row[0])


# --- commands --------------------------------------------------------------------------------------


def commands(command: click.Command = main, name: str = "k2-verifier") -> Iterator[tuple[str, click.Command]]:
    """Yield every command that does something, by the words that call it."""
    if isinstance(command, click.Group):
        for part, child in command.commands.items():
            yield from commands(child, f"{name} {part}")
    else:
        yield name, command


COMMANDS = dict(commands())


def options_of(command: click.Command) -> dict[str, click.Option]:
    """Give the options of a command by their flag."""
    return {param.opts[0]: param for param in command.params if isinstance(param, click.Option)}


def type_of(option: click.Option) -> str:
    """Say what an option takes, as the tables do."""
    kind = option.type
    if option.is_flag:
        said = "flag"
    elif isinstance(kind, click.Choice):
        said = ", ".join(f"`{choice}`" for choice in kind.choices)
    elif isinstance(kind, (click.IntRange, click.FloatRange)):
        said = "whole number" if isinstance(kind, click.IntRange) else "number"
        if kind.max is not None:
            said += f", {kind.min} to {kind.max}"
        else:
            said += f" {'above' if kind.min_open else 'from'} {kind.min}"
    elif isinstance(kind, click.Path):
        said = "file" if not kind.dir_okay else "directory"
    else:
        said = "whole number" if kind is click.INT else "text"
    return f"{said}, repeatable" if option.multiple else said


def default_of(option: click.Option) -> str:
    """Say what holds without an option, as the tables do."""
    if option.required:
        return "required"
    known = isinstance(option.default, (str, int, float)) and not option.is_flag
    return f"`{option.default}`" if known else "–"


def section(heading: str) -> list[Line]:
    """Give the lines from a heading to the next."""
    starts = [(number, text) for number, _, text in headings(PROSE)]
    ends = [number for number, _ in starts[1:]] + [10**9]
    ((begin, end),) = [
        (number, end) for (number, text), end in zip(starts, ends, strict=True) if text == heading
    ]
    return [line for line in PROSE if begin <= line.number < end]


def documented(heading: str) -> dict[str, list[str]]:
    """Give the rows of a command by flag, those of the shared tables that it links included."""
    shared = {
        f"#{text.lower().replace(' ', '-')}": text
        for _, _, text in headings(PROSE)
        if text.endswith(" flags")
    }
    tables = [shared[target] for _, target in links(section(heading)) if target in shared]
    rows = {row[0].strip("`"): row for name in [heading, *tables] for row in table_under(PROSE, name)}
    assert len(rows) == sum(len(table_under(PROSE, name)) for name in [heading, *tables])
    return rows


def test_every_command_has_a_section():
    """The page has one section a command."""
    there = [text for _, level, text in headings(PROSE) if level == 3 and text.startswith("k2-verifier ")]
    assert there == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_there(name):
    """The tables of a command name its options, each with its type and its default, and nothing else."""
    rows, options = documented(name), options_of(COMMANDS[name])
    assert set(rows) == set(options)
    for flag, option in options.items():
        assert rows[flag][1:3] == [type_of(option), default_of(option)], flag
        assert rows[flag][3], flag


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_options_are_accepted(name, tmp_path, monkeypatch):
    """An example gives its option a value that the option takes."""
    monkeypatch.chdir(tmp_path)
    for flag, option in options_of(COMMANDS[name]).items():
        (example,) = names_in(documented(name)[flag][4])
        given, *values = shlex.split(example)
        assert given == flag
        assert len(values) == (0 if option.is_flag else 1)
        for value in values:
            if isinstance(option.type, click.Path) and option.type.exists:
                (tmp_path / value).mkdir(parents=True, exist_ok=True)
            option.type.convert(value, option, None)


def test_what_every_command_takes_is_there():
    """The options that commands have in common, and those of `k2-verifier` itself, stand in one table."""
    common = {"-h", "--help"}
    for name, command in main.commands.items():
        if not isinstance(command, click.Group):
            found = main.get_command(click.Context(main), name)
            common |= {flag for param in found.params[len(command.params) :] for flag in param.opts}
    own = {flag for param in main.params for flag in param.opts}
    assert set(names_under("Every command")) == common | own


def test_every_profile_is_there():
    """The profiles are listed with what the code says of them."""
    rows = {row[0].strip("`"): row[1] for row in table_under(PROSE, "Profiles of the simulated vendor")}
    assert rows == {name: profile.description for name, profile in PROFILES.items()}
