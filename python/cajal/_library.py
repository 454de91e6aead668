"""libcajal.so through ctypes: the structs and functions of cajal/c_api.h, and errors as exceptions."""

from __future__ import annotations

import array
import ctypes
import os
import pathlib
from ctypes import (CFUNCTYPE, POINTER, Structure, byref, c_char_p, c_double, c_float, c_int32, c_int64, c_size_t,
                    c_uint64, c_void_p, sizeof)
from typing import Any, Sequence

API_VERSION = 3
UNSET = -(2**63)  # CAJAL_UNSET_INTEGER


class CajalError(Exception):
    """What the library reports: a `code`, a `message` that says what is wrong, and a `remedy`, which may be empty."""

    code = "internal"

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message} — {remedy}" if remedy else message)
        self.message, self.remedy = message, remedy


class InvalidArgument(CajalError, ValueError):
    code = "invalid_argument"


class NotFound(CajalError, FileNotFoundError):
    code = "not_found"

    def __str__(self) -> str:
        return str(self.args[0])


class Unsupported(CajalError, NotImplementedError):
    code = "unsupported"


class OutOfMemory(CajalError, MemoryError):
    code = "out_of_memory"


class DataLoss(CajalError):
    code = "data_loss"


class Unavailable(CajalError):
    code = "unavailable"


class Cancelled(CajalError):
    code = "cancelled"


_ERRORS = {1: InvalidArgument, 2: NotFound, 3: Unsupported, 4: OutOfMemory, 5: DataLoss, 6: Unavailable, 8: Cancelled}


class String(Structure):
    _fields_ = [("data", c_char_p), ("size", c_size_t)]

    def text(self) -> str:
        return ctypes.string_at(self._address(), self.size).decode() if self.size else ""

    def _address(self) -> Any:
        return c_void_p.from_buffer(self)  # not through c_char_p, which ends at a zero byte


class EngineConfig(Structure):
    _fields_ = [("struct_size", c_size_t), ("model", String), ("device", String), ("dtype", String),
                ("load_format", String), ("hf_overrides", String), ("threads", c_int32), ("max_model_len", c_int64),
                ("max_num_seqs", c_int64), ("max_num_batched_tokens", c_int64), ("kv_cache_memory_bytes", c_uint64),
                ("max_num_waiting", c_int64), ("assistant_model", String), ("num_assistant_tokens", c_int64),
                ("prompt_lookup_num_tokens", c_int64), ("trace_file", String), ("enable_prefix_caching", c_int64),
                ("quantization", String), ("quantization_overrides", String), ("quantization_group_size", c_int64),
                ("kv_cache_dtype", String), ("tensor_parallel_size", c_int64), ("expert_parallel_size", c_int64),
                ("capacity_factor", c_double)]


class ModelInfo(Structure):
    _fields_ = [("struct_size", c_size_t), ("model", String), ("model_type", String), ("dtype", String),
                ("device", String), ("vocab_size", c_int64), ("hidden_size", c_int64), ("num_hidden_layers", c_int64),
                ("num_attention_heads", c_int64), ("num_key_value_heads", c_int64), ("head_dim", c_int64),
                ("num_experts", c_int64), ("num_experts_per_tok", c_int64), ("max_position_embeddings", c_int64),
                ("max_model_len", c_int64), ("max_num_seqs", c_int64), ("num_parameters", c_int64),
                ("weight_bytes", c_uint64), ("kv_cache_bytes", c_uint64), ("load_seconds", c_double),
                ("has_tokenizer", c_int32), ("has_chat_template", c_int32),
                ("bos_token_id", c_int32), ("pad_token_id", c_int32),
                ("eos_token_ids", POINTER(c_int32)), ("num_eos_token_ids", c_size_t)]


class Prompt(Structure):
    _fields_ = [("text", String), ("token_ids", POINTER(c_int32)), ("num_token_ids", c_size_t)]


