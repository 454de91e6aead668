"""What requests are made of and what they give."""

from __future__ import annotations

import dataclasses
import json
import math
from ctypes import c_double, sizeof
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

from . import _library

Prompt = Union[str, Sequence[int]]
"""Text, or token ids: a list, a NumPy array, …"""


Message = Dict[str, Any]
"""{"role": "user", "content": "…"}, and what else the template knows of."""


@dataclasses.dataclass
class StructuredOutputsParams:
    """What an answer has to be: exactly one of these. A thought that an answer begins with is free."""

    json: Union[str, Mapping[str, Any], None] = None  #: a JSON schema
    regex: Optional[str] = None  #: of the whole answer
    choice: Optional[Sequence[str]] = None  #: one of these texts
    grammar: Optional[str] = None  #: EBNF as GBNF has it, from its rule root on
    json_object: bool = False  #: any JSON object
    structural_tag: Union[str, Mapping[str, Any], None] = None  #: text with structures in it, as XGrammar writes that


@dataclasses.dataclass
class SamplingParams:
    """How to choose tokens. What is None comes from the model's generation_config.json, and then from the default.

    Without `do_sample` there, and without `temperature`, `top_k`, `top_p` and `min_p` here, the likeliest token is taken.
    """

    n: int = 1  #: answers to each prompt
    max_tokens: Optional[int] = None  #: at most so many new ones; 256
    temperature: Optional[float] = None  #: divides the logits; 0 takes the likeliest token
    top_k: Optional[int] = None  #: draw from the k likeliest; 0 and -1: all
    top_p: Optional[float] = None  #: draw from the likeliest that make up this probability
    min_p: Optional[float] = None  #: draw from those at least min_p times as likely as the likeliest
    repetition_penalty: Optional[float] = None  #: of tokens in prompt or answer
    presence_penalty: float = 0.0  #: taken once from the logit of each token of the answer
    frequency_penalty: float = 0.0  #: as often as it stands there
    seed: Optional[int] = None  #: None: drawn, and reported
    stop: Union[str, Sequence[str], None] = None  #: the text ends before the first of them
    stop_token_ids: Optional[Sequence[int]] = None  #: end an answer, beside those that the model names
    ignore_eos: bool = False  #: the tokens that the model names do not end an answer
    logprobs: Optional[int] = None  #: report each token's log-probability and those of the k likeliest
    priority: int = 0  #: who waits: the lower, the sooner; among equals who came first
    timeout_ms: Optional[int] = None  #: from the call on; what is not over by then ends as "timeout" with what it has
    cache_salt: Optional[str] = None  #: prompts share computed prefixes only with those of the same salt
    min_tokens: int = 0  #: no ending token before so many, unless a structure leaves nothing else
    logit_bias: Optional[Mapping[int, float]] = None  #: added to the logits of these tokens, -100 to 100
    structured_outputs: Optional[StructuredOutputsParams] = None  #: what the answer has to be
    thinking_token_budget: Optional[int] = None  #: tokens of a thought; then it is made to end
    may_think: bool = False  #: the answer may begin with a thought where the prompt has not begun one already

    def _to_c(self) -> Any:
        """The struct, and what it points to as its attribute."""
        c = _library.SamplingParams()
        _library.call("sampling_params_init", c, sizeof(c))
        for name in ("max_tokens", "top_k", "logprobs", "priority", "timeout_ms", "min_tokens", "thinking_token_budget"):
            if (value := getattr(self, name)) is not None:
                if not -(2**63) < int(value) < 2**63:
                    raise _library.InvalidArgument(f"{name} is {value}, expected a number of 64 bits")
                setattr(c, name, int(value))
        for name in ("temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"):
            if (value := getattr(self, name)) is not None:
                if math.isnan(value):
                    raise _library.InvalidArgument(f"{name} is not a number")
                setattr(c, name, float(value))
        c.n, c.ignore_eos, c.may_think = int(self.n), bool(self.ignore_eos), bool(self.may_think)
        if self.seed is not None:
            if not 0 <= self.seed < 2**64:
                raise _library.InvalidArgument(f"seed is {self.seed}, expected 0 to 2**64 - 1")
            c.seed, c.has_seed = self.seed, 1
        c.cache_salt = _library.string(self.cache_salt or "")
        stop = [self.stop] if isinstance(self.stop, str) else list(self.stop or [])
        ids = list(self.stop_token_ids or [])
        bias = dict(self.logit_bias or {})
        structure = self.structured_outputs or StructuredOutputsParams()
        choice = list(structure.choice or [])
        c.kept = ((_library.String * len(stop))(*map(_library.string, stop)), _library.int_array(ids),
                  (_library.String * len(choice))(*map(_library.string, choice)), _library.int_array(list(bias)),
                  (c_double * len(bias))(*bias.values()))
        c.choice, c.num_choice = c.kept[2], len(choice)
        c.logit_bias_token_ids, c.logit_biases, c.num_logit_biases = c.kept[3], c.kept[4], len(bias)
        c.json_object = bool(structure.json_object)
        for name in ("json", "structural_tag"):
            value = getattr(structure, name)
            setattr(c, name, _library.string(value if isinstance(value, str) else "" if value is None else json.dumps(value)))
        for name in ("regex", "grammar"):
            setattr(c, name, _library.string(getattr(structure, name) or ""))
        c.stop, c.num_stop = c.kept[0], len(stop)
        c.stop_token_ids, c.num_stop_token_ids = c.kept[1], len(ids)
        return c


