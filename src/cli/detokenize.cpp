// cajal detokenize: token ids to text.
#include "cli/commands.h"
#include "cli/model_path.h"
#include "cli/values.h"
#include "text/tokenizer.h"

namespace cajal::cli {

void run_detokenize(CommandContext& context) {
  const Options& options = context.options;
  const Tokenizer tokenizer =
      Tokenizer::from_folder(resolve_model(options.common.model, context.environment, options.common.download));
  const std::vector<std::int32_t> ids = parse_token_ids(read_all(context.in), "standard input");
  context.out.write(tokenizer.decode(ids, options.skip_special_tokens));
}

}  // namespace cajal::cli