class SamplingParams(Structure):
    _fields_ = [("struct_size", c_size_t), ("n", c_int32), ("ignore_eos", c_int32), ("max_tokens", c_int64),
                ("top_k", c_int64), ("logprobs", c_int64), ("temperature", c_double), ("top_p", c_double),
                ("min_p", c_double), ("repetition_penalty", c_double), ("presence_penalty", c_double),
                ("frequency_penalty", c_double), ("seed", c_uint64), ("has_seed", c_int32), ("stop", POINTER(String)),
                ("num_stop", c_size_t), ("stop_token_ids", POINTER(c_int32)), ("num_stop_token_ids", c_size_t),
                ("priority", c_int64), ("timeout_ms", c_int64), ("cache_salt", String), ("min_tokens", c_int64),
                ("thinking_token_budget", c_int64), ("may_think", c_int32), ("json_object", c_int32), ("json", String),
                ("regex", String), ("grammar", String), ("structural_tag", String), ("choice", POINTER(String)),
                ("num_choice", c_size_t), ("logit_bias_token_ids", POINTER(c_int32)), ("logit_biases", POINTER(c_double)),
                ("num_logit_biases", c_size_t)]


class TokenLogprob(Structure):
    _fields_ = [("token_id", c_int32), ("logprob", c_double)]


_ANSWER: list[Any] = [("text", String), ("token_ids", POINTER(c_int32)), ("num_token_ids", c_size_t),
           ("logprobs", POINTER(c_double)), ("top_logprobs", POINTER(TokenLogprob)), ("num_top_logprobs", c_size_t),
           ("finish_reason", c_int32), ("cached_tokens", c_int64), ("queue_seconds", c_double),
           ("ttft_seconds", c_double), ("e2e_seconds", c_double)]


class Delta(Structure):
    _fields_ = [("struct_size", c_size_t), ("prompt", c_size_t), ("sequence", c_size_t), *_ANSWER]


class Completion(Structure):
    _fields_ = [("struct_size", c_size_t), *_ANSWER]


class ScoreView(Structure):
    _fields_ = [("struct_size", c_size_t), ("token_ids", POINTER(c_int32)), ("num_token_ids", c_size_t),
                ("logprobs", POINTER(c_double)), ("top_logprobs", POINTER(TokenLogprob)),
                ("num_top_logprobs", c_size_t), ("perplexity", c_double)]


class EmbedOptions(Structure):
    _fields_ = [("struct_size", c_size_t), ("dimensions", c_int64), ("prompt_name", String), ("instruction", String),
                ("truncate", c_int32)]


class Embedding(Structure):
    _fields_ = [("struct_size", c_size_t), ("values", POINTER(c_float)), ("num_values", c_size_t),
                ("token_ids", POINTER(c_int32)), ("num_token_ids", c_size_t)]


class RerankOptions(Structure):
    _fields_ = [("struct_size", c_size_t), ("instruction", String), ("top_n", c_int64), ("truncate", c_int32)]


class RankedDocument(Structure):
    _fields_ = [("index", c_size_t), ("relevance_score", c_double)]


class RankingView(Structure):
    _fields_ = [("struct_size", c_size_t), ("documents", POINTER(RankedDocument)), ("num_documents", c_size_t),
                ("prompt_tokens", c_int64)]


OnDelta = CFUNCTYPE(None, c_void_p, POINTER(Delta))