@dataclasses.dataclass
class Logprob:
    """Natural logarithm of a probability in the model's own distribution, before temperature and penalties."""

    logprob: float
    rank: Optional[int] = None  #: 1 for the likeliest; None for a chosen token that is not among the reported ones


@dataclasses.dataclass
class RequestMetrics:
    """What an answer cost. Seconds are from the call on; None where it did not come that far."""

    cached_tokens: int = 0  #: of the prompt, that were found in the prefix cache
    queue_seconds: Optional[float] = None  #: until it first ran, or ended without that
    ttft_seconds: Optional[float] = None  #: until its first token
    e2e_seconds: Optional[float] = None  #: until its end


@dataclasses.dataclass
class Delta:
    """What became certain since the last delta of the same answer."""

    text: str
    token_ids: List[int]
    logprobs: Optional[List[Dict[int, Logprob]]]
    finish_reason: Optional[str]  #: of the last one
    prompt: int = 0  #: its index among the prompts
    index: int = 0  #: which of its n answers
    #: of the last one
    metrics: Optional[RequestMetrics] = dataclasses.field(default=None, compare=False)


@dataclasses.dataclass
class CompletionOutput:
    """One answer.

    `finish_reason`: "stop", "length", "aborted", "error" (the model's numbers were not finite) or "timeout". What it cost
    does not count when answers are compared.
    """

    index: int
    text: str
    token_ids: List[int]
    logprobs: Optional[List[Dict[int, Logprob]]]
    finish_reason: str
    metrics: RequestMetrics = dataclasses.field(default_factory=RequestMetrics, compare=False)

    @property
    def cumulative_logprob(self) -> Optional[float]:
        if self.logprobs is None:
            return None
        return sum(of_token[i].logprob for i, of_token in zip(self.token_ids, self.logprobs))


@dataclasses.dataclass
class RequestOutput:
    """The answers to one prompt."""

    prompt: Optional[str]  #: None if it was given as token ids
    prompt_token_ids: List[int]
    outputs: List[CompletionOutput]
    seed: int

    @property
    def text(self) -> str:
        """That of the first answer."""
        return self.outputs[0].text

    @property
    def finished(self) -> bool:
        return all(output.finish_reason not in ("aborted", "timeout") for output in self.outputs)

    @property
    def num_cached_tokens(self) -> int:
        """How many of the prompt the first answer found in the prefix cache."""
        return self.outputs[0].metrics.cached_tokens


@dataclasses.dataclass
class Score:
    """What the model says of a text: `logprobs[i]` is that of token i, and None for the first."""

    token_ids: List[int]
    logprobs: List[Optional[float]]
    top_logprobs: Optional[List[Optional[Dict[int, Logprob]]]]
    perplexity: float

    def numpy(self) -> Any:
        """The log-probabilities of tokens 1, 2, … as a float64 array. Needs NumPy."""
        import numpy

        return numpy.array(self.logprobs[1:], dtype=numpy.float64)


@dataclasses.dataclass
class EmbeddingOutput:
    """The vector of a text."""

    embedding: List[float]

    @property
    def hidden_size(self) -> int:
        return len(self.embedding)

    def numpy(self) -> Any:
        """As a float32 array. Needs NumPy."""
        import numpy

        return numpy.array(self.embedding, dtype=numpy.float32)


@dataclasses.dataclass
class EmbeddingRequestOutput:
    """The vector of a text, and what was read."""

    outputs: EmbeddingOutput
    prompt_token_ids: List[int]


@dataclasses.dataclass
class ScoringOutput:
    """How well a document answers a query, from 0 to 1."""

    score: float


@dataclasses.dataclass
class ScoringRequestOutput:
    outputs: ScoringOutput


@dataclasses.dataclass
class RankedDocument:
    """A document of rerank(): its index among the documents, and how well it answers the query, from 0 to 1."""

    index: int
    relevance_score: float


@dataclasses.dataclass
class ModelInfo:
    """What a model is and what an engine made of it."""

    model: str
    model_type: str
    dtype: str
    device: str
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    num_experts: int
    num_experts_per_tok: int
    max_position_embeddings: int
    max_model_len: int
    max_num_seqs: int
    num_parameters: int
    weight_bytes: int
    kv_cache_bytes: int
    load_seconds: float
    has_tokenizer: bool
    has_chat_template: bool
    bos_token_id: Optional[int]
    pad_token_id: Optional[int]
    eos_token_ids: List[int]
