/* consumer_c MODEL: prints what follows tokens 1, 2, 3. */
#include <cajal/c_api.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int report(cajal_error* error) {
  const cajal_string message = cajal_error_message(error);
  fprintf(stderr, "%.*s\n", (int)message.size, message.data);
  cajal_error_free(error);
  return 1;
}

static void count(void* user_data, const cajal_delta* delta) { *(size_t*)user_data += delta->num_token_ids; }

int main(int argc, char** argv) {
  static const char* const reasons[] = {"none", "stop", "length", "aborted", "error", "timeout"};
  const int32_t ids[] = {1, 2, 3};
  cajal_error* error = NULL;
  cajal_engine_config config;
  cajal_sampling_params params;
  cajal_engine* engine = NULL;
  cajal_results* results = NULL;
  cajal_completion completion = {.struct_size = sizeof completion};
  const cajal_prompt prompt = {.token_ids = ids, .num_token_ids = 3};
  size_t streamed = 0;
  if (argc != 2 || cajal_api_version() < CAJAL_API_VERSION) return 2;
  if (cajal_engine_config_init(&config, sizeof config, &error)) return report(error);
  config.model.data = argv[1];
  config.model.size = strlen(argv[1]);
  config.threads = 1;
  if (cajal_engine_open(&config, &engine, &error)) return report(error);
  if (cajal_sampling_params_init(&params, sizeof params, &error)) return report(error);
  params.max_tokens = 8;
  if (cajal_generate(engine, &prompt, 1, &params, count, &streamed, NULL, &results, &error)) return report(error);
  if (cajal_results_get(results, 0, 0, &completion, &error)) return report(error);
  if (streamed != completion.num_token_ids) return 1;
  for (size_t i = 0; i < completion.num_token_ids; ++i) printf("%" PRId32 " ", completion.token_ids[i]);
  printf("%s\n", reasons[completion.finish_reason]);
  cajal_results_free(results);
  cajal_engine_close(engine);
  return 0;
}
