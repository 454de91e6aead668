"""An open model."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import queue
import threading
from ctypes import POINTER, byref, c_int32, c_size_t, c_void_p, sizeof
from typing import Any, Callable, Dict, Iterator, List, Literal, Mapping, Optional, Sequence, Union, overload

from . import _library
from .params import (CompletionOutput, Delta, EmbeddingOutput, EmbeddingRequestOutput, Logprob, Message, ModelInfo, Prompt,
                     RankedDocument, RequestMetrics, RequestOutput, SamplingParams, Score)

_REASONS = (None, "stop", "length", "aborted", "error", "timeout")
# Names that Transformers' generate() has for what SamplingParams calls otherwise.
_ALIASES = {"max_new_tokens": "max_tokens", "num_return_sequences": "n", "stop_strings": "stop"}


def _params(params: Optional[SamplingParams], changes: Dict[str, Any]) -> SamplingParams:
    changes = {_ALIASES.get(name, name): value for name, value in changes.items()}
    sample = changes.pop("do_sample", None)
    if sample is False:
        changes["temperature"] = 0.0
    elif sample and not any(changes.get(name) is not None for name in ("temperature", "top_k", "top_p", "min_p")):
        changes["temperature"] = 1.0
    return dataclasses.replace(params or SamplingParams(), **changes)


def _top(tokens: Any, count: int, at: int) -> Dict[int, Logprob]:
    return {tokens[at * count + i].token_id: Logprob(tokens[at * count + i].logprob, i + 1) for i in range(count)}


def _logprobs(answer: Any) -> Optional[List[Dict[int, Logprob]]]:
    if not answer.logprobs:
        return None
    result = []
    for i in range(answer.num_token_ids):
        of_token = _top(answer.top_logprobs, answer.num_top_logprobs, i)
        of_token.setdefault(answer.token_ids[i], Logprob(answer.logprobs[i]))
        result.append(of_token)
    return result


def _metrics(c: Any) -> RequestMetrics:
    seconds = (c.queue_seconds, c.ttft_seconds, c.e2e_seconds)
    return RequestMetrics(c.cached_tokens, *(None if math.isnan(s) else s for s in seconds))


def _delta(c: Any) -> Delta:
    reason = _REASONS[c.finish_reason]
    return Delta(c.text.text(), c.token_ids[: c.num_token_ids], _logprobs(c), reason, c.prompt, c.sequence,
                 _metrics(c) if reason else None)


class _Prompts:
    """Prompts as C takes them."""

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self.array = (_library.Prompt * len(prompts))()
        self.kept: List[Any] = []
        for c, prompt in zip(self.array, prompts):
            if isinstance(prompt, str):
                c.text = _library.string(prompt)
                continue
            ids = _library.int_array(prompt)
            # A pointer that is not NULL says that there are token ids, also if there are none of them.
            c.token_ids, c.num_token_ids = (ids if len(ids) else (c_int32 * 1)()), len(ids)
            self.kept.append(ids)


class Model:
    """A model in memory, ready for requests; may be used by many threads at once.

    `model` is a folder as Hugging Face has it, or a name such as Qwen/Qwen3-0.6B that is in its cache. Requests of all
    threads run side by side: each joins at the next step, and leaves when it is over. `quantization` "int8" or "int4" rounds
    weights while they are loaded, `quantization_overrides` says it by family, as in {"lm_head": "int4"}. `tensor_parallel_size` and
    `expert_parallel_size` share the model out over ranks, which are threads: answers stay what they are. `capacity_factor` lets
    experts drop tokens. `enable_prefix_caching` keeps what
    prompts have in common from being computed again; `assistant_model`, a smaller model with the same vocabulary, or
    `prompt_lookup_num_tokens` guess tokens, which changes no answer; `kv_cache_dtype` "int8" keeps keys and values in half the memory, rounded; `trace_file` tells ui.perfetto.dev what happened when.
    Raises CajalError for whatever is wrong with it.
    """

    def __init__(self, model: Union[str, "os.PathLike[str]"] = "", *, device: str = "auto", dtype: str = "auto",
                 load_format: str = "auto", hf_overrides: Union[Mapping[str, Any], str, None] = None,
                 quantization: Optional[str] = None, quantization_group_size: int = 32,
                 quantization_overrides: Optional[Mapping[str, str]] = None,
                 tensor_parallel_size: Optional[int] = None, expert_parallel_size: Optional[int] = None,
                 capacity_factor: Optional[float] = None, threads: int = 0, max_model_len: Optional[int] = None, max_num_seqs: int = 16,
                 max_num_batched_tokens: int = 512, kv_cache_memory_bytes: int = 0,
                 kv_cache_dtype: str = "auto", enable_prefix_caching: bool = True,
                 assistant_model: Union[str, "os.PathLike[str]", None] = None, num_assistant_tokens: int = 5,
                 prompt_lookup_num_tokens: int = 0,
                 trace_file: Union[str, "os.PathLike[str]", None] = None) -> None:
        self._engine = c_void_p()
        self._idle = threading.Condition()
        self._running: List[c_void_p] = []  # the cancellations of calls that are under way
        config = _library.EngineConfig()
        _library.call("engine_config_init", config, sizeof(config))
        overrides = hf_overrides if isinstance(hf_overrides, str) else json.dumps(dict(hf_overrides or {}))
        for name, text in {"model": os.fspath(model), "device": device, "dtype": str(dtype).replace("torch.", ""),
                           "load_format": load_format, "hf_overrides": overrides, "kv_cache_dtype": kv_cache_dtype,
                           "quantization": quantization or "none",
                           "quantization_overrides": ",".join(f"{family}={kind}" for family, kind
                                                              in (quantization_overrides or {}).items()),
                           "assistant_model": os.fspath(assistant_model or ""),
                           "trace_file": os.fspath(trace_file or "")}.items():
            setattr(config, name, _library.string(text))
        config.threads, config.max_model_len = threads, max_model_len or 0
        config.max_num_seqs, config.max_num_batched_tokens = max_num_seqs, max_num_batched_tokens
        config.kv_cache_memory_bytes, config.enable_prefix_caching = kv_cache_memory_bytes, bool(enable_prefix_caching)
        config.quantization_group_size = quantization_group_size
        config.tensor_parallel_size, config.expert_parallel_size = tensor_parallel_size or 0, expert_parallel_size or 0
        config.capacity_factor = capacity_factor or 0.0
        config.num_assistant_tokens, config.prompt_lookup_num_tokens = num_assistant_tokens, prompt_lookup_num_tokens
        _library.call("engine_open", config, byref(self._engine))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Union[str, "os.PathLike[str]"] = "", *,
                        torch_dtype: Any = None, **settings: Any) -> "Model":
        """The model of a folder or a name in the cache; of none: the demo model that comes along. `settings` are the constructor's."""
        if torch_dtype is not None:
            settings.setdefault("dtype", torch_dtype)
        return cls(pretrained_model_name_or_path, **settings)

    def close(self) -> None:
        """Cancels what runs, waits for it, and gives the memory back. More than once does nothing."""
        with self._idle:
            engine, self._engine = self._engine, c_void_p()
            for cancellation in self._running:
                _library.get("cancel")(cancellation)
            self._idle.wait_for(lambda: not self._running)
        if engine:
            _library.get("engine_close")(engine)

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # Not when the interpreter ends, with half of the modules gone.
        with contextlib.suppress(Exception):
            self.close()

    @property
    def info(self) -> ModelInfo:
        with self._call() as (engine, _):
            c = _library.new(_library.ModelInfo)
            _library.call("engine_info", engine, c)
            values = {field.name: getattr(c, field.name) for field in dataclasses.fields(ModelInfo)}
            for name, value in values.items():
                if isinstance(value, _library.String):
                    values[name] = value.text()
            values["eos_token_ids"] = c.eos_token_ids[: c.num_eos_token_ids]
            for name in ("has_tokenizer", "has_chat_template"):
                values[name] = bool(values[name])
            for name in ("bos_token_id", "pad_token_id"):
                values[name] = None if values[name] < 0 else values[name]
            return ModelInfo(**values)

    def metrics_text(self) -> str:
        """What the engine counts, in Prometheus' text format (text/plain; version=0.0.4), under vLLM's names."""
        with self._call() as (engine, _):
            text = c_void_p()
            _library.call("metrics_text", engine, byref(text))
            return _taken_text(text)

    def tokenize(self, text: str) -> List[int]:
        """The token ids of a text."""
        with self._call() as (engine, _):
            tokens = c_void_p()
            _library.call("tokenize", engine, _library.string(text), byref(tokens))
            return _taken_tokens(tokens)

    def detokenize(self, token_ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of token ids."""
        with self._call() as (engine, _):
            text = c_void_p()
            ids = _library.int_array(token_ids)
            _library.call("detokenize", engine, ids, len(ids), bool(skip_special_tokens), byref(text))
            return _taken_text(text)

    encode, decode = tokenize, detokenize

    @overload
    def apply_chat_template(self, conversation: Sequence[Message], *, tokenize: Literal[True] = True,
                            add_generation_prompt: bool = False, **variables: Any) -> List[int]: ...
    @overload
    def apply_chat_template(self, conversation: Sequence[Message], *, tokenize: Literal[False],
                            add_generation_prompt: bool = False, **variables: Any) -> str: ...
    def apply_chat_template(self, conversation: Sequence[Message], *, tokenize: bool = True,
                            add_generation_prompt: bool = False, **variables: Any) -> Union[str, List[int]]:
        """A conversation as the model was trained to read it; `variables` (tools, enable_thinking, …) are the template's.

        In token ids the name of a control token that stands in a message is text.
        """
        values = {"messages": list(conversation), "add_generation_prompt": add_generation_prompt, **variables}
        with self._call() as (engine, _):
            result = c_void_p()
            text, tokens = (None, byref(result)) if tokenize else (byref(result), None)
            _library.call("apply_chat_template", engine, _library.string(json.dumps(values)), text, tokens)
            return _taken_tokens(result) if tokenize else _taken_text(result)

    def chat(self, messages: Sequence[Message], params: Optional[SamplingParams] = None, *,
             chat_template_kwargs: Optional[Mapping[str, Any]] = None, **changes: Any) -> RequestOutput:
        """The answer to a conversation."""
        ids = self.apply_chat_template(messages, add_generation_prompt=True, **(chat_template_kwargs or {}))
        return self._generate([ids], _params(params, changes), None)[0]

    @overload
    def generate(self, prompts: str, params: Optional[SamplingParams] = None, **changes: Any) -> RequestOutput: ...
    @overload
    def generate(self, prompts: Sequence[int], params: Optional[SamplingParams] = None,
                 **changes: Any) -> RequestOutput: ...
    @overload
    def generate(self, prompts: Sequence[Prompt], params: Optional[SamplingParams] = None,
                 **changes: Any) -> List[RequestOutput]: ...
    def generate(self, prompts: Any, params: Optional[SamplingParams] = None, **changes: Any) -> Any:
        """The answers to one prompt, or to each of several, which run side by side, and beside those of other threads.

        `changes` are members of SamplingParams; `max_new_tokens`, `num_return_sequences`, `stop_strings` and `do_sample`
        are understood too.
        """
        one = isinstance(prompts, str) or (len(prompts) > 0 and hasattr(prompts[0], "__index__"))
        outputs = self._generate([prompts] if one else list(prompts), _params(params, changes), None)
        return outputs[0] if one else outputs

    def stream(self, prompt: Prompt, params: Optional[SamplingParams] = None, **changes: Any) -> Iterator[Delta]:
        """The answer to a prompt, piece by piece. Leaving the loop ends it."""
        settings = _params(params, changes)
        pieces: "queue.SimpleQueue[Any]" = queue.SimpleQueue()
        mine: List[c_void_p] = []  # what cancels the call
        left = threading.Event()

        def begin(cancellation: c_void_p) -> None:
            mine.append(cancellation)
            if left.is_set():
                _library.get("cancel")(cancellation)

        def work() -> None:
            try:
                self._generate([prompt], settings, pieces.put, begin)
                pieces.put(None)
            except BaseException as e:  # pylint: disable=broad-except
                pieces.put(e)

        thread = threading.Thread(target=work, name="cajal-stream", daemon=True)
        thread.start()
        try:
            while (piece := pieces.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            left.set()
            with self._idle:  # what still runs is not freed meanwhile
                for cancellation in self._running:
                    if mine and cancellation is mine[0]:
                        _library.get("cancel")(cancellation)
            thread.join()

    def score(self, prompt: Prompt, top_logprobs: int = 0) -> Score:
        """What the model says of a text: the log-probability of each token after those before it."""
        with self._call() as (engine, cancellation):
            prompts, result = _Prompts([prompt]), c_void_p()
            self._interruptibly(cancellation, lambda: _library.call(
                "score", engine, prompts.array, top_logprobs, cancellation, byref(result)))
            try:
                view = _library.new(_library.ScoreView)
                _library.call("score_result_view", result, view)
                count = view.num_token_ids - 1
                top = [None, *(_top(view.top_logprobs, view.num_top_logprobs, i) for i in range(count))]
                return Score(view.token_ids[: count + 1], [None, *view.logprobs[:count]],
                             top if top_logprobs else None, view.perplexity)
            finally:
                _library.get("score_result_free")(result)

    @overload
    def embed(self, prompts: str, **options: Any) -> EmbeddingRequestOutput: ...
    @overload
    def embed(self, prompts: Sequence[int], **options: Any) -> EmbeddingRequestOutput: ...
    @overload
    def embed(self, prompts: Sequence[Prompt], **options: Any) -> List[EmbeddingRequestOutput]: ...
    def embed(self, prompts: Any, *, dimensions: Optional[int] = None, prompt_name: Optional[str] = None,
              instruction: Optional[str] = None, truncate: bool = False) -> Any:
        """The vector of a text, or of each of several.

        `prompt_name` is one of the model's config_sentence_transformers.json ("query", "document"), `instruction` says what
        queries are for; `dimensions` cuts vectors, `truncate` texts that are longer than the model takes.
        """
        one = isinstance(prompts, str) or (len(prompts) > 0 and hasattr(prompts[0], "__index__"))
        c_prompts = _Prompts([prompts] if one else list(prompts))
        options = _library.EmbedOptions()
        _library.call("embed_options_init", options, sizeof(options))
        if dimensions is not None:
            options.dimensions = dimensions
        options.prompt_name = _library.string(prompt_name or "")
        options.instruction = _library.string(instruction or "")
        options.truncate = bool(truncate)
        with self._call() as (engine, cancellation):
            result = c_void_p()
            self._interruptibly(cancellation, lambda: _library.call(
                "embed", engine, c_prompts.array, len(c_prompts.array), byref(options), cancellation, byref(result)))
            try:
                outputs = [_embedding(result, i) for i in range(_library.get("embeddings_size")(result))]
            finally:
                _library.get("embeddings_free")(result)
        return outputs[0] if one else outputs

    def rerank(self, query: str, documents: Sequence[str], *, instruction: Optional[str] = None,
               top_n: Optional[int] = None, truncate: bool = False) -> List[RankedDocument]:
        """How well documents answer a query, the best first, as a Qwen3-Reranker says."""
        texts = (_library.String * len(documents))(*map(_library.string, documents))
        options = _library.RerankOptions()
        _library.call("rerank_options_init", options, sizeof(options))
        if top_n is not None:
            options.top_n = top_n
        options.instruction, options.truncate = _library.string(instruction or ""), bool(truncate)
        with self._call() as (engine, cancellation):
            result = c_void_p()
            self._interruptibly(cancellation, lambda: _library.call(
                "rerank", engine, _library.string(query), texts, len(documents), byref(options), cancellation,
                byref(result)))
            try:
                view = _library.new(_library.RankingView)
                _library.call("ranking_get", result, view)
                return [RankedDocument(d.index, d.relevance_score) for d in view.documents[: view.num_documents]]
            finally:
                _library.get("ranking_free")(result)

    @contextlib.contextmanager
    def _call(self) -> Iterator[Any]:
        """The engine, which stays open as long, and what cancels the call."""
        cancellation = c_void_p()
        _library.call("cancellation_new", byref(cancellation))
        with self._idle:
            if not self._engine:
                _library.get("cancellation_free")(cancellation)
                raise _library.InvalidArgument("the model is closed")
            engine = self._engine
            self._running.append(cancellation)
        try:
            yield engine, cancellation
        finally:
            with self._idle:
                self._running = [c for c in self._running if c is not cancellation]
                self._idle.notify_all()
            _library.get("cancellation_free")(cancellation)

    @staticmethod
    def _interruptibly(cancellation: c_void_p, body: Callable[[], None]) -> None:
        """Runs what waits in C in a thread, so that Ctrl-C reaches this one, and then ends it."""
        failure: List[BaseException] = []

        def work() -> None:
            try:
                body()
            except BaseException as e:  # pylint: disable=broad-except
                failure.append(e)

        thread = threading.Thread(target=work, name="cajal-call", daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(0.1)
        except BaseException:
            _library.get("cancel")(cancellation)
            thread.join()
            raise
        if failure:
            raise failure[0]

    def _generate(self, prompts: List[Prompt], params: SamplingParams, on_delta: Optional[Callable[[Delta], None]],
                  begin: Optional[Callable[[c_void_p], None]] = None) -> List[RequestOutput]:
        """With `begin` it waits in C, and hands out what ends that."""
        c_prompts, c_params, results = _Prompts(prompts), params._to_c(), c_void_p()
        failure: List[BaseException] = []
        with self._call() as (engine, cancellation):

            def listen(_: Any, delta: Any) -> None:
                try:
                    if on_delta and not failure:
                        on_delta(_delta(delta.contents))
                except BaseException as e:  # pylint: disable=broad-except
                    failure.append(e)
                    _library.get("cancel")(cancellation)

            callback = _library.OnDelta(listen) if on_delta else _library.OnDelta()

            def body() -> None:
                _library.call("generate", engine, c_prompts.array, len(prompts), byref(c_params), callback, None,
                              cancellation, byref(results))

            if begin:
                begin(cancellation)
                body()
            else:
                self._interruptibly(cancellation, body)
            try:
                if failure:
                    raise failure[0]
                return [_output(results, i, prompt) for i, prompt in enumerate(prompts)]
            finally:
                _library.get("results_free")(results)


def _taken_tokens(tokens: c_void_p) -> List[int]:
    try:
        return list(_library.get("tokens_data")(tokens)[: _library.get("tokens_size")(tokens)])
    finally:
        _library.get("tokens_free")(tokens)


def _taken_text(text: c_void_p) -> str:
    try:
        return str(_library.get("text_view")(text).text())
    finally:
        _library.get("text_free")(text)


def _embedding(embeddings: c_void_p, index: int) -> EmbeddingRequestOutput:
    c = _library.new(_library.Embedding)
    _library.call("embeddings_get", embeddings, index, c)
    return EmbeddingRequestOutput(EmbeddingOutput(c.values[: c.num_values]), c.token_ids[: c.num_token_ids])


def _output(results: c_void_p, index: int, prompt: Prompt) -> RequestOutput:
    ids, size = POINTER(c_int32)(), c_size_t()
    _library.call("results_prompt_token_ids", results, index, byref(ids), byref(size))
    outputs = []
    for i in range(_library.get("results_num_sequences")(results)):
        c = _library.new(_library.Completion)
        _library.call("results_get", results, index, i, c)
        outputs.append(CompletionOutput(i, c.text.text(), c.token_ids[: c.num_token_ids], _logprobs(c),
                                        _REASONS[c.finish_reason] or "", _metrics(c)))
    return RequestOutput(prompt if isinstance(prompt, str) else None, ids[: size.value], outputs,
                         _library.get("results_seed")(results))
