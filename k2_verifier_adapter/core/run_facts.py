"""What is known of a run besides its answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from k2_verifier_adapter.core.json_text import json_object, text, text_or_none, whole
from k2_verifier_adapter.core.model_profiles import ModelProfile, choose_profile, profile_or_none
from k2_verifier_adapter.core.presets import Standard
from k2_verifier_adapter.core.sampling import RowsSample
from k2_verifier_adapter.core.statistics.sequential import FIXED, Design, Level
from k2_verifier_adapter.core.verdict import NO_GATE, GateOptions


@dataclass(frozen=True, slots=True)
class RowsInfo:
    """Which rows were asked.

    Attributes:
        source: Path or hub id as the user gave it.
        sha256: Digest over the content of all rows of the source, in order.
        synthetic: Whether any row is synthetic.
        sample: Which of the source's rows; None if it was all of them.
    """

    source: str
    sha256: str
    synthetic: bool
    sample: RowsSample | None = None

    def as_json(self) -> dict[str, Any]:
        """Give the form that files and reports hold."""
        value: dict[str, Any] = {"source": self.source, "sha256": self.sha256, "synthetic": self.synthetic}
        if self.sample is not None:
            value["sample"] = self.sample.as_json()
        return value

    @classmethod
    def from_json(cls, value: Any) -> RowsInfo:
        """Read the stored form back; a KeyError, TypeError or ValueError says that it is not one."""
        source, digest, synthetic = text(value["source"]), text(value["sha256"]), bool(value["synthetic"])
        return cls(source, digest, synthetic, RowsSample.from_json(value.get("sample")))


@dataclass(frozen=True, slots=True)
class StoppingRule:
    """How a run is asked and judged that stops when its verdict is decided.

    Attributes:
        seed: Seed of the order in which the cases are asked, `sampling.in_stratified_order`.
        design: The looks.
        look: Place of the last look that was judged; where the run is complete, the verdict is of it.
    """

    seed: int
    design: Design
    look: int | None = None

    @property
    def level(self) -> Level:
        """How sure the checks have to be."""
        return self.design.levels[self.look or 0]

    @property
    def cases(self) -> int:
        """The first cases of the order that the last look judged."""
        return 0 if self.look is None else self.design.looks[self.look]

    def __str__(self) -> str:
        """Say what the verdict is of."""
        if self.look is None:
            return f"before the first look, at {self.design.looks[0]:,} cases ({self.design})"
        return f"after {self.cases:,} of {self.design.maximum:,} cases ({self.design})"

    def as_json(self) -> dict[str, Any]:
        """Give the form that files hold."""
        return {"seed": self.seed, **self.design.as_json(), "look": self.look}

    @classmethod
    def from_json(cls, value: Any) -> StoppingRule | None:
        """Read the form that files hold back; None for None.

        Raises:
            KeyError, TypeError, ValueError: If it is neither.
        """
        design = Design.from_json(value)
        if design is None:
            return None
        look = None if value["look"] is None else whole(value["look"])
        if look is not None and not 0 <= look < len(design.looks):
            raise ValueError(f"{look} is no look of {len(design.looks)}")
        return cls(whole(value["seed"]), design, look)


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run was to ask, and whether it did: what its lines, exported, would not tell by themselves.

    Attributes:
        stopping: How it stopped when it was decided; None if it asked all of its rows, or did not end.
        sample: Which of the source's rows it was to ask; None for all.
        ended: What ended it early; None if it came to its end.
    """

    stopping: StoppingRule | None = None
    sample: RowsSample | None = None
    repeats: int = 1
    ended: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Give the form that files hold, without what is usual."""
        said = {
            "stopping": self.stopping and self.stopping.as_json(),
            "sample": self.sample and self.sample.as_json(),
            "repeats": self.repeats if self.repeats > 1 else None,
            "ended": self.ended,
        }
        return {name: value for name, value in said.items() if value is not None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunPlan:
        """Read the form that files hold back; what is not understood is left out."""
        repeats, ended = value.get("repeats"), value.get("ended")
        return cls(
            stopping=_understood(StoppingRule.from_json, value.get("stopping")),
            sample=_understood(RowsSample.from_json, value.get("sample")),
            repeats=repeats if isinstance(repeats, int) and repeats > 1 else 1,
            ended=ended if isinstance(ended, str) else None,
        )


_T = TypeVar("_T")


def _understood(read: Callable[[Any], _T | None], value: Any) -> _T | None:
    try:
        return read(value)
    except (KeyError, OverflowError, TypeError, ValueError):
        return None


WHOLE_SET = RunPlan()
"""The plan of a run of which nothing else is said."""

INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is known of a run besides its answers; stored in the run's `run.json`.

    Attributes:
        model: The model id of the run, as EvalScope names its files.
        parameters: The request parameters that all requests share.
        planned: Requests that the run was to make: rows times repeats.
        started_at: Start of the first session, ISO 8601.
        finished_at: End of the last session, or None while running or after a crash.
        complete: Whether the last session ended by itself (failed requests included).
        endpoint_host: Host and port that was asked; None for an API without URL.
        stopped: Why the last session ended early, a maximum of the user's for example, or None.
        gate: What decides the exit code, as the user asked when the run was made.
        stopping: How the run stops when it is decided, or None if it asks all of its rows.
        profile: The model profile that the user chose; None if model and subset tell it.
    """

    model: str
    subset: str
    parameters: Mapping[str, Any]
    rows: RowsInfo
    planned: int
    repeats: int
    started_at: str
    finished_at: str | None
    complete: bool
    endpoint_host: str | None
    adapter: str
    evalscope: str
    python: str
    standard: Standard | None = None
    stopped: str | None = None
    gate: GateOptions = NO_GATE
    stopping: StoppingRule | None = None
    profile: str | None = None

    @property
    def model_profile(self) -> ModelProfile:
        """What a faithful answer looks like."""
        return choose_profile(model=self.model, subset=self.subset, chosen=self.profile)

    @property
    def level(self) -> Level:
        """How sure the checks of the verdict have to be."""
        return FIXED if self.stopping is None else self.stopping.level

    @property
    def plan(self) -> RunPlan:
        """What the run was to ask, and whether it did."""
        stopping = self.stopping if self.complete else None
        ended = None if self.complete else self.stopped or INTERRUPTED
        return RunPlan(stopping, self.rows.sample, self.repeats, ended)


