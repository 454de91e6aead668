// cajal render: the prompt that a chat template makes of a request.
#include "cli/chat_prompt.h"
#include "cli/commands.h"
#include "cli/model_path.h"
#include "cli/streams.h"
#include "cli/usage_error.h"
#include "text/chat_template.h"

namespace cajal::cli {
namespace {

ChatTemplate open_template(const Options& options, CommandContext& context) {
  const std::string& file = options.render.template_file;
  if (file.empty())
    return ChatTemplate::from_folder(resolve_model(options.common.model, context.environment, options.common.download));
  if (!options.common.model.empty()) misuse("MODEL and --template contradict each other", remedy("give one of them"));
  return ChatTemplate::from_source(read_file_or(context.in, file), file == "-" ? "standard input" : file);
}

}  // namespace

void run_render(CommandContext& context) {
  const Options& options = context.options;
  if (options.input.empty())
    misuse("cajal render needs --input", remedy("give a file with the request as a JSON object; - is standard input"));
  const bool from_stdin = options.input == "-";
  const std::string where = from_stdin ? "standard input" : options.input;
  const ChatTemplate chat_template = open_template(options, context);
  const Json variables = parse_json(read_file_or(context.in, options.input), where);
  if (!variables.is_object())
    fail(ErrorCode::data_loss, where, ": ", variables.type_name(),
         ", expected an object whose keys are the template's variables", remedy("write {\"messages\": […]}"));
  context.out.write(chat_template.render(variables, {.now = local_time(), .limits = {}}).text);
}

}  // namespace cajal::cli
