"""The names that vLLM has."""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Sequence, Union

from .model import Model
from .params import (EmbeddingRequestOutput, Message, Prompt, RequestOutput, SamplingParams, ScoringOutput,
                     ScoringRequestOutput)


class LLM:
    """A model for offline batches: prompts in, a list of answers out, in their order."""

    def __init__(self, model: str = "", **settings: Any) -> None:
        """No model is the demo model. `settings` are those of cajal.Model."""
        self.model = Model(model, **settings)

    def generate(self, prompts: Union[Prompt, Sequence[Prompt], None] = None,
                 sampling_params: Optional[SamplingParams] = None, *,
                 prompt_token_ids: Optional[Sequence[Sequence[int]]] = None) -> List[RequestOutput]:
        """The answers to all prompts; one prompt is a list of one."""
        if (prompts is None) == (prompt_token_ids is None):
            raise ValueError("give either prompts or prompt_token_ids")
        outputs = self.model.generate(prompts if prompts is not None else list(prompt_token_ids or []), sampling_params)
        return outputs if isinstance(outputs, list) else [outputs]

    def chat(self, messages: Union[Sequence[Message], Sequence[Sequence[Message]]],
             sampling_params: Optional[SamplingParams] = None, *, add_generation_prompt: bool = True,
             chat_template_kwargs: Optional[Mapping[str, Any]] = None) -> List[RequestOutput]:
        """The answers to a conversation, or to each of several."""
        several: Any = messages if messages and not isinstance(messages[0], Mapping) else [messages]
        prompts: List[Prompt] = [self.model.apply_chat_template(conversation, add_generation_prompt=add_generation_prompt,
                                                  **(chat_template_kwargs or {})) for conversation in several]
        outputs: List[RequestOutput] = self.model.generate(prompts, sampling_params)
        return outputs

    def embed(self, prompts: Union[Prompt, Sequence[Prompt]], **options: Any) -> List[EmbeddingRequestOutput]:
        """The vectors of all texts; one text is a list of one. `options` are those of cajal.Model.embed."""
        outputs = self.model.embed(prompts, **options)
        return outputs if isinstance(outputs, list) else [outputs]

    def score(self, data_1: Union[str, Sequence[str]], data_2: Union[str, Sequence[str]],
              **options: Any) -> List[ScoringRequestOutput]:
        """How well documents answer a query, in the order of the documents: one query with all of them, or as many queries
        as documents, each with its own. `options` are those of cajal.Model.rerank."""
        queries = [data_1] if isinstance(data_1, str) else list(data_1)
        documents = [data_2] if isinstance(data_2, str) else list(data_2)
        if len(queries) != 1 and len(queries) != len(documents):
            raise ValueError(f"{len(queries)} queries and {len(documents)} documents: give one query, or one a document")
        if len(queries) == 1:
            ranked = sorted(self.model.rerank(queries[0], documents, **options), key=lambda d: d.index)
        else:
            ranked = [self.model.rerank(q, [d], **options)[0] for q, d in zip(queries, documents)]
        return [ScoringRequestOutput(ScoringOutput(d.relevance_score)) for d in ranked]

    def get_default_sampling_params(self) -> SamplingParams:
        """What leaves everything to the model's generation_config.json."""
        return SamplingParams()
