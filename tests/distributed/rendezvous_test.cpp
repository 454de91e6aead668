#include "distributed/rendezvous.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace cajal {
namespace {

using testing::AllOf;
using testing::HasSubstr;

Rendezvous found(const Environment& environment) {
  const auto r = find_rendezvous(environment);
  EXPECT_TRUE(r.has_value());
  return r.value_or(Rendezvous{});
}

std::string refusal(const Environment& environment) {
  try {
    find_rendezvous(environment);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::invalid_argument);
    return e.what();
  }
  return "accepted";
}

TEST(Rendezvous, AProcessThatNobodyLaunchedIsByItself) {
  EXPECT_FALSE(find_rendezvous({}).has_value());
  EXPECT_FALSE(find_rendezvous({{"MASTER_ADDR", "a"}, {"SLURM_NTASKS", "4"}, {"RANK", ""}}).has_value());
  // A batch script has a rank's variables and is none; what srun starts in it has a step.
  Environment batch = {{"SLURM_PROCID", "0"},
                       {"SLURM_NTASKS", "2"},
                       {"SLURM_JOB_ID", "9"},
                       {"SLURM_JOB_NODELIST", "n1"},
                       {"ENVIRONMENT", "BATCH"}};
  EXPECT_FALSE(find_rendezvous(batch).has_value());
  batch["SLURM_STEP_ID"] = "0";
  EXPECT_EQ(found(batch).world_size, 2);
}

TEST(Rendezvous, TorchrunsVariables) {
  const Environment env = {{"RANK", "3"},         {"WORLD_SIZE", "4"},
                           {"LOCAL_RANK", "1"},   {"LOCAL_WORLD_SIZE", "2"},
                           {"MASTER_ADDR", "h0"}, {"MASTER_PORT", "1234"}};
  const auto r = found(env);
  EXPECT_EQ(r.launcher, Launcher::torchrun);
  EXPECT_EQ(r.rank, 3);
  EXPECT_EQ(r.world_size, 4);
  EXPECT_EQ(r.local_rank, 1);
  EXPECT_EQ(r.leader_address, "h0");
  EXPECT_EQ(r.port, 1234);
  // Where torchrun's agent keeps the port for itself, the next one is meant.
  Environment agent = env;
  agent["TORCHELASTIC_RUN_ID"] = "x";
  agent["TORCHELASTIC_USE_AGENT_STORE"] = "True";
  EXPECT_EQ(found(agent).port, 1235);
}

