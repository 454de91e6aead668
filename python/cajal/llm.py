"""The names that vLLM has."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Union

from .model import Model
from .params import Prompt, RequestOutput, SamplingParams


class LLM:
    """A model for offline batches: prompts in, a list of answers out, in their order."""

    def __init__(self, model: str, **settings: Any) -> None:
        """`settings` are those of cajal.Model."""
        self.model = Model(model, **settings)

    def generate(self, prompts: Union[Prompt, Sequence[Prompt], None] = None,
                 sampling_params: Optional[SamplingParams] = None, *,
                 prompt_token_ids: Optional[Sequence[Sequence[int]]] = None) -> List[RequestOutput]:
        """The answers to all prompts; one prompt is a list of one."""
        if (prompts is None) == (prompt_token_ids is None):
            raise ValueError("give either prompts or prompt_token_ids")
        outputs = self.model.generate(prompts if prompts is not None else list(prompt_token_ids or []), sampling_params)
        return outputs if isinstance(outputs, list) else [outputs]

    def get_default_sampling_params(self) -> SamplingParams:
        """What leaves everything to the model's generation_config.json."""
        return SamplingParams()
