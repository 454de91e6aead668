#pragma once
/* The library for C (C11) and for everything that can call C.
 *
 * Rules that hold everywhere:
 *  - A function that can fail returns a cajal_code, CAJAL_OK (0) if it did not, and takes a `cajal_error** error` last. If
 *    that is not NULL, a failure puts an error object there, to be freed with cajal_error_free(); a success puts NULL there.
 *    Every pointer that is required and NULL is CAJAL_INVALID_ARGUMENT, never a crash.
 *  - Handles (cajal_engine*, cajal_results*, …) belong to who received them, until the function named *_close or *_free,
 *    which takes NULL and does nothing then. What a function fills in points into the handle that it was read from and
 *    lives as long as that, unless said otherwise.
 *  - Text is UTF-8 with a length, and need not end with a zero byte. {NULL, 0} is the empty text.
 *  - A struct that goes in begins with struct_size. Fill it with its *_init() function, which sets every default, and then
 *    change members. A library newer than the program's headers fills in what the program does not know of; an older one
 *    refuses a struct that is larger than its own. A struct that comes out is filled as far as struct_size reaches.
 *  - An engine may be used by many threads at once; every other handle by one at a time.
 *  - No C++ exception leaves the library, and none may leave a callback.
 */
#include <stddef.h>
#include <stdint.h>

#include "cajal/export.h"

