#include "engine/ranks/plan.h"

#include <gtest/gtest.h>

#include <random>

#include "distributed/thread_group.h"
#include "engine/model_runner.h"
#include "engine/ranks/damaging.h"

namespace cajal {
namespace {

struct OwnedStep {
  StepInput input;
  std::vector<std::vector<std::int32_t>> tables;
};

OwnedStep some_step(std::mt19937& random) {
  const auto number = [&](int most) { return std::uniform_int_distribution<std::int32_t>(0, most)(random); };
  OwnedStep step;
  for (int i = number(3); i > 0; --i) step.input.block_copies.push_back({number(100), number(100)});
  for (int i = number(40); i > 0; --i)
    step.input.rows.push_back(
        {number(1 << 20), number(1 << 20), number(64), number(1 << 20), number(1 << 20), number(1) == 1});
  for (int i = number(5); i > 0; --i) {
    step.tables.emplace_back();
    for (int k = number(9); k > 0; --k) step.tables.back().push_back(number(1 << 20));
  }
  for (const auto& table : step.tables) step.input.block_tables.emplace_back(table);
  for (int i = number(5); i > 0; --i)
    step.input.sampling.push_back(
        {.how = static_cast<ChooseHow>(number(2)),
         .num_logprobs = number(20),
         .temperature = 0.5f + static_cast<float>(number(100)),
         .top_k = number(50),
         .top_p = 1.0 / (1 + number(9)),
         .log_min_p = -1.0 * number(100),
         .key = {.seed = random(), .position = random(), .sequence = static_cast<std::uint32_t>(number(9))}});
  return step;
}

// All of a step, for comparison.
std::vector<double> values_of(const StepInput& step) {
  std::vector<double> all{static_cast<double>(step.block_copies.size()), static_cast<double>(step.rows.size()),
                          static_cast<double>(step.block_tables.size()), static_cast<double>(step.sampling.size())};
  const auto add = [&](auto... values) { (all.push_back(static_cast<double>(values)), ...); };
  for (const BlockCopy& c : step.block_copies) add(c.from, c.to);
  for (const TokenRow& r : step.rows) add(r.token_id, r.position, r.seq_index, r.slot, r.rope_length, r.wants_logits);
  for (const auto& table : step.block_tables) {
    add(table.size());
    for (const std::int32_t block : table) add(block);
  }
  for (const RowSampling& s : step.sampling)
    add(static_cast<int>(s.how), s.num_logprobs, s.temperature, s.top_k, s.top_p, s.log_min_p, s.key.seed,
        s.key.position, s.key.sequence);
  return all;
}

TEST(Plan, AStepIsReadAsItWasWritten) {
  std::mt19937 random(1);
  ReceivedStep received;
  for (int i = 0; i < 200; ++i) {
    const OwnedStep step = some_step(random);
    PlanWriter writer;
    write(writer, step.input);
    PlanReader reader(writer.bytes());
    read(reader, received);
    reader.expect_end();
    ASSERT_EQ(values_of(received.input), values_of(step.input));
  }
}

TEST(Plan, AModelsOptionsAreReadAsTheyWereWritten) {
  ModelOptions options;
  options.folder = "a folder";
  options.dtype = DType::bf16;
  options.load_format = LoadFormat::dummy;
  options.dummy_seed = 7;
  options.quantization = quantization_recipe("int4", 128, "lm_head=int8");
  options.config_overrides = parse_json(R"({"rope_scaling": {"factor": 2.5}})", "test");
  options.prepared = "another";
  options.outputs = {.logits = false, .last_hidden_state = true};
  PlanWriter writer;
  write(writer, options);
  PlanReader reader(writer.bytes());
  const ModelOptions read = read_model_options(reader);
  reader.expect_end();
  EXPECT_EQ(read.folder, options.folder);
  EXPECT_EQ(read.dtype, options.dtype);
  EXPECT_EQ(read.load_format, options.load_format);
  EXPECT_EQ(read.dummy_seed, options.dummy_seed);
  EXPECT_EQ(read.quantization, options.quantization);
  EXPECT_EQ(read.config_overrides, options.config_overrides);
  EXPECT_EQ(read.prepared, options.prepared);
  EXPECT_EQ(read.outputs, options.outputs);
}

TEST(Plan, OneThatEndsEarlyIsRefusedWhereverItEnds) {
  std::mt19937 random(2);
  PlanWriter writer;
  write(writer, some_step(random).input);
  for (std::size_t n = 0; n < writer.bytes().size(); ++n) {
    PlanReader reader(writer.bytes().first(n));
    ReceivedStep received;
    EXPECT_THROW(read(reader, received), Error) << n << " of " << writer.bytes().size() << " bytes";
  }
}

TEST(Plan, WhatIsSentArrivesWhateverItsLength) {
  const std::vector<std::size_t> lengths{0, 1, 4055, 4056, 4057, 100'000, 3};
  run_thread_group(3, [&](Communicator& world) {
    PlanLink link(world);
    for (const std::size_t length : lengths) {
      const std::string text(length, 'x');
      if (world.rank() == 0) {
        link.new_body().put(text);
        link.send(PlanKind::step, length);
      } else {
        const Plan plan = link.receive();
        EXPECT_EQ(plan.object, length);
        EXPECT_EQ(PlanReader(plan.body).get_text(), text);
      }
    }
  });
}

// What rank 1 says of the second of two plans if a byte of it changes.
std::string complaint(std::size_t byte) {
  std::string message;
  run_thread_group(2, [&](Communicator& world) {
    Damaging damaging(world, 1, byte);
    PlanLink link(world.rank() == 1 ? static_cast<Communicator&>(damaging) : world);
    for (int i = 0; i < 2; ++i) {
      if (world.rank() == 0) {
        link.new_body().put(std::string("a plan"));
        link.send(PlanKind::step, 1);
        continue;
      }
      try {
        link.receive();
      } catch (const Error& e) {
        message = e.message();
      }
    }
  });
  return message;
}

TEST(Plan, ADamagedOneIsRefusedWhicheverByteItIs) {
  constexpr std::size_t kHeader = 40, kBody = 14;
  for (std::size_t byte = 0; byte < kHeader + kBody; ++byte) EXPECT_NE(complaint(byte), "") << "byte " << byte;
  EXPECT_EQ(complaint(8), "rank 0 sent plan 3, expected 2");
  EXPECT_NE(complaint(kHeader + 9).find("plan 2 (step) has the checksum"), std::string::npos);
}

}  // namespace
}  // namespace cajal
