"""One sample at a time, as EvalScope's collections ask and judge.

A collection mixes samples of several benchmarks, and has the adapter of each answer its own; there is no
evaluator of this package around it, and so no run of its own, no failures kept apart and no verdict.
"""

from __future__ import annotations

import asyncio

from evalscope.api.dataset import Sample
from evalscope.api.evaluator import TaskState
from evalscope.api.metric import SampleScore
from evalscope.api.model import Model, ModelOutput
from evalscope.config import TaskConfig
from evalscope.constants import DataCollection

from k2_verifier_adapter.core.judged import judge_record
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.presets import preset_for
from k2_verifier_adapter.core.records import METADATA_KEY, ResponseRecord
from k2_verifier_adapter.errors import EndpointError
from k2_verifier_adapter.evalscope_plugin import planning
from k2_verifier_adapter.evalscope_plugin.client.pacing import Budget
from k2_verifier_adapter.evalscope_plugin.loading import case_of
from k2_verifier_adapter.evalscope_plugin.model_clients import Outcome, client_for, transport_options
from k2_verifier_adapter.evalscope_plugin.reviews import sample_score


def answer(model: Model, sample: Sample, task_config: TaskConfig, parameters: dict[str, object]) -> TaskState:
    """Ask for one sample; an `EndpointError` keeps a request that failed out of EvalScope's cache."""
    case = case_of(sample.metadata)
    subset = _info(sample.metadata).get("subset_name", "")
    client = client_for(model, task_config)
    planner = planning.RequestPlanner(
        client.model_name, planning.user_parameters(task_config, client.api), client.masker
    )
    request = planner.request(subset, case)
    options = transport_options(task_config.generation_config, preset_for(subset), parameters)

    async def send() -> Outcome:
        async with client.session(options, 1, Budget()):
            return await client.send(request, case)

    outcome = asyncio.run(send())
    if isinstance(outcome, FailedRequest):
        failure = outcome.failure
        raise EndpointError(f"case {case.index}: {failure}")
    output = ModelOutput(model=client.model_name, metadata={METADATA_KEY: outcome.as_json()})
    return TaskState(model=model.name, sample=sample, messages=[], output=output, completed=True)


def score(state: TaskState) -> SampleScore:
    """Judge one answer as a run would; its main value is whether it decides as the official API does."""
    metadata = state.output.metadata or {}
    record = ResponseRecord.from_json(metadata.get(METADATA_KEY))
    if record is None:
        raise EndpointError(f"sample {state.sample_id}: its prediction holds no response of this benchmark")
    case = case_of(state.metadata)
    judged = judge_record(case, record)
    if isinstance(judged, FailedRequest):
        raise EndpointError(f"case {case.index}: {judged.failure.detail}")
    found = sample_score(state.sample_id, state.group_id, case, judged)
    found.sample_metadata = {**(found.sample_metadata or {}), DataCollection.INFO: _info(state.metadata)}
    return found


def _info(metadata: dict[str, object]) -> dict[str, str]:
    info = metadata.get(DataCollection.INFO)
    return info if isinstance(info, dict) else {}