/* Names as C has them. NOLINTBEGIN(readability-identifier-naming) */
#ifdef __cplusplus
extern "C" {
#endif

/* Raised with every addition; what is there never changes its meaning within one soname of libcajal.so. */
#define CAJAL_API_VERSION 3

/* The CAJAL_API_VERSION that the library was built with: at least that of the headers. */
CAJAL_API int32_t cajal_api_version(void);
/* "0.1.0"; static. */
CAJAL_API const char* cajal_version(void);

typedef struct cajal_string {
  const char* data;
  size_t size; /* bytes */
} cajal_string;

/* ---- errors ---- */

typedef int32_t cajal_code;
enum {
  CAJAL_OK = 0,
  CAJAL_INVALID_ARGUMENT = 1, /* a parameter that makes no sense */
  CAJAL_NOT_FOUND = 2,        /* a file or folder that is missing */
  CAJAL_UNSUPPORTED = 3,      /* what this version does not do */
  CAJAL_OUT_OF_MEMORY = 4,
  CAJAL_DATA_LOSS = 5,   /* a file that is not what it says it is, or results that are not finite */
  CAJAL_UNAVAILABLE = 6, /* the system refused, or the queue is full */
  CAJAL_INTERNAL = 7,    /* a fault of the library */
  CAJAL_CANCELLED = 8    /* by a cancellation, where there is no partial result to give */
};

typedef struct cajal_error cajal_error;

/* What is wrong, where, what was expected and what found; and what to do about it, which may be empty. Of NULL: CAJAL_OK
   and empty texts. */
CAJAL_API cajal_code cajal_error_code(const cajal_error* error);
CAJAL_API cajal_string cajal_error_message(const cajal_error* error);
CAJAL_API cajal_string cajal_error_remedy(const cajal_error* error);
CAJAL_API void cajal_error_free(cajal_error* error);

/* What the library says on stderr by itself: "debug", "info", "warning" (the default) or "error". For the process. */
CAJAL_API cajal_code cajal_set_log_level(cajal_string level, cajal_error** error);

/* ---- engines ---- */

typedef struct cajal_engine cajal_engine;

typedef struct cajal_engine_config {
  size_t struct_size;
  cajal_string model;               /* a folder as Hugging Face has it, or a name in its cache; empty: the demo model */
  cajal_string device;              /* "auto", "cpu", "cuda" or "cuda:1" */
  cajal_string dtype;               /* "auto", "bfloat16" or "float32" */
  cajal_string load_format;         /* "auto" or "dummy": random weights in the shapes of config.json */
  cajal_string hf_overrides;        /* a JSON object whose keys replace those of config.json; or empty */
  int32_t threads;                  /* that compute; 0: as many as the cores that this process may use */
  int64_t max_model_len;            /* tokens of prompt and answer; 0: what the model allows and memory holds */
  int64_t max_num_seqs;             /* sequences that run side by side */
  int64_t max_num_batched_tokens;   /* tokens of one step */
  uint64_t kv_cache_memory_bytes;   /* 0: chosen by the engine */
  int64_t max_num_waiting;          /* requests of cajal_submit() that wait for their first step */
  cajal_string assistant_model;     /* a smaller model that guesses tokens, named as `model` is; or empty */
  int64_t num_assistant_tokens;     /* that it guesses at a time, 1 to 64 */
  int64_t prompt_lookup_num_tokens; /* guessed from what the text said before, at most 64; 0: none */
  cajal_string trace_file;          /* what the engine does when, for ui.perfetto.dev; or empty */
  int64_t enable_prefix_caching;    /* 0 or 1 */
  cajal_string quantization;        /* of weights: "none", "lossless", "int8" or "int4" */
  cajal_string quantization_overrides; /* families with kinds of their own, "lm_head=int4,attention=none"; or empty */
  int64_t quantization_group_size;     /* weights of a row that share a scale: 32 or 128 */
  cajal_string kv_cache_dtype;         /* of keys and values: "auto" (the model's), or "int8" on a CPU */
  int64_t tensor_parallel_size; /* ranks, which are threads, that share every layer; 0: as an export has it, or 1 */
  int64_t expert_parallel_size; /* groups of them that share the experts; 0: as an export has it, or 1 */
  double capacity_factor;       /* of experts, above 0; 0: they take every token */
} cajal_engine_config;

CAJAL_API cajal_code cajal_engine_config_init(cajal_engine_config* config, size_t struct_size, cajal_error** error);

/* Reads and loads everything. The config and its texts may go afterwards. */
CAJAL_API cajal_code cajal_engine_open(const cajal_engine_config* config, cajal_engine** engine, cajal_error** error);
/* Cancels what still runs and waits for it. Not to be called in a callback, or while another call is under way. */
CAJAL_API void cajal_engine_close(cajal_engine* engine);

typedef struct cajal_model_info {
  size_t struct_size; /* to be set before */
  cajal_string model, model_type, dtype, device;
  int64_t vocab_size, hidden_size, num_hidden_layers;
  int64_t num_attention_heads, num_key_value_heads, head_dim;
  int64_t num_experts, num_experts_per_tok; /* 0: a dense model */
  int64_t max_position_embeddings;          /* as config.json says */
  int64_t max_model_len, max_num_seqs;      /* as this engine has them */
  int64_t num_parameters;
  uint64_t weight_bytes, kv_cache_bytes;
  double load_seconds;
  int32_t has_tokenizer;              /* 0 or 1 */
  int32_t has_chat_template;          /* 0 or 1 */
  int32_t bos_token_id, pad_token_id; /* -1: none */
  const int32_t* eos_token_ids;
  size_t num_eos_token_ids;
} cajal_model_info;

/* What it fills in lives as long as the engine. */
CAJAL_API cajal_code cajal_engine_info(const cajal_engine* engine, cajal_model_info* info, cajal_error** error);

/* ---- text and tokens ---- */

typedef struct cajal_tokens cajal_tokens;
typedef struct cajal_text cajal_text;

CAJAL_API cajal_code cajal_tokenize(const cajal_engine* engine, cajal_string text, cajal_tokens** tokens,
                                    cajal_error** error);
CAJAL_API const int32_t* cajal_tokens_data(const cajal_tokens* tokens); /* of NULL: NULL */
CAJAL_API size_t cajal_tokens_size(const cajal_tokens* tokens);         /* of NULL: 0 */
CAJAL_API void cajal_tokens_free(cajal_tokens* tokens);

CAJAL_API cajal_code cajal_detokenize(const cajal_engine* engine, const int32_t* token_ids, size_t num_token_ids,
                                      int32_t skip_special_tokens, cajal_text** text, cajal_error** error);
CAJAL_API cajal_string cajal_text_view(const cajal_text* text); /* of NULL: empty */
CAJAL_API void cajal_text_free(cajal_text* text);

/* Fills in the model's chat template with every variable that it knows, as a JSON object: messages, tools,
   add_generation_prompt, … In the token ids the name of a control token that stands in a message is text. `text` and
   `tokens` may be NULL if they are not wanted. */
CAJAL_API cajal_code cajal_apply_chat_template(const cajal_engine* engine, cajal_string variables, cajal_text** text,
                                               cajal_tokens** tokens, cajal_error** error);

/* ---- generation ---- */

/* Either of them: token ids if token_ids is not NULL, else text. */
typedef struct cajal_prompt {
  cajal_string text;
  const int32_t* token_ids;
  size_t num_token_ids;
} cajal_prompt;

/* A member that has this value is left to the model's generation_config.json and then to the default; real members that
   are left out hold a NaN. */
#define CAJAL_UNSET_INTEGER INT64_MIN

typedef struct cajal_sampling_params {
  size_t struct_size;
  int32_t n;                 /* answers to each prompt; 1 */
  int32_t ignore_eos;        /* not 0: the tokens that the model names do not end a sequence */
  int64_t max_tokens;        /* or unset */
  int64_t top_k;             /* or unset; 0 and -1: all */
  int64_t logprobs;          /* or unset: none; else each token's own and those of the k likeliest */
  double temperature;        /* or NaN; 0 takes the likeliest token */
  double top_p;              /* or NaN */
  double min_p;              /* or NaN */
  double repetition_penalty; /* or NaN */
  double presence_penalty;   /* 0 */
  double frequency_penalty;  /* 0 */
  uint64_t seed;             /* counts only if has_seed is not 0 */
  int32_t has_seed;
  const cajal_string* stop; /* texts that end an answer */
  size_t num_stop;
  const int32_t* stop_token_ids;
  size_t num_stop_token_ids;
  int64_t priority;        /* of 32 bits; who waits: the lower, the sooner; among equals who came first */
  int64_t timeout_ms;      /* from the call on; or unset: none. What is not over by then ends as CAJAL_FINISH_TIMEOUT */
  cajal_string cache_salt; /* prompts share computed prefixes only with those of the same salt */
  int64_t min_tokens;      /* no ending token before so many, unless a structure leaves nothing else */
  int64_t thinking_token_budget; /* tokens of a thought, then it is made to end; or unset */
  int32_t may_think;    /* not 0: the answer may begin with a thought where the prompt has not begun one already */
  int32_t json_object;  /* not 0: the answer is a JSON object. Of this and the next five at most one is given */
  cajal_string json;    /* a JSON schema that the answer follows; or empty */
  cajal_string regex;   /* that the whole answer matches; or empty */
  cajal_string grammar; /* EBNF as GBNF has it, from its rule root on; or empty */
  cajal_string structural_tag; /* text with structures in it, as XGrammar writes that in JSON; or empty */
  const cajal_string* choice;  /* texts of which the answer is one */
  size_t num_choice;
  const int32_t* logit_bias_token_ids; /* tokens whose logits the biases are added to, each in [-100, 100] */
  const double* logit_biases;
  size_t num_logit_biases;
} cajal_sampling_params;

CAJAL_API cajal_code cajal_sampling_params_init(cajal_sampling_params* params, size_t struct_size, cajal_error** error);

typedef int32_t cajal_finish_reason;
enum {
  CAJAL_FINISH_NONE = 0,    /* not over yet */
  CAJAL_FINISH_STOP = 1,    /* an ending token or a stop string */
  CAJAL_FINISH_LENGTH = 2,  /* max_tokens or max_model_len */
  CAJAL_FINISH_ABORTED = 3, /* cancelled */
  CAJAL_FINISH_ERROR = 4,   /* the model's numbers were not finite */
  CAJAL_FINISH_TIMEOUT = 5  /* timeout_ms */
};

typedef struct cajal_token_logprob {
  int32_t token_id;
  double logprob; /* natural logarithm, of the model's own distribution */
} cajal_token_logprob;

/* What became certain since the last delta of the same sequence. Lives until the callback returns. */
typedef struct cajal_delta {
  size_t struct_size; /* as the library has it: members beyond it are not there */
  size_t prompt;      /* its index among the prompts */
  size_t sequence;    /* which of its n answers */
  cajal_string text;  /* a token's text may come with a later token */
  const int32_t* token_ids;
  size_t num_token_ids;
  const double* logprobs;                  /* [num_token_ids], or NULL if they were not asked for */
  const cajal_token_logprob* top_logprobs; /* [num_token_ids, num_top_logprobs], the likeliest first */
  size_t num_top_logprobs;
  cajal_finish_reason finish_reason; /* of the last delta of a sequence, as are the following */
  int64_t cached_tokens;             /* of the prompt, that were found in the prefix cache */
  double queue_seconds;              /* from the call until it first ran, or ended without that */
  double ttft_seconds;               /* until its first token; NaN: there was none */
  double e2e_seconds;                /* until its end */
} cajal_delta;

/* Called on the engine's own thread, while a step of the model runs: it should return before that does, and must not call
   cajal_generate(), cajal_score(), cajal_embed(), cajal_rerank() or cajal_engine_close() of the same engine.
   cajal_submit(), cajal_cancel() and cajal_abort() are fine. */
typedef void (*cajal_on_delta)(void* user_data, const cajal_delta* delta);

/* Ends what it was given to within a step. cajal_cancel() may be called by any thread, any number of times; free it after
   the calls that it was given to. */
typedef struct cajal_cancellation cajal_cancellation;
CAJAL_API cajal_code cajal_cancellation_new(cajal_cancellation** cancellation, cajal_error** error);
CAJAL_API void cajal_cancel(cajal_cancellation* cancellation);
CAJAL_API void cajal_cancellation_free(cajal_cancellation* cancellation);

typedef struct cajal_results cajal_results;

/* Waits for all answers. The prompts run side by side, and beside what other threads ask for. `params` may be NULL (the defaults), `on_delta` and `cancellation`
   too. Cancelled sequences are in the results as far as they got, as CAJAL_FINISH_ABORTED. */
CAJAL_API cajal_code cajal_generate(cajal_engine* engine, const cajal_prompt* prompts, size_t num_prompts,
                                    const cajal_sampling_params* params, cajal_on_delta on_delta, void* user_data,
                                    cajal_cancellation* cancellation, cajal_results** results, cajal_error** error);

/* One answer. */
typedef struct cajal_completion {
  size_t struct_size;       /* to be set before */
  cajal_string text;        /* without the ending token, cut before a stop string; empty without a tokenizer */
  const int32_t* token_ids; /* the ending token included */
  size_t num_token_ids;
  const double* logprobs;                  /* [num_token_ids], or NULL */
  const cajal_token_logprob* top_logprobs; /* [num_token_ids, num_top_logprobs] */
  size_t num_top_logprobs;
  cajal_finish_reason finish_reason;
  int64_t cached_tokens; /* of the prompt, that were found in the prefix cache */
  double queue_seconds;  /* from the call until it first ran, or ended without that */
  double ttft_seconds;   /* until its first token; NaN: there was none */
  double e2e_seconds;    /* until its end */
} cajal_completion;

CAJAL_API size_t cajal_results_num_prompts(const cajal_results* results);   /* of NULL: 0 */
CAJAL_API size_t cajal_results_num_sequences(const cajal_results* results); /* of each prompt; of NULL: 0 */
CAJAL_API uint64_t cajal_results_seed(const cajal_results* results);        /* of NULL: 0 */
CAJAL_API cajal_code cajal_results_prompt_token_ids(const cajal_results* results, size_t prompt,
                                                    const int32_t** token_ids, size_t* num_token_ids,
                                                    cajal_error** error);
CAJAL_API cajal_code cajal_results_get(const cajal_results* results, size_t prompt, size_t sequence,
                                       cajal_completion* completion, cajal_error** error);
CAJAL_API void cajal_results_free(cajal_results* results);

/* Puts a request into the queue and returns; it joins those that run at the next step. After the delta with the finish reason of its last sequence it is over, and
   user_data is not used any more. Refused as CAJAL_UNAVAILABLE if the queue is full. */
CAJAL_API cajal_code cajal_submit(cajal_engine* engine, const cajal_prompt* prompt, const cajal_sampling_params* params,
                                  cajal_on_delta on_delta, void* user_data, uint64_t* request_id, cajal_error** error);
/* The sequences of a request end as aborted within a step; of one that is over, or of NULL: nothing. */
CAJAL_API void cajal_abort(cajal_engine* engine, uint64_t request_id);

/* What the engine counts, in Prometheus' text format (text/plain; version=0.0.4). Any thread may ask at any time. */
CAJAL_API cajal_code cajal_metrics_text(const cajal_engine* engine, cajal_text** text, cajal_error** error);

/* ---- scoring ---- */

typedef struct cajal_score_result cajal_score_result;

typedef struct cajal_score_view {
  size_t struct_size; /* to be set before */
  const int32_t* token_ids;
  size_t num_token_ids;
  const double* logprobs;                  /* [num_token_ids - 1]: of tokens 1, 2, …; natural logarithms */
  const cajal_token_logprob* top_logprobs; /* [num_token_ids - 1, num_top_logprobs] */
  size_t num_top_logprobs;
  double perplexity; /* exp(-mean(logprobs)); 1 where there is nothing to predict */
} cajal_score_view;

/* What the model says of a text. `cancellation` may be NULL; a cancelled call is CAJAL_CANCELLED. */
CAJAL_API cajal_code cajal_score(cajal_engine* engine, const cajal_prompt* prompt, int32_t num_top_logprobs,
                                 cajal_cancellation* cancellation, cajal_score_result** result, cajal_error** error);
CAJAL_API cajal_code cajal_score_result_view(const cajal_score_result* result, cajal_score_view* view,
                                             cajal_error** error);
CAJAL_API void cajal_score_result_free(cajal_score_result* result);

/* ---- embeddings ---- */

typedef struct cajal_embed_options {
  size_t struct_size;
  int64_t dimensions;       /* only the first so many numbers of each vector; or unset: all */
  cajal_string prompt_name; /* of the model's config_sentence_transformers.json: "query", "document"; empty: none */
  cajal_string instruction; /* what queries are for, in a sentence; empty: none. At most one of the two */
  int32_t truncate;         /* not 0: cut the end of texts that are longer than the model takes */
} cajal_embed_options;

CAJAL_API cajal_code cajal_embed_options_init(cajal_embed_options* options, size_t struct_size, cajal_error** error);

typedef struct cajal_embeddings cajal_embeddings;

typedef struct cajal_embedding {
  size_t struct_size; /* to be set before */
  const float* values;
  size_t num_values;        /* dimensions or hidden_size */
  const int32_t* token_ids; /* what was read */
  size_t num_token_ids;
} cajal_embedding;

/* The vectors of texts, in their order. `options` and `cancellation` may be NULL; a cancelled call is CAJAL_CANCELLED. */
CAJAL_API cajal_code cajal_embed(cajal_engine* engine, const cajal_prompt* prompts, size_t num_prompts,
                                 const cajal_embed_options* options, cajal_cancellation* cancellation,
                                 cajal_embeddings** embeddings, cajal_error** error);
CAJAL_API size_t cajal_embeddings_size(const cajal_embeddings* embeddings); /* of NULL: 0 */
CAJAL_API cajal_code cajal_embeddings_get(const cajal_embeddings* embeddings, size_t index, cajal_embedding* embedding,
                                          cajal_error** error);
CAJAL_API void cajal_embeddings_free(cajal_embeddings* embeddings);

/* ---- reranking ---- */

typedef struct cajal_rerank_options {
  size_t struct_size;
  cajal_string instruction; /* what the query is for; empty: what the model card takes */
  int64_t top_n;            /* only the best so many documents; or unset: all */
  int32_t truncate;         /* not 0: cut the end of documents that are too long */
} cajal_rerank_options;

CAJAL_API cajal_code cajal_rerank_options_init(cajal_rerank_options* options, size_t struct_size, cajal_error** error);

typedef struct cajal_ranked_document {
  size_t index;           /* among the documents */
  double relevance_score; /* the probability of "yes" against "no", 0 to 1 */
} cajal_ranked_document;

typedef struct cajal_ranking cajal_ranking;

typedef struct cajal_ranking_view {
  size_t struct_size;                     /* to be set before */
  const cajal_ranked_document* documents; /* the best first */
  size_t num_documents;
  int64_t prompt_tokens;
} cajal_ranking_view;

/* How well documents answer a query, as a Qwen3-Reranker says. `options` and `cancellation` may be NULL. */
CAJAL_API cajal_code cajal_rerank(cajal_engine* engine, cajal_string query, const cajal_string* documents,
                                  size_t num_documents, const cajal_rerank_options* options,
                                  cajal_cancellation* cancellation, cajal_ranking** ranking, cajal_error** error);
CAJAL_API cajal_code cajal_ranking_get(const cajal_ranking* ranking, cajal_ranking_view* view, cajal_error** error);
CAJAL_API void cajal_ranking_free(cajal_ranking* ranking);

#ifdef __cplusplus
}
#endif
/* NOLINTEND(readability-identifier-naming) */
