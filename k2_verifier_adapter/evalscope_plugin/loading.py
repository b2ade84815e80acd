"""From rows to EvalScope's samples: where the rows come from, limit, shuffle and repeats."""

from __future__ import annotations

import json
import os
import random
import socket
import urllib.request
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from evalscope.api.benchmark import AgentAdapter
from evalscope.api.dataset import Dataset, MemoryDataset, RemoteDataLoader, Sample
from evalscope.api.dataset.dataset import resolve_dataset_limit
from evalscope.constants import HubType
from evalscope.utils.logger import get_logger
from pydantic import BaseModel, ConfigDict, model_serializer

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.json_text import dumps_ascii
from k2_verifier_adapter.core.printable import plural
from k2_verifier_adapter.core.sampling import RowsSample, SampleMethod, draw_stratified
from k2_verifier_adapter.errors import DataError, UsageError
from k2_verifier_adapter.evalscope_plugin.client.pacing import start_daemon
from k2_verifier_adapter.formats.lines import SUFFIXES
from k2_verifier_adapter.formats.rows import BUNDLED, LoadedRows, decode_records, load_cases, records_of
from k2_verifier_adapter.formats.runs import case_as_json, case_from_json
from k2_verifier_adapter.version import BENCHMARK

logger = get_logger()

_CASE = "case"
"""Key of the case in a sample's metadata."""


class _Held(BaseModel):
    """A case in a sample's metadata, which EvalScope's collections write as JSON and read back."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    case: Case

    @model_serializer
    def dump(self) -> str:
        return dumps_ascii(case_as_json(self.case))


def case_of(metadata: Mapping[str, Any]) -> Case:
    """Give the case of a sample, by its metadata; a `DataError` says that it has none."""
    held = metadata.get(_CASE)
    if isinstance(held, _Held):
        return held.case
    try:
        return case_from_json(json.loads(held or ""))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"a sample holds no row of {BENCHMARK}: {error!r}") from None


HUB_DATASET = "evalscope/K2VendorVerifier"
HUB_SUBSETS = ("k2_thinking",)
_HUB_PATIENCE_S = 5.0
"""Seconds that a load may take once its hub is known to be out of reach: a cached one needs less."""
_REACH_TIMEOUT_S = 3.0
_SHOWN = 10


def check_subsets(source: str, subsets: Sequence[str]) -> None:
    """Raise `UsageError` for rows that would be asked twice: by one subset name, or from one file by two."""
    twice = sorted(name for name, count in Counter(subsets).items() if count > 1)
    if twice:
        raise UsageError(f"dataset_args.{BENCHMARK}.subset_list names {', '.join(map(repr, twice))} twice")
    if len(subsets) > 1 and Path(source).expanduser().is_file():
        raise UsageError(
            f"dataset_args.{BENCHMARK}.local_path {source!r} is one file, and subset_list names "
            f"{len(subsets)} subsets: {', '.join(map(repr, subsets))}; give one of them, or a directory with "
            "a file for each"
        )


def load_rows(adapter: AgentAdapter, subset: str, options: HistoryOptions) -> LoadedRows:
    """Load all rows of a subset from wherever the configuration says, or raise `DataError`."""
    source = adapter.dataset_id
    looks_local = source.startswith((".", "/", "~")) or source.endswith(SUFFIXES)
    if looks_local or source == BUNDLED or os.path.exists(source):  # noqa: PTH110 - a hub id is no path
        return load_cases(source, subset, options)
    if source == HUB_DATASET and subset not in HUB_SUBSETS:
        raise DataError(
            f"subset {subset!r} is not on the hub, which holds {', '.join(HUB_SUBSETS)}; "
            f"give dataset_args.{BENCHMARK}.local_path the rows of {subset!r}"
        )
    records = _load_from_hub(adapter, subset)
    return decode_records(records_of(records), source, options)


def _load_from_hub(adapter: AgentAdapter, subset: str) -> Iterable[Mapping[str, Any]]:
    """Load through EvalScope's hub loader and cache; give up within seconds where there is no network.

    The hub's own client (modelscope 1.40) retries an unreachable host for 15 s.
    """
    loader = RemoteDataLoader(
        data_id_or_path=adapter.dataset_id,
        split=adapter.eval_split,
        subset=subset,
        sample_fields=lambda record: Sample(input="", metadata=record),
        data_source=adapter.dataset_hub,
        version=adapter.dataset_revision,
        force_redownload=adapter.force_redownload,
        dataset_dir=adapter.dataset_dir,
    )
    loaded: Future[Dataset] = Future()
    start_daemon(loader.load, loaded)
    unreachable = _unreachable_host(adapter.dataset_hub)
    try:
        rows = loaded.result(_HUB_PATIENCE_S if unreachable else None)
    except Exception as error:
        said = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        why = f"host {unreachable} is out of reach" if unreachable else said
        raise DataError(
            f"the dataset {adapter.dataset_id!r} (subset {subset!r}) cannot be loaded from "
            f"{adapter.dataset_hub}: {why}. Without network, give dataset_args.{BENCHMARK}.local_path a file "
            f"or directory of rows, or {BUNDLED!r} for the bundled synthetic rows."
        ) from error
    # A number that the hub's rows may carry is not known to be upstream's; their order is.
    return [{**sample.metadata, "data_index": None} for sample in rows]


def _unreachable_host(hub: str) -> str | None:
    """Name the hub's host if no connection to it can be made; None if it can, or a proxy decides."""
    if {"http", "https", "all"} & urllib.request.getproxies().keys():
        return None
    if hub == HubType.HUGGINGFACE:
        address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    else:
        address = (
            os.environ.get("MODELSCOPE_ENDPOINT")
            or os.environ.get("MODELSCOPE_DOMAIN")
            or "www.modelscope.cn"
        )
    parts = urlsplit(address if "//" in address else f"https://{address}")
    host, port = parts.hostname or address, parts.port or (80 if parts.scheme == "http" else 443)
    try:
        socket.create_connection((host, port), timeout=_REACH_TIMEOUT_S).close()
    except OSError:
        return host
    return None


