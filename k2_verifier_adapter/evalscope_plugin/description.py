"""How EvalScope's pages describe the benchmark: they read its own files before a benchmark's own words.

EvalScope 1.14.1 ships a text for every name (`benchmarks/_meta/NAME.json`), which its HTML report, its
service and `benchmark-info` prefer. The file stays as it is; what is read out of it is replaced.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from k2_verifier_adapter.version import BENCHMARK

PRETTY_NAME = "K2 Vendor Verifier"

ENGLISH = """
## Overview

Replays the official prompt set of the K2 Vendor Verifier at an endpoint that serves Kimi K2, and compares
its tool calling with the official API's: the decision to call, and the validity of every call.
Served by k2-verifier-adapter.

## Task Description

- **Task Type**: vendor deployment check (tool calling)
- **Input**: the row's own messages and tools, sent unchanged
- **Output**: the raw chat completion, streamed or not
- **Comparison**: with the official decision that the row carries

## Key Features

- Judges the raw response by the rules of upstream's `tool_calls_eval.py`
- Failed requests are retried, never cached and never counted as "did not call"
- Every rate with its 95 % interval; every failure with its class

## Evaluation Notes

- Primary metric: `trigger_similarity`, the F1 of the decision to call
- Acceptance threshold: 0.73 for `k2_thinking`, 0.80 for `k2_0905`
- `dataset_args.k2_verifier.local_path` takes local rows, or `bundled` for the synthetic ones
"""

CHINESE = """
## 概述

把 K2 Vendor Verifier 的官方提示集重放到提供 Kimi K2 服务的接口上，并将其工具调用
与官方 API 比较：是否调用的决定，以及每次调用是否有效。
由 k2-verifier-adapter 提供。

## 任务描述

- **任务类型**：供应商部署检查（工具调用）
- **输入**：数据行自身的 messages 与 tools，原样发送
- **输出**：原始的 chat completion，流式或非流式
- **比较**：与数据行携带的官方决定比较

## 主要特点

- 按上游 `tool_calls_eval.py` 的规则评判原始响应
- 失败的请求会重试，绝不缓存，也绝不计为“未调用”
- 每个比率都带 95 % 区间；每个失败都有其类别

## 评估说明

- 主要指标：`trigger_similarity`，即调用决定的 F1
- 接受阈值：`k2_thinking` 为 0.73，`k2_0905` 为 0.80
- `dataset_args.k2_verifier.local_path` 接受本地数据行，或用 `bundled` 表示自带的合成数据行
"""

CONFORMANCE_NAME = "Kimi Conformance"

CONFORMANCE_ENGLISH = """
## Overview

Asks an endpoint that serves a Kimi model for its contract of tool calling, probe by probe: schemas that
arguments have to fit, `tool_choice`, tools in system messages, histories, streams, parameters, prompt tokens.
Served by k2-verifier-adapter.

## Task Description

- **Task Type**: vendor deployment check (contract of tool calling)
- **Input**: small requests, each with what the contract expects of its answer
- **Output**: the raw chat completion, streamed and not, or the server's refusal
- **Comparison**: with the contract of the model's profile, `k2` to `k3`

## Key Features

- A probe that fails names the expectation, what came, and what to change on which engine
- 400 and 422 are answers; a wrong key, 429 and 5xx are failed requests, retried and never judged
- A suite passes if all of its probes pass at the first try; one that passes later is flaky

## Evaluation Notes

- Primary metric: `pass_rate`, the share of the answered probes that pass at the first try
- `dataset_args.kimi_conformance.subset_list` takes suites by name, and files and directories of probes
- `extra_params.profile` says which model is served, where its name does not
"""

_USAGE = """
## Usage

See the documentation of k2-verifier-adapter.
"""
"""EvalScope's pages leave the last section of a text out."""

Load = Callable[..., dict[str, Any]]


def describing(load: Load) -> Load:
    """Wrap EvalScope's reading of its files, so that this benchmark is described as it is."""

    def load_benchmark_data(benchmark_name: str | None = None) -> dict[str, Any]:
        data = load(benchmark_name)
        return {**data, BENCHMARK: _entry(data[BENCHMARK])} if BENCHMARK in data else data

    return load_benchmark_data


def describe_everywhere() -> None:
    """Have all of EvalScope read the description, what is imported already included."""
    from evalscope.utils import resource_utils

    load = resource_utils.load_benchmark_data
    wrapped = describing(load)
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "evalscope" and getattr(module, "load_benchmark_data", None) is load:
            module.load_benchmark_data = wrapped  # type: ignore[attr-defined]


def _entry(shipped: dict[str, Any]) -> dict[str, Any]:
    meta = {**shipped.get("meta", {}), "pretty_name": PRETTY_NAME, "description": ENGLISH}
    readme = {
        **shipped.get("readme", {}),
        **{
            language: f"# {PRETTY_NAME}\n{text}{_USAGE}"
            for language, text in (("en", ENGLISH), ("zh", CHINESE))
        },
    }
    # The sample is one of the built-in benchmark's, in its form.
    return {**shipped, "meta": meta, "readme": readme, "sample_example": {}}