TEST(Rendezvous, OpenMpisVariables) {
  Environment env = {{"OMPI_COMM_WORLD_RANK", "1"},
                     {"OMPI_COMM_WORLD_SIZE", "2"},
                     {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                     {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                     {"PMIX_NAMESPACE", "77.1"}};
  auto r = found(env);
  EXPECT_EQ(r.launcher, Launcher::open_mpi);
  EXPECT_EQ(r.job, "77.1");  // one machine: no address is needed
  EXPECT_EQ(r.leader_address, "");
  env["OMPI_COMM_WORLD_LOCAL_SIZE"] = "1";
  env["OMPI_COMM_WORLD_LOCAL_RANK"] = "0";
  EXPECT_EQ(found(env).job, "");  // several: MPI itself tells
  env["MASTER_ADDR"] = "h0";
  EXPECT_EQ(found(env).leader_address, "h0");
}

TEST(Rendezvous, SlurmsVariables) {
  Environment env = {{"SLURM_PROCID", "5"}, {"SLURM_NTASKS", "8"},  {"SLURM_LOCALID", "1"},
                     {"SLURM_JOB_ID", "7"}, {"SLURM_STEP_ID", "2"}, {"SLURM_JOB_NODELIST", "gpu[07-09,12],x"}};
  const auto r = found(env);
  EXPECT_EQ(r.launcher, Launcher::slurm);
  EXPECT_EQ(r.rank, 5);
  EXPECT_EQ(r.leader_address, "gpu07");
  EXPECT_EQ(r.port, 16384 + 7 * 16 + 2);
  env["SLURM_NNODES"] = "1";
  EXPECT_EQ(found(env).leader_address, "127.0.0.1");
  env["SLURM_STEP_NUM_TASKS"] = "6";  // a step may be smaller than its job
  EXPECT_EQ(found(env).world_size, 6);
}

TEST(Rendezvous, LeaderWorkerSetsVariables) {
  const auto r = found({{"LWS_LEADER_ADDRESS", "leader.svc"}, {"LWS_GROUP_SIZE", "2"}, {"LWS_WORKER_INDEX", "1"}});
  EXPECT_EQ(r.launcher, Launcher::leader_worker_set);
  EXPECT_EQ(r.rank, 1);
  EXPECT_EQ(r.leader_address, "leader.svc");
  EXPECT_EQ(r.port, 29500);
}

TEST(Rendezvous, TheInnermostLauncherCounts) {
  const Environment slurm = {{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "1"}, {"SLURM_JOB_NODELIST", "n1"}};
  Environment env = slurm;
  env.merge(Environment{{"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "4"}});
  EXPECT_EQ(found(env).launcher, Launcher::open_mpi);
  env.merge(Environment{
      {"TORCHELASTIC_RUN_ID", "x"}, {"RANK", "6"}, {"WORLD_SIZE", "8"}, {"MASTER_ADDR", "a"}, {"MASTER_PORT", "1"}});
  EXPECT_EQ(found(env).rank, 6);
}

TEST(Rendezvous, WhatIsMissingOrContradictsIsNamedWithWhatWasSeen) {
  EXPECT_THAT(refusal({{"RANK", "1"}}),
              AllOf(HasSubstr("RANK is 1, but WORLD_SIZE is not set"), HasSubstr("unset RANK")));
  EXPECT_THAT(refusal({{"WORLD_SIZE", "4"}}), HasSubstr("WORLD_SIZE is 4, but RANK is not set"));
  EXPECT_THAT(refusal({{"RANK", "1"}, {"WORLD_SIZE", "2"}}), HasSubstr("MASTER_ADDR is not set"));
  EXPECT_THAT(refusal({{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}}), HasSubstr("MASTER_PORT is not set"));
  EXPECT_THAT(refusal({{"RANK", "2"}, {"WORLD_SIZE", "2"}}), HasSubstr("RANK is 2, but WORLD_SIZE is 2"));
  EXPECT_THAT(refusal({{"RANK", "one"}, {"WORLD_SIZE", "2"}}), HasSubstr("RANK is 'one', expected a whole number"));
  EXPECT_THAT(refusal({{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}, {"MASTER_PORT", "99999"}}),
              HasSubstr("MASTER_PORT is '99999'"));
  EXPECT_THAT(refusal({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"LOCAL_RANK", "2"}, {"LOCAL_WORLD_SIZE", "2"}}),
              HasSubstr("LOCAL_RANK is 2, but LOCAL_WORLD_SIZE is 2"));
  EXPECT_THAT(
      refusal({{"RANK", "0"}, {"WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "4"}}),
      AllOf(HasSubstr("OMPI_COMM_WORLD_SIZE say rank 1 of 4"), HasSubstr("WORLD_SIZE say rank 0 of 4")));
  EXPECT_THAT(refusal({{"LWS_GROUP_SIZE", "2"}, {"LWS_WORKER_INDEX", "1"}}),
              HasSubstr("LWS_LEADER_ADDRESS is not set"));
  EXPECT_THAT(refusal({{"SLURM_PROCID", "1"}}), HasSubstr("SLURM_NTASKS is not set"));
}

TEST(Rendezvous, OneRankNeedsNobodysAddress) { EXPECT_EQ(found({{"RANK", "0"}, {"WORLD_SIZE", "1"}}).world_size, 1); }

TEST(Rendezvous, FirstHostOfEveryListThatSlurmWrites) {
  EXPECT_EQ(first_host("n1"), "n1");
  EXPECT_EQ(first_host("n1,n2"), "n1");
  EXPECT_EQ(first_host("a[3,5]"), "a3");
  EXPECT_EQ(first_host("r[1-2]n[04-07].x,b"), "r1n04.x");
  EXPECT_EQ(first_host("login,a[1-2]"), "login");
  EXPECT_EQ(first_host("a[1-"), "a1");
  EXPECT_EQ(first_host(""), "");
}

}  // namespace
}  // namespace cajal