def facts_as_json(facts: RunFacts) -> dict[str, Any]:
    """Give the stored form of the facts."""
    return {
        "schema_version": 1,
        "model": facts.model,
        "subset": facts.subset,
        "parameters": dict(facts.parameters),
        "rows": facts.rows.as_json(),
        "planned": facts.planned,
        "repeats": facts.repeats,
        "started_at": facts.started_at,
        "finished_at": facts.finished_at,
        "complete": facts.complete,
        "endpoint_host": facts.endpoint_host,
        "adapter": facts.adapter,
        "evalscope": facts.evalscope,
        "python": facts.python,
        "standard": None if facts.standard is None else facts.standard.as_json(),
        "stopped": facts.stopped,
        "gate": facts.gate.as_json(),
        "stopping": None if facts.stopping is None else facts.stopping.as_json(),
        "profile": facts.profile,
    }


def facts_from_json(value: Mapping[str, Any]) -> RunFacts:
    """Read the stored form back; a KeyError, TypeError or ValueError says that it is not one."""
    return RunFacts(
        model=text(value["model"]),
        subset=text(value["subset"]),
        parameters=json_object(value["parameters"]),
        rows=RowsInfo.from_json(value["rows"]),
        planned=whole(value["planned"]),
        repeats=whole(value["repeats"]),
        started_at=text(value["started_at"]),
        finished_at=text_or_none(value["finished_at"]),
        complete=bool(value["complete"]),
        endpoint_host=text_or_none(value["endpoint_host"]),
        adapter=text(value["adapter"]),
        evalscope=text(value["evalscope"]),
        python=text(value["python"]),
        standard=Standard.from_json(value.get("standard")),
        stopped=text_or_none(value.get("stopped")),
        gate=GateOptions.from_json(value.get("gate")),
        stopping=StoppingRule.from_json(value.get("stopping")),
        profile=profile_or_none(value.get("profile")),
    )


def dump_facts(facts: RunFacts) -> str:
    """Give the text of a `run.json`."""
    return json.dumps(facts_as_json(facts), indent=2, ensure_ascii=True) + "\n"
