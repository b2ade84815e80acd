"""What a session sends: the request of every case, which of them have a stored answer, and the cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evalscope.api.dataset import Dataset, Sample
from evalscope.api.model import GenerateConfig, ModelAPI
from evalscope.config import DEFAULT_TEXT_GEN_SERVICE_CONFIG, TaskConfig
from evalscope.models.openai_compatible import OpenAICompatibleAPI
from evalscope.models.utils.openai import openai_completion_params
from evalscope.utils.logger import get_logger

from k2_verifier_adapter.core.cases import NOT_PARAMETERS, Case
from k2_verifier_adapter.core.gateways import other_provider, pinned_providers
from k2_verifier_adapter.core.json_text import JsonTextError, dumps_strict, json_object, loads_strict
from k2_verifier_adapter.core.presets import preset_for
from k2_verifier_adapter.core.records import ResponseRecord
from k2_verifier_adapter.core.requests import (
    Request,
    build_request,
    estimate_prompt_tokens,
    estimate_tokens,
    merge_parameters,
)
from k2_verifier_adapter.core.responses import Response, parse_completion, reported_tokens
from k2_verifier_adapter.core.run_facts import RunFacts, StoppingRule
from k2_verifier_adapter.core.secrets import Masker, hide_secrets
from k2_verifier_adapter.errors import CacheMismatchError, DataError, UsageError
from k2_verifier_adapter.evalscope_plugin.loading import case_of
from k2_verifier_adapter.formats.runs import RunPaths, read_facts, read_predictions

logger = get_logger()

_TRANSPORT_KEYS = frozenset({"timeout", "extra_headers", "extra_query", "extra_body"})

_ENOUGH = 200
"""Stored answers that are read to scale the estimate of the prompt tokens."""


class RequestPlanner:
    """Merge the parameters by precedence: the subset's preset, the row's own, the user's."""

    def __init__(self, model: str, user: Mapping[str, Any], masker: Masker) -> None:
        """Fix what does not depend on the row: model name, user's parameters, what is secret in them."""
        try:
            sent = dumps_strict(dict(user))
        except JsonTextError as error:
            raise UsageError(f"generation_config holds what cannot be sent as JSON: {error}") from None
        try:
            # What is stored with the answers has to be read again.
            json_object(loads_strict(sent))
        except (JsonTextError, TypeError) as error:
            raise UsageError(f"generation_config holds what could not be read back: {error}") from None
        self._model = model
        self._user = user
        hidden = masker.value(hide_secrets(user))
        self._hidden = {name: value for name, value in hidden.items() if value != user[name]}

    def parameters(self, subset: str, own: Mapping[str, Any]) -> dict[str, Any]:
        """Merge the parameters of a row."""
        return merge_parameters(preset_for(subset).parameters, own, self._user)

    def learn(self, subset: str, records: Iterable[ResponseRecord]) -> None:
        """Take in answers on which later requests depend; of rows, none does."""

    def request(self, subset: str, case: Case) -> Request:
        """Build the request of a case; its identity shows no secret."""
        request = build_request(case, self._model, self.parameters(subset, case.parameters))
        if not self._hidden:
            return request
        identity = request.identity
        shown = {name: self._hidden.get(name, value) for name, value in identity.parameters.items()}
        return replace(request, identity=replace(identity, parameters=shown))

    def shared_parameters(self, subset: str, cases: Iterable[Case]) -> dict[str, Any]:
        """Give the parameters, `model` included, that all requests share, without secrets."""
        own: list[Mapping[str, Any]] = []
        for case in cases:
            if case.parameters not in own:
                own.append(case.parameters)
        sent = [self.parameters(subset, parameters) for parameters in own or [{}]]
        shared = {
            name: self._hidden.get(name, value)
            for name, value in sent[0].items()
            if all(name in other and other[name] == value for other in sent)
        }
        return {"model": self._model, **shared}


def user_parameters(task_config: TaskConfig, api: ModelAPI) -> dict[str, Any]:
    """Collect the request body parameters that the user set, key by key, named as the API names them."""
    chosen = GenerateConfig(**_chosen_fields(task_config))
    if isinstance(api, OpenAICompatibleAPI):
        body = dict(api.completion_params(config=chosen, tools=True))
    else:
        name = str(getattr(api, "model_name", task_config.model))
        body = dict(openai_completion_params(model=name, config=chosen, tools=True))
    extra_body = body.get("extra_body") or {}
    unset_stream = chosen.stream is None
    for name in (*_TRANSPORT_KEYS, "model", *(("stream", "stream_options") if unset_stream else ())):
        body.pop(name, None)
    # Fields that EvalScope's config does not know are the user's all the same.
    body.update(chosen.model_extra or {})
    body.update(extra_body)
    ignored = sorted(NOT_PARAMETERS & set(body))
    if ignored:
        logger.warning(
            f"generation_config sets {', '.join(ignored)}, which are not sent: messages and tools are the "
            "row's own, and the model is the one that --model names"
        )
    return {name: value for name, value in body.items() if name not in NOT_PARAMETERS}


