"""A first look at an endpoint: one row and a dozen probes, as a whole run would send them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from evalscope.api.model.model import get_model_with_task_config
from evalscope.api.registry import get_benchmark
from evalscope.config import TaskConfig
from evalscope.utils.logger import get_logger

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.conformance.judging import answer_of, judge_probe
from k2_verifier_adapter.core.conformance.probes import Mode, ProbeCase, cases_of
from k2_verifier_adapter.core.judged import judge_record
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.model_profiles import ModelProfile, choose_profile
from k2_verifier_adapter.core.printable import plural
from k2_verifier_adapter.core.requests import Request
from k2_verifier_adapter.evalscope_plugin import asked, masking, planning
from k2_verifier_adapter.evalscope_plugin.client.environment import check_environment
from k2_verifier_adapter.evalscope_plugin.client.pacing import Budget
from k2_verifier_adapter.evalscope_plugin.conformance import ProbePlanner, as_answer
from k2_verifier_adapter.evalscope_plugin.model_clients import (
    ModelClient,
    Outcome,
    client_for,
    transport_options,
)
from k2_verifier_adapter.evalscope_plugin.running import refusals
from k2_verifier_adapter.formats.suites import load_suite
from k2_verifier_adapter.version import BENCHMARK

_PROBES = (
    ("tool_choice/auto_calls", Mode.PLAIN),
    ("tool_choice/none_forbids", Mode.PLAIN),
    ("tool_choice/forced_calls", Mode.STREAM),
    ("tool_schema/object", Mode.PLAIN),
    ("tool_schema/object", Mode.STREAM),
    ("history/one_round", Mode.PLAIN),
    ("history/content_null", Mode.PLAIN),
    ("history/id_openai", Mode.PLAIN),
    ("stream/call_frames", Mode.STREAM),
    ("stream/text_usage", Mode.STREAM),
    ("stream/no_arguments", Mode.STREAM),
    ("prompt_tokens/reported", Mode.PLAIN),
)
_MOST_SHOWN = 3
_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Look:
    """What one question came to: whether all is well, what it was about, and what to tell."""

    ok: bool
    name: str
    said: str


def first_look(settings: Mapping[str, Any]) -> list[Look]:
    """Send one row and a dozen probes with the settings of a run, and say what came back.

    Raises:
        UsageError: If the settings cannot be used.
        DataError: If the rows cannot.
    """
    check_environment()
    with refusals(), _without_log():
        task = TaskConfig.from_dict({**settings, "limit": None, "use_cache": None})
        asked.check_endpoint(task)
        masking.check_and_mask(task)
        adapter = get_benchmark(BENCHMARK, task)
        adapter.load_dataset()
        client = client_for(get_model_with_task_config(task_config=task), task)
        user = planning.user_parameters(task, client.api)
    subset, rows = next(iter(adapter.rows.items()))
    case = next((case for case in rows.cases if case.official.should_call), rows.cases[0])
    profile = choose_profile(model=str(task.model_id), subset=subset, chosen=adapter.parameters["profile"])
    probes = list(_chosen(profile)) if client.raw else []
    config = task.generation_config
    timeout = _TIMEOUT_S if config.timeout is None else config.timeout
    once = config.model_copy(update={"retries": 1, "retry_interval": 1, "timeout": timeout})
    options = transport_options(once, adapter.preset(subset), adapter.parameters)
    session = partial(client.session, options, task.eval_batch_size, Budget())
    planner = adapter.planner(client.model_name, user, client.masker)
    request = planner.request(subset, case)
    (row,) = asyncio.run(_ask(session(), client, [request], [case]))
    kind = "a SYNTHETIC row" if rows.info.synthetic else "one row"
    looks = [_of_row(row, case, profile, f"{kind} of {rows.info.source}")]
    if not probes or isinstance(as_answer(row, request), FailedRequest):
        return looks
    probing = ProbePlanner({}, client.model_name, user, client.masker)
    requests = [probing.request("", probe.case) for probe in probes]
    answers = asyncio.run(_ask(session(), client, requests, [probe.case for probe in probes]))
    return [*looks, *_of_probes(list(zip(probes, map(as_answer, answers, requests), strict=True)), profile)]


@contextmanager
def _without_log() -> Iterator[None]:
    """Log nothing of what a run says of its rows, unless EvalScope's debug log is wanted."""
    logger = get_logger()
    level = logger.level
    if level > logging.DEBUG:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


async def _ask(
    session: AbstractAsyncContextManager[None],
    client: ModelClient,
    requests: Sequence[Request],
    cases: Sequence[Case],
) -> list[Outcome]:
    async with session:
        return await asyncio.gather(*map(client.send, requests, cases))


def _chosen(profile: ModelProfile) -> Iterator[ProbeCase]:
    suites = dict.fromkeys(name.partition("/")[0] for name, _ in _PROBES)
    cases = {
        (case.probe.id, case.mode): case
        for suite in suites
        for case in cases_of(load_suite(suite, suite, profile).probes, profile, Mode)
    }
    for number, key in enumerate(_PROBES):
        if key in cases:
            found = cases[key]
            yield replace(found, case=replace(found.case, index=number))


def _of_row(outcome: Outcome, case: Case, profile: ModelProfile, which: str) -> Look:
    judged = outcome if isinstance(outcome, FailedRequest) else judge_record(case, outcome, profile)
    if isinstance(judged, FailedRequest):
        return Look(ok=False, name="row", said=f"{which}: {judged.failure}")
    judgement = judged.judgement
    official = "calls" if case.official.should_call else "does not call"
    said = (
        f"{which}: answered in {judged.duration_s:.2f} s, finish_reason {judgement.finish_reason} "
        f"(the official API {official})"
    )
    if judgement.calls:
        said += ", the calls are valid" if judgement.successful else ", the calls are not valid"
    said = "; ".join([said, *map(str, judgement.failures)])
    return Look(ok=not judgement.schema_error, name="row", said=said)


def _of_probes(asked_of: list[tuple[ProbeCase, Outcome]], profile: ModelProfile) -> Iterator[Look]:
    failing = []
    for probe, outcome in asked_of:
        answer = outcome if isinstance(outcome, FailedRequest) else answer_of(outcome)
        if isinstance(answer, FailedRequest):
            failing.append((probe, str(answer.failure)))
        elif unmet := judge_probe(probe, answer):
            failing.append((probe, str(unmet[0])))
    passed = len(asked_of) - len(failing)
    contract = f"{passed} of {plural(len(asked_of), 'probe')} of the contract of {profile.title} passed"
    yield Look(ok=not failing, name="contract", said=contract)
    for probe, said in failing[:_MOST_SHOWN]:
        yield Look(ok=False, name="", said=f"{probe.name}: {said}")
    if len(failing) > _MOST_SHOWN:
        yield Look(
            ok=False, name="", said=f"and {len(failing) - _MOST_SHOWN} more; k2-verifier conform shows all"
        )
