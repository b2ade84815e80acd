"""Which request belongs to a case today."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.presets import preset_for
from k2_verifier_adapter.core.requests import Request, build_request, merge_parameters
from k2_verifier_adapter.core.secrets import Masker, hide_secrets


class RequestPlanner:
    """Merge the parameters by precedence: the subset's preset, the row's own, the user's."""

    def __init__(self, model: str, user: Mapping[str, Any], masker: Masker) -> None:
        """Fix what does not depend on the row.

        Args:
            model: The model name to ask for.
            user: What the user sets in `generation_config`, `extra_body` included.
            masker: Takes the secrets out of what is kept of a request.
        """
        self._model = model
        self._user = user
        hidden = masker.value(hide_secrets(user))
        self._hidden = {name: value for name, value in hidden.items() if value != user[name]}

    def parameters(self, subset: str, own: Mapping[str, Any]) -> dict[str, Any]:
        """Merge the parameters of a row."""
        return merge_parameters(preset_for(subset).parameters, own, self._user)

    def request(self, subset: str, case: Case) -> Request:
        """Build the request of a case; its identity shows no secret."""
        request = build_request(case, self._model, self.parameters(subset, case.parameters))
        if not self._hidden:
            return request
        identity = request.identity
        return replace(request, identity=replace(identity, parameters=self._shown(identity.parameters)))

    def _shown(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._hidden.get(name, value) for name, value in parameters.items()}

    def shared_parameters(self, subset: str, cases: Iterable[Case]) -> dict[str, Any]:
        """Give the parameters, `model` included, that all requests share, without secrets."""
        own: list[Mapping[str, Any]] = []
        for case in cases:
            if case.parameters not in own:
                own.append(case.parameters)
        sent = [self.parameters(subset, parameters) for parameters in own or [{}]]
        shared = {
            name: value
            for name, value in sent[0].items()
            if all(name in other and other[name] == value for other in sent)
        }
        return {"model": self._model, **self._shown(shared)}