def _chosen_fields(task_config: TaskConfig) -> dict[str, Any]:
    """Give the fields of `generation_config` that the user set.

    EvalScope fills an empty one with temperature 0.0, which cannot be told from the user's own; if that is
    all there is, it is taken for the default.
    """
    config = task_config.generation_config
    fields = {
        name: getattr(config, name)
        for name in sorted(config.model_fields_set - {"batch_size"})
        if getattr(config, name) is not None
    }
    if fields.get("n") == 1:
        # What EvalScope leaves behind where it turned `n` into repeats.
        del fields["n"]
    # EvalScope adds these behind the default, from its deprecated flags.
    from_flags = {name for name in ("timeout", "stream") if getattr(task_config, name) is not None}
    own = {name: value for name, value in fields.items() if name not in from_flags}
    if own != DEFAULT_TEXT_GEN_SERVICE_CONFIG:
        return fields
    logger.info(
        "generation_config holds nothing but EvalScope's default temperature 0.0: the preset "
        'applies. To send 0.0, set extra_body: {"temperature": 0.0}.'
    )
    return {name: value for name, value in fields.items() if name in from_flags}


_NOT_SENT = frozenset({"batch_size", "n"})
"""Fields of which EvalScope makes other settings; they may stand beside its default."""


def explicit_defaults(generation_config: Any) -> Any:
    """Give a `generation_config` of the user's own in a form in which EvalScope's default is no default.

    In a task, a temperature of 0.0 alone cannot be told from the one that EvalScope fills in and that is not
    sent.
    """
    if not isinstance(generation_config, Mapping):
        return generation_config
    sent = {
        name: value
        for name, value in generation_config.items()
        if value is not None and name not in _NOT_SENT
    }
    if sent != DEFAULT_TEXT_GEN_SERVICE_CONFIG:
        return generation_config
    beside = {name: value for name, value in generation_config.items() if name in _NOT_SENT}
    return {**beside, "extra_body": sent}


@dataclass(slots=True)
class WorkItem:
    """One sample to have answered, or one stored answer to judge again."""

    subset: str
    sample: Sample
    case: Case
    repeat: int
    stored: ResponseRecord | None

    @property
    def needs_predict(self) -> bool:
        """Whether a request is due; EvalScope's own name, which `eval` reads."""
        return self.stored is None


def collect(
    planner: RequestPlanner,
    paths: RunPaths,
    dataset: Dataset,
    repeats: int,
    *,
    resume: bool,
    rule: StoppingRule | None = None,
) -> list[WorkItem]:
    """Match every sample of a subset with its stored answer, if stored answers belong to this run.

    Args:
        planner: Makes the requests.
        paths: Where the run is kept.
        dataset: The samples.
        repeats: Requests for each row.
        resume: Whether stored answers belong to this run.
        rule: How the run stops when it is decided, or None.

    Raises:
        CacheMismatchError: If an answer is to another request than today's, or the looks are others.
    """
    stored = _stored_records(paths) if resume else {}
    if stored:
        _check_looks(paths, rule)
        planner.learn(paths.subset, stored.values())
    items = []
    differing = []
    for sample in dataset:
        case = case_of(sample.metadata)
        repeat = int(sample.id) % repeats
        record = stored.get((case.index, repeat))
        items.append(WorkItem(paths.subset, sample, case, repeat, record))
        if record is not None:
            difference = planner.request(paths.subset, case).identity.difference_from(record.request)
            if difference is not None:
                differing.append(f"case {case.index}: {difference}")
    if differing:
        answered = sum(item.stored is not None for item in items)
        raise CacheMismatchError(
            f"{paths.predictions}: {len(differing)} of {answered} stored responses answer other "
            f"requests than today's ({' | '.join(differing[:3])}). Restore the settings and rows of that "
            "run, or start a new one without --use-cache."
        )
    return items