# Results of a cajal_code, with `cajal_error**` as a last argument that is added here.
_FALLIBLE: dict[str, list[Any]] = {
    "set_log_level": [String],
    "engine_config_init": [POINTER(EngineConfig), c_size_t],
    "engine_open": [POINTER(EngineConfig), POINTER(c_void_p)],
    "engine_info": [c_void_p, POINTER(ModelInfo)],
    "tokenize": [c_void_p, String, POINTER(c_void_p)],
    "detokenize": [c_void_p, POINTER(c_int32), c_size_t, c_int32, POINTER(c_void_p)],
    "apply_chat_template": [c_void_p, String, POINTER(c_void_p), POINTER(c_void_p)],
    "sampling_params_init": [POINTER(SamplingParams), c_size_t],
    "cancellation_new": [POINTER(c_void_p)],
    "generate": [c_void_p, POINTER(Prompt), c_size_t, POINTER(SamplingParams), OnDelta, c_void_p, c_void_p,
                 POINTER(c_void_p)],
    "metrics_text": [c_void_p, POINTER(c_void_p)],
    "results_prompt_token_ids": [c_void_p, c_size_t, POINTER(POINTER(c_int32)), POINTER(c_size_t)],
    "results_get": [c_void_p, c_size_t, c_size_t, POINTER(Completion)],
    "score": [c_void_p, POINTER(Prompt), c_int32, c_void_p, POINTER(c_void_p)],
    "score_result_view": [c_void_p, POINTER(ScoreView)],
    "embed_options_init": [POINTER(EmbedOptions), c_size_t],
    "embed": [c_void_p, POINTER(Prompt), c_size_t, POINTER(EmbedOptions), c_void_p, POINTER(c_void_p)],
    "embeddings_get": [c_void_p, c_size_t, POINTER(Embedding)],
    "rerank_options_init": [POINTER(RerankOptions), c_size_t],
    "rerank": [c_void_p, String, POINTER(String), c_size_t, POINTER(RerankOptions), c_void_p, POINTER(c_void_p)],
    "ranking_get": [c_void_p, POINTER(RankingView)],
}
_OTHERS: dict[str, tuple[Any, list[Any]]] = {
    "api_version": (c_int32, []),
    "version": (c_char_p, []),
    "error_message": (String, [c_void_p]),
    "error_remedy": (String, [c_void_p]),
    "error_free": (None, [c_void_p]),
    "engine_close": (None, [c_void_p]),
    "tokens_data": (POINTER(c_int32), [c_void_p]),
    "tokens_size": (c_size_t, [c_void_p]),
    "tokens_free": (None, [c_void_p]),
    "text_view": (String, [c_void_p]),
    "text_free": (None, [c_void_p]),
    "cancel": (None, [c_void_p]),
    "cancellation_free": (None, [c_void_p]),
    "results_num_sequences": (c_size_t, [c_void_p]),
    "results_seed": (c_uint64, [c_void_p]),
    "results_free": (None, [c_void_p]),
    "score_result_free": (None, [c_void_p]),
    "embeddings_size": (c_size_t, [c_void_p]),
    "embeddings_free": (None, [c_void_p]),
    "ranking_free": (None, [c_void_p]),
}


def _load() -> ctypes.CDLL:
    if path := os.environ.get("CAJAL_LIBRARY"):
        return ctypes.CDLL(path)
    folder = pathlib.Path(__file__).parent / "lib"
    listed = folder / "libraries.txt"
    if not listed.exists():
        raise ImportError(f"{folder} has no libcajal.so: install the wheel that 'make wheel' builds, or set CAJAL_LIBRARY")
    # What libcajal.so needs comes before it, and is then found by its name.
    return [ctypes.CDLL(str(folder / name)) for name in listed.read_text().split()][-1]


_library = _load()
for _name, _arguments in _FALLIBLE.items():
    _function = getattr(_library, "cajal_" + _name)
    _function.restype, _function.argtypes = c_int32, [*_arguments, POINTER(c_void_p)]
for _name, (_result, _arguments) in _OTHERS.items():
    _function = getattr(_library, "cajal_" + _name)
    _function.restype, _function.argtypes = _result, _arguments
if _library.cajal_api_version() < API_VERSION:
    raise ImportError(f"libcajal.so has version {_library.cajal_api_version()} of its interface, and this package needs "
                      f"{API_VERSION}: install a newer one")


def get(name: str) -> Any:
    """A function that cannot fail."""
    return getattr(_library, "cajal_" + name)


def call(name: str, *arguments: Any) -> None:
    """A function that can; raises what it reports."""
    error = c_void_p()
    code = getattr(_library, "cajal_" + name)(*arguments, byref(error))
    if code == 0:
        return
    message, remedy = get("error_message")(error).text(), get("error_remedy")(error).text()
    get("error_free")(error)
    raise _ERRORS.get(code, CajalError)(message, remedy)


def string(text: str | bytes) -> String:
    """Bytes as they are; the struct keeps them alive."""
    data = text if isinstance(text, bytes) else text.encode()
    return String(data, len(data))


def int_array(values: Sequence[int]) -> Any:
    try:
        ids = array.array("i", values)
    except OverflowError:
        raise InvalidArgument("a token id does not fit 32 bits") from None
    return (c_int32 * len(ids)).from_buffer(ids) if ids else (c_int32 * 0)()


def new(struct: Any) -> Any:
    return struct(struct_size=sizeof(struct))
