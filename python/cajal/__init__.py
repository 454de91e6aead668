"""cajal runs Qwen3 and Qwen3-MoE language models.

    from cajal import LLM, SamplingParams
    print(LLM("models/Qwen3-0.6B").generate("Once upon a time", SamplingParams(max_tokens=32))[0].outputs[0].text)
"""

from . import _library
from ._library import (Cancelled, CajalError, DataLoss, InvalidArgument, NotFound, OutOfMemory, Unavailable,
                       Unsupported)
from .llm import LLM
from .model import Model
from .params import (CompletionOutput, Delta, EmbeddingOutput, EmbeddingRequestOutput, Logprob, Message, ModelInfo, Prompt,
                     RankedDocument, RequestMetrics, RequestOutput, SamplingParams, Score, ScoringOutput,
                     ScoringRequestOutput, StructuredOutputsParams)

__version__: str = _library.get("version")().decode()


def set_log_level(level: str) -> None:
    """What the library says on stderr by itself: "debug", "info", "warning" (the default) or "error"."""
    _library.call("set_log_level", _library.string(level))


__all__ = ["CajalError", "Cancelled", "CompletionOutput", "DataLoss", "Delta", "EmbeddingOutput", "EmbeddingRequestOutput",
           "InvalidArgument", "LLM", "Logprob", "Message", "Model", "ModelInfo", "NotFound", "OutOfMemory", "Prompt",
           "RankedDocument", "RequestMetrics", "RequestOutput", "SamplingParams", "Score", "ScoringOutput",
           "ScoringRequestOutput", "StructuredOutputsParams", "Unavailable", "Unsupported", "set_log_level", "__version__"]