def _check_looks(paths: RunPaths, rule: StoppingRule | None) -> None:
    """Refuse to change when a run is looked at, once it may have been looked at."""
    facts = earlier_facts(paths)
    if facts is None and paths.facts.exists():
        return
    before = None if facts is None else facts.stopping
    if before is not None:
        before = replace(before, look=None)
    if before == rule:
        return
    asked = (
        "was not"
        if before is None
        else f"was, with at most {before.design.maximum:,} cases and seed {before.seed},"
    )
    raise CacheMismatchError(
        f"{paths.facts}: this run {asked} begun with stop_when_decided. When it is looked at cannot be "
        "changed afterwards; restore its settings, or start a new run without --use-cache."
    )


@dataclass(frozen=True, slots=True)
class Cost:
    """What the requests of a subset come to, if none has to be repeated.

    Attributes:
        requests: Requests to send.
        prompt_tokens: Tokens of their prompts, estimated from lengths.
        stored: Answers that are stored.
        measured: Stored answers whose token counts the estimate is scaled by.
        of_prompt: Prompt tokens of a request, of all rows on average.
        of_answer: Completion tokens of an answer, of the stored ones on average; None if none tells.
    """

    requests: int
    prompt_tokens: float
    stored: int
    measured: int
    of_prompt: float
    of_answer: float | None

    def __str__(self) -> str:
        """Say it in a line."""
        by = f"scaled by {self.measured:,} stored answers" if self.measured else "estimated from their length"
        known = f" ({self.stored:,} answers are stored)" if self.stored else ""
        requests = f"{self.requests:,} requests to send{known}"
        return f"{requests}, about {rough(self.prompt_tokens)} prompt tokens ({by}), retries not counted"


def rough(number: float) -> str:
    """Give a number with two digits: more would claim what an estimate lacks."""
    whole = round(number)
    return f"{round(whole, 2 - len(str(whole))) if whole > 99 else whole:,}"


def expected_cost(items: Sequence[WorkItem]) -> Cost:
    """Estimate what the requests of a subset come to, by the measure of stored answers where those tell."""
    to_send = [item.case for item in items if item.stored is None]
    stored = [(item.case, item.stored) for item in items if item.stored is not None]
    measured, answers = [], []
    for case, record in stored[:_ENOUGH]:
        response = parse_completion(record.response)
        if isinstance(response, Response) and (used := reported_tokens(response.completion, "prompt_tokens")):
            measured.append((used, _estimate(case)))
            answers.append(reported_tokens(response.completion, "completion_tokens"))
    scale = sum(used for used, _ in measured) / sum(guess for _, guess in measured) if measured else 1.0
    tokens = scale * sum(map(_estimate, to_send))
    of_stored = scale * sum(_estimate(case) for case, _ in stored)
    return Cost(
        requests=len(to_send),
        prompt_tokens=tokens,
        stored=len(stored),
        measured=len(measured),
        of_prompt=(tokens + of_stored) / max(1, len(items)),
        of_answer=sum(answers) / len(answers) if answers else None,
    )


def tokens_of(case: Case, completion: Mapping[str, Any], text: str) -> int:
    """Give the tokens that an answer used; where the vendor does not say, what it must be about."""
    parts = (reported_tokens(completion, name) for name in ("prompt_tokens", "completion_tokens"))
    reported = reported_tokens(completion, "total_tokens") or sum(parts)
    return reported or round(_estimate(case) + estimate_tokens(text.encode()))


def _estimate(case: Case) -> float:
    return estimate_prompt_tokens(case.messages_json, case.tools_json)


def earlier_facts(paths: RunPaths) -> RunFacts | None:
    """Read what is known of the session before; None if nothing is, or what is there is damaged."""
    try:
        return read_facts(paths)
    except DataError as error:
        logger.warning(f"{error}; the answers beside it are used, and it is written anew")
        return None


def _stored_records(paths: RunPaths) -> Mapping[tuple[int, int], ResponseRecord]:
    records, damaged = read_predictions(paths.predictions)
    if damaged:
        logger.warning(
            f"{paths.predictions}: {damaged} lines are damaged or not this adapter's; their samples are "
            "sent again"
        )
    return {(record.case_index, record.repeat): record for record in records if not _is_void(record)}


def _is_void(record: ResponseRecord) -> bool:
    """Whether an answer is another provider's than its request pins; earlier versions stored such."""
    parameters = record.request.parameters
    response = parse_completion(record.response) if pinned_providers(parameters) else None
    return isinstance(response, Response) and other_provider(parameters, response.completion) is not None