def choose_rows(adapter: AgentAdapter, rows: LoadedRows, stratified: int | None) -> LoadedRows:
    """Apply shuffle and limit, in this order, as EvalScope's loaders do; or draw as many rows stratified.

    `stratified` is the seed of the draw; None for EvalScope's way.
    """
    cases = list(rows.cases)
    if adapter.shuffle:
        random.Random(adapter.seed).shuffle(cases)
    limit = resolve_dataset_limit(adapter.limit, len(cases)) if adapter.limit else None
    if limit == 0:
        raise UsageError(f"limit {adapter.limit!r} of {len(cases)} rows leaves none")
    if limit is None or limit >= len(cases):
        return replace(rows, cases=cases)
    chosen = cases[:limit]
    if stratified is not None:
        decisions = {case.data_index: case.official.should_call for case in cases}
        drawn = draw_stratified(decisions, limit, stratified)
        chosen = [case for case in cases if case.data_index in drawn]
        sample = RowsSample(SampleMethod.STRATIFIED, stratified, limit, len(cases))
    elif adapter.shuffle:
        sample = RowsSample(SampleMethod.SHUFFLED, adapter.seed, limit, len(cases))
    else:
        sample = RowsSample(SampleMethod.FIRST, None, limit, len(cases))
    return replace(rows, cases=chosen, info=replace(rows.info, sample=sample))


def to_dataset(adapter: AgentAdapter, rows: LoadedRows) -> MemoryDataset:
    """Make samples of the rows that were chosen, each as often as it is to be asked.

    A sample holds nothing but its case: EvalScope's message types would rewrite the messages.
    """
    repeats = adapter.repeats
    dataset = MemoryDataset(
        samples=[
            Sample(input="", metadata={_CASE: _Held.model_construct(case=case)})
            for case in rows.cases
            for _ in range(repeats)
        ],
        name=rows.info.source,
        location=rows.info.source,
        shuffled=adapter.shuffle,
    )
    dataset.reindex(group_size=repeats)
    return dataset


def log_rows(subset: str, rows: LoadedRows, chosen: LoadedRows) -> None:
    """Say what was loaded, what was repaired, and which rows were chosen of it."""
    cases = rows.cases
    label = " SYNTHETIC" if rows.info.synthetic else ""
    logger.info(
        f"{subset}: {len(cases)}{label} rows from {rows.info.source}, "
        f"{_official_calls(rows)} with an official call"
    )
    if chosen.info.sample is not None:
        logger.info(
            f"{subset}: rows asked: {chosen.info.sample}; {_official_calls(chosen)} with an official call"
        )
    contradicting = [
        str(case.data_index)
        for case in cases
        if not case.official.should_call and case.official.tool_calls_json not in (None, "", "[]", "null")
    ]
    if contradicting:
        more = ", …" if len(contradicting) > _SHOWN else ""
        logger.warning(
            f"{subset}: {plural(len(contradicting), 'row')} with should_call_tool false carry official tool "
            f"calls, which are passed over: data_index {', '.join(contradicting[:_SHOWN])}{more}"
        )
    malformed = sum(bool(case.repairs.malformed_history) for case in cases)
    if malformed:
        calls = sum(case.repairs.malformed_history for case in cases)
        logger.warning(
            f"{subset}: {malformed} rows hold {calls} historical calls whose arguments are not JSON; "
            "they are sent as {} (extra_params.malformed_history)"
        )
    renamed = sum(case.repairs.input_role for case in cases)
    if renamed:
        logger.info(f"{subset}: {renamed} messages of role _input are sent as system")
    ids = sum(case.repairs.tool_call_ids for case in cases)
    if ids:
        logger.info(
            f"{subset}: {ids} historical tool call ids are renamed (extra_params.normalize_tool_call_ids)"
        )


def _official_calls(rows: LoadedRows) -> int:
    return sum(case.official.should_call for case in rows.cases)
