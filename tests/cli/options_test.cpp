#include "cli/options.h"

#include <algorithm>
#include <set>

#include "backends/backend.h"
#include "cli/cli_fixture.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/usage_error.h"

namespace cajal::cli {
namespace {

using Words = std::vector<std::string>;

Options read(const Words& arguments, const Environment& environment = {}, std::string_view command = "generate") {
  return read_options(command, arguments, environment);
}

std::string refusal(const Words& arguments, const Environment& environment = {},
                    std::string_view command = "generate") {
  try {
    read(arguments, environment, command);
  } catch (const UsageError& e) {
    return e.what();
  }
  return "(accepted)";
}

// A value that a flag takes, for flags that this version has.
std::string good_value(const Flag& flag) {
  const std::string_view name = flag.name;
  if (flag.is_switch()) return "true";
  if (name == "device") return "cpu";
  if (name == "dtype") return "float32";
  if (name == "quantization" || name == "against-quantization") return "int8";
  if (name == "quantization-group-size") return "128";
  if (name == "quantization-overrides") return "lm_head=int4";
  if (name == "kv-cache-dtype" || name == "load-format") return "auto";
  if (name == "task") return "auto";
  if (name == "reasoning-field") return "both";
  if (name == "backend") return "openai-chat";
  if (name == "dataset-name") return "trace";
  if (name == "header" || name == "metadata") return "a=1";
  if (name == "log-level") return "debug";
  if (name == "log-format") return "text";
  if (name == "encoding-format") return "base64";
  if (name == "rope-scaling" || name == "hf-overrides" || name == "extra-body" || name == "json-schema")
    return R"({"a":1})";
  if (name == "grammar") return R"(root ::= "a")";
  return "1";
}

// Every flag of every command that runs, with a value.
template <class Body>
void for_each_flag(Body&& body) {
  for (const CommandInfo& command : commands()) {
    if (!command.run) continue;
    for (const Flag& flag : flags())
      if (flag.set && (flag.commands & command.bit)) body(command, flag, good_value(flag));
  }
}

TEST(Flags, HaveOneNameEach) {
  std::set<std::string_view> names;
  for (const Flag& flag : flags()) {
    EXPECT_TRUE(names.insert(flag.name).second) << flag.name;
    EXPECT_EQ(normalized_name(flag.name), flag.name);
  }
}

TEST(Flags, AreReadFromTheCommandLineTheEnvironmentAndAFile) {
  const TemporaryFolder folder;
  for_each_flag([&](const CommandInfo& command, const Flag& flag, const std::string& value) {
    const std::string name(flag.name);
    const Words given = flag.is_switch() ? Words{"--" + name} : Words{"--" + name, value};
    EXPECT_NO_THROW(read(given, {}, command.name)) << name;
    EXPECT_NO_THROW(read({"--" + name + "=" + value}, {}, command.name)) << name;
    EXPECT_NO_THROW(read({}, {{environment_name(flag), value}}, command.name)) << name;
    const std::string file = folder.file("flags.yaml", name + ": '" + value + "'\n");
    EXPECT_NO_THROW(read({"--config", file}, {}, command.name)) << name;
    // That it is read at all shows in a value that nothing takes.
    if (flag.value.empty() || flag.value == "N" || flag.value == "T" || flag.value == "R") {
      EXPECT_NE(refusal({"--" + name + "=nonsense"}, {}, command.name), "(accepted)") << name;
      EXPECT_NE(refusal({}, {{environment_name(flag), "nonsense"}}, command.name), "(accepted)") << name;
      const std::string bad = folder.file("bad.yaml", name + ": nonsense\n");
      EXPECT_NE(refusal({"--config", bad}, {}, command.name), "(accepted)") << name;
    }
  });
}

TEST(Flags, TakeDashAndUnderscoreAlike) {
  EXPECT_EQ(read({"--max_new_tokens", "7"}).generate.max_new_tokens, 7);
  EXPECT_EQ(read({"--max-new_tokens=7"}).generate.max_new_tokens, 7);
  EXPECT_EQ(read({"--max-new-tokens", "7"}).generate.max_new_tokens, 7);
  EXPECT_EQ(read({}, {{"CAJAL_MAX_NEW_TOKENS", "7"}}).generate.max_new_tokens, 7);
}

TEST(Flags, KeepValuesAsTheyAre) {
  EXPECT_EQ(read({"--prompt", "--max_new_tokens is a flag"}).prompt.prompt, "--max_new_tokens is a flag");
  EXPECT_EQ(read({"--prompt", "[1,2]"}).prompt.prompt, "[1,2]");
  EXPECT_EQ(read({"--prompt", "{}"}).prompt.prompt, "{}");
  EXPECT_EQ(read({"--prompt=a=b"}).prompt.prompt, "a=b");
  EXPECT_EQ(read({"--prompt", "a\nb\xff"}).prompt.prompt, "a\nb\xff");
  EXPECT_EQ(read({"--prompt", ""}).prompt.prompt, "");
  EXPECT_EQ(read({"--prompt=--json"}).prompt.prompt, "--json");
}

TEST(Flags, HaveTheirShortNames) {
  const Options o =
      read({"-p", "128,512", "-n", "8", "-b", "1,2", "-d=64", "-r", "3", "-tp", "1", "-ep=1"}, {}, "bench");
  EXPECT_EQ(o.bench.n_prompt, (std::vector<int>{128, 512}));
  EXPECT_EQ(o.bench.n_gen, std::vector<int>{8});
  EXPECT_EQ(o.bench.n_batch, (std::vector<int>{1, 2}));
  EXPECT_EQ(o.bench.depth, std::vector<int>{64});
  EXPECT_EQ(o.bench.repeats, 3);
}

TEST(Flags, GoByPrecedence) {
  const TemporaryFolder folder;
  const std::string file = folder.file("run.yaml", "temperature: 0.1\ntop_p: 0.1\ntop-k: 1\nstop: [a, b]\n");
  const Environment environment{{"CAJAL_TEMPERATURE", "0.2"}, {"CAJAL_TOP_P", "0.2"}, {"CAJAL_CONFIG", file}};
  const Options o = read({"--temperature", "0.3", "--stop", "c"}, environment);
  EXPECT_EQ(o.generate.temperature, 0.3);
  EXPECT_EQ(o.generate.top_p, 0.2);
  EXPECT_EQ(o.generate.top_k, 1);
  EXPECT_EQ(o.generate.stop, Words{"c"}) << "a list is replaced, not added to";
  EXPECT_EQ(read({}, environment).generate.stop, (Words{"a", "b"}));
}

TEST(Flags, OfOneSetAreChosenByPrecedenceToo) {
  const Options o = read({"--token-ids", "1, 2,3"}, {{"CAJAL_PROMPT", "hello"}});
  EXPECT_FALSE(o.prompt.prompt.has_value());
  EXPECT_EQ(o.prompt.token_ids, (std::vector<std::int32_t>{1, 2, 3}));
}

TEST(Flags, CountLastWhenRepeated) {
  EXPECT_EQ(read({"--top-k", "1", "--top-k", "2"}).generate.top_k, 2);
  EXPECT_EQ(read({"--stop", "1", "--stop", "2"}).generate.stop, (Words{"1", "2"}));
}

TEST(Flags, LeaveEmptyVariablesOut) { EXPECT_FALSE(read({}, {{"CAJAL_TOP_K", ""}}).generate.top_k.has_value()); }

TEST(Flags, MayBeSwitchedOff) {
  EXPECT_TRUE(read({}, {{"CAJAL_JSON", "1"}}).json);
  EXPECT_FALSE(read({"--json=false"}, {{"CAJAL_JSON", "1"}}).json);
}

TEST(Flags, ThatAreUnknownAreRefusedWithTheNearest) {
  const std::pair<std::string, std::string> near[] = {{"--max-new-tokns", "--max-new-tokens"},
                                                      {"--max_tokenz", "--max-new-tokens"},
                                                      {"--max-tokens", "--max-new-tokens"},
                                                      {"--temprature", "--temperature"},
                                                      {"--temp", "--temperature"},
                                                      {"--topk", "--top-k"},
                                                      {"--ctx-size", "--max-model-len"},
                                                      {"--tp", "--tensor-parallel-size"},
                                                      {"--sed", "--seed"},
                                                      {"--prompt_fil", "--prompt-file"},
                                                      {"--ignore", "--ignore-eos"}};
  for (const auto& [wrong, right] : near)
    EXPECT_NE(refusal({wrong, "1"}).find("did you mean " + right + "?"), std::string::npos) << refusal({wrong, "1"});
}

TEST(Flags, OfOtherCommandsAreSaidToBeTheirs) {
  EXPECT_NE(refusal({"--api-key", "1"}).find("is a flag of cajal serve, not of cajal generate"), std::string::npos);
  EXPECT_NE(refusal({"--dump_logits", "x"}).find("is a flag of cajal score"), std::string::npos);
  EXPECT_NE(refusal({"-o", "x"}).find("is a flag of cajal export"), std::string::npos);
}

TEST(Flags, ThatContradictEachOtherAreRefused) {
  EXPECT_NE(refusal({"--prompt", "a", "--token-ids", "1"}).find("contradict"), std::string::npos);
  EXPECT_NE(refusal({"--prompt-file", "a", "--token-ids-file", "1"}).find("contradict"), std::string::npos);
  EXPECT_NE(refusal({"--json", "--jsonl"}, {}, "tokenize").find("contradict"), std::string::npos);
  EXPECT_NE(refusal({"a", "--model", "b"}).find("two models"), std::string::npos);
  EXPECT_NE(refusal({"a", "b"}).find("unexpected argument"), std::string::npos);
  EXPECT_NE(refusal({"--rope-scaling", "{}", "--hf-overrides", R"({"rope_scaling":null})"}).find("rope_scaling"),
            std::string::npos);
}

TEST(Flags, WithValuesThatMakeNoSenseAreRefused) {
  const Words bad[] = {{"--temperature", "-0.1"},
                       {"--temperature", "nan"},
                       {"--temperature", "inf"},
                       {"--temperature", "1x"},
                       {"--temperature", ""},
                       {"--top-p", "0"},
                       {"--top-p", "1.01"},
                       {"--top-k", "-2"},
                       {"--top-k", "1.5"},
                       {"--min-p", "-0.1"},
                       {"--min-p", "1.1"},
                       {"--repetition-penalty", "0"},
                       {"--presence-penalty", "2.1"},
                       {"--seed", "-1"},
                       {"--seed", "99999999999999999999"},
                       {"--logprobs", "-1"},
                       {"--max-new-tokens", "0"},
                       {"--num-return-sequences", "0"},
                       {"--stop", ""},
                       {"--threads", "0"},
                       {"--max-model-len", "0"},
                       {"--token-ids", "1,-2"},
                       {"--token-ids", "1,x"},
                       {"--token-ids", "2147483648"},
                       {"--token-ids", "[1,2"},
                       {"--token-ids", "[1.5]"},
                       {"--hf-overrides", "[]"},
                       {"--hf-overrides", "{"},
                       {"--dtype", "int3"},
                       {"--device", "tpu"},
                       {"--log-level", "loud"},
                       {"--load-format", "x"},
                       {"--top-p"},
                       {"--top-p", "--json"},
                       {"--config", "/nope"},
                       {"--json=maybe"}};
  for (const Words& words : bad) EXPECT_NE(refusal(words), "(accepted)") << words[0] << " " << words.back();
  EXPECT_NE(refusal({"-p", "1,,2"}, {}, "bench"), "(accepted)");
  EXPECT_NE(refusal({"-b", "0"}, {}, "bench"), "(accepted)");
}

TEST(Flags, AtTheEdgesOfTheirRangesAreTaken) {
  const Words good[] = {{"--temperature", "0"},
                        {"--top-p", "1"},
                        {"--top-k", "0"},
                        {"--top-k", "-1"},
                        {"--min-p", "0"},
                        {"--min-p", "1"},
                        {"--seed", "0"},
                        {"--logprobs", "0"},
                        {"--top-p", "1e-3"},
                        {"--presence-penalty", "-2"},
                        {"--token-ids", "[1, 2]"},
                        {"--token-ids", "0"},
                        {"--seed", "9223372036854775807"}};
  for (const Words& words : good) EXPECT_EQ(refusal(words), "(accepted)") << words[0] << " " << words[1];
}

TEST(Flags, ThatThisVersionLacksAreRefusedByName) {
  const Words missing[] = {{"--kv-cache-dtype", "fp8"}, {"--device", "cuda:0,1"}};
  for (const Words& words : missing)
    EXPECT_NE(refusal(words).find("is not in this version"), std::string::npos) << words[0] << ": " << refusal(words);
  if (!built_with_cuda()) {
    EXPECT_NE(refusal({"--device", "cuda"}).find("is not in this version"), std::string::npos);
  }
  EXPECT_NE(refusal({"--dtype", "float16"}).find("float16 is not there on the CPU"), std::string::npos);
  EXPECT_EQ(read({"--kv-cache-dtype", "int8"}).common.kv_cache_dtype, "int8");
  EXPECT_EQ(refusal({"--quantization", "none", "--kv-cache-dtype", "auto", "-tp", "1"}), "(accepted)");
}

TEST(Flags, OfQuantisationRefuseWhatIsUnknownByName) {
  const std::pair<Words, std::string> bad[] = {{{"--quantization", "int5"}, "int5"},
                                               {{"--quantization-group-size", "64"}, "64"},
                                               {{"--kv-cache-dtype", "int4"}, "int4"},
                                               {{"--quantization-overrides", "lm_head"}, "'lm_head'"},
                                               {{"--quantization-overrides", "head=int4"}, "'head'"},
                                               {{"--quantization-overrides", "mlp=int8,lm_head=fp8"}, "'fp8'"}};
  for (const auto& [words, word] : bad) EXPECT_NE(refusal(words).find(word), std::string::npos) << refusal(words);
}

TEST(Flags, OfTutorialsHaveTheirMeaningOrSayThatTheyHaveNone) {
  const Options o = read({"--rope-scaling", R"({"rope_type":"yarn","factor":4.0})", "--hf-overrides",
                          R"({"head_dim":8})", "--reasoning-parser", "qwen3", "--enable-auto-tool-choice",
                          "--tool-call-parser", "hermes", "--enable-reasoning"});
  EXPECT_EQ(to_json(o.common.hf_overrides), R"({"rope_scaling":{"rope_type":"yarn","factor":4.0},"head_dim":8})");
  ASSERT_EQ(o.notes.size(), 4u);
  for (const std::string& note : o.notes) EXPECT_NE(note.find("has no effect"), std::string::npos) << note;
}

TEST(Flags, OfTheEngineAreTakenByEveryCommand) {
  for (const CommandInfo& command : commands()) {
    if (!command.run) continue;
    EXPECT_EQ(
        refusal({"--device", "cpu", "--threads", "1", "--dtype", "auto", "--log-level", "warning"}, {}, command.name),
        "(accepted)");
  }
}

TEST(Environment, NamesThatAreNearlyFlagsAreNoted) {
  const Options o =
      read({}, {{"CAJAL_MAX_NEW_TOKEN", "3"}, {"CAJAL_CPU_ISA", "avx2"}, {"CAJAL_SOMETHING_ELSE_ENTIRELY", "1"}});
  ASSERT_EQ(o.notes.size(), 1u);
  EXPECT_NE(o.notes[0].find("did you mean CAJAL_MAX_NEW_TOKENS?"), std::string::npos);
}

TEST(ConfigFile, NamesItselfAndTheLineInRefusals) {
  const TemporaryFolder folder;
  const std::string file = folder.file("run.yaml", "# comment\ntop-k: 5\ntop_p: 7\n");
  EXPECT_NE(refusal({"--config", file}).find(file + " line 3: top_p is 7"), std::string::npos)
      << refusal({"--config", file});
  const std::string unknown = folder.file("typo.yaml", "max_new_token: 5\n");
  EXPECT_NE(refusal({"--config", unknown}).find("did you mean max-new-tokens?"), std::string::npos);
}

TEST(ConfigFile, MayHoldFlagsOfOtherCommands) {
  const TemporaryFolder folder;
  const std::string file =
      folder.file("run.json", R"({"port": 8000, "top-p": 0.5, "token_ids": [1,2], "json": true, "min-p": null})");
  const Options o = read({"--config", file});
  EXPECT_EQ(o.generate.top_p, 0.5);
  EXPECT_EQ(o.prompt.token_ids, (std::vector<std::int32_t>{1, 2}));
  EXPECT_TRUE(o.json);
}

}  // namespace
}  // namespace cajal::cli
