#!/usr/bin/env python3
"""Ranks as launchers start them: mpirun, and those who set variables; on one machine, and on two that are network namespaces.

    python3 tests/ranks/launch_test.py build/release/tests/rank_program build/release/libcajal_mpi.so
"""
import functools
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import uuid

PROGRAM = "rank_program"
PLUGIN = ""
LIMIT = 200  # seconds; whatever takes longer hangs
FOREIGN = ("CAJAL_", "OMPI_", "PMI", "SLURM_", "RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "LWS_", "TORCHELASTIC_")


def environment(**more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
    return {**kept, "CAJAL_START_TIMEOUT": "60", "CAJAL_STALL_TIMEOUT": "3", **more}


def mpirun(*arguments):
    # Cores are not looked at: tests share them. A namespace has no network that mpirun would find by itself.
    root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    return ["mpirun", *root, "--oversubscribe", "--bind-to", "none", *map(str, arguments)]


def needs(what, is_there):
    """Decorates a test that is skipped, with `what` as the reason, unless it is there when the test runs."""
    def decorate(test):
        @functools.wraps(test)
        def run_test(self):
            if not is_there():
                self.skipTest(what)
            test(self)
        return run_test
    return decorate


needs_mpirun = needs("mpirun is not here (openmpi-bin)", lambda: shutil.which("mpirun"))
needs_plugin = needs("mpirun or libcajal_mpi.so is not here (openmpi-bin, libopenmpi-dev)",
                     lambda: shutil.which("mpirun") and pathlib.Path(PLUGIN).is_file())


def run(command, **variables):
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=environment(**variables))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def obeying(size, transport, here=None):
    here = here or size
    return sorted(f"rank {r} of {size} ({r % here} of {here} here) obeys every law over {transport}" for r in range(size))


class Launched:
    """Processes with variables of their own, as torchrun and others start them."""

    def __init__(self, environments, *arguments, wrap=lambda rank, command: command):
        self.processes = [
            subprocess.Popen(wrap(r, [PROGRAM, *map(str, arguments)]), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             text=True, env=environment(**e)) for r, e in enumerate(environments)]

    def end(self, rank):
        output, _ = self.processes[rank].communicate(timeout=LIMIT)
        return self.processes[rank].returncode, output

    def all(self):
        return [self.end(r) for r in range(len(self.processes))]


def torchrun(size, address, port, **more):
    return [{"RANK": str(r), "WORLD_SIZE": str(size), "MASTER_ADDR": address, "MASTER_PORT": str(port), **more}
            for r in range(size)]


class OneMachine(unittest.TestCase):
    def check(self, launched, size, transport="shared"):
        ended = launched.all()
        self.assertEqual([code for code, _ in ended], [0] * size, ended)
        self.assertEqual(sorted(output.strip() for _, output in ended), obeying(size, transport))

    def test_variables_of_every_launcher(self):
        self.check(Launched(torchrun(2, "127.0.0.1", free_port())), 2)
        port = str(free_port())
        self.check(Launched([{"LWS_LEADER_ADDRESS": "localhost", "LWS_GROUP_SIZE": "2", "LWS_WORKER_INDEX": str(r),
                              "MASTER_PORT": port} for r in range(2)]), 2)
        self.check(Launched([{"SLURM_PROCID": str(r), "SLURM_NTASKS": "2", "SLURM_LOCALID": str(r), "SLURM_NNODES": "1",
                              "SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_ID": "0",
                              "SLURM_JOB_NODELIST": "n[1-2]"} for r in range(2)]), 2)

    def test_a_launcher_that_is_killed_leaves_nobody(self):
        port = free_port()
        script = "".join(f"RANK={r} WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT={port} {PROGRAM} 150 & " for r in range(2))
        self.leaves_nobody(["bash", "-c", script + "wait"])

    @needs_mpirun
    def test_mpirun_that_is_killed_leaves_nobody(self):
        self.leaves_nobody(mpirun("-n", 3, PROGRAM, 150))

    def leaves_nobody(self, command):
        mark = uuid.uuid4().hex
        launcher = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                    env=environment(CAJAL_TEST_MARK=mark))
        until = time.monotonic() + 30
        while len(self.marked(mark)) < 3 and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(1)
        self.assertGreater(len(self.marked(mark)), 2)
        launcher.kill()
        launcher.wait()
        until = time.monotonic() + 30
        while self.marked(mark) and time.monotonic() < until:
            time.sleep(0.05)
        self.assertEqual(self.marked(mark), [])

    @staticmethod
    def marked(mark):
        found = []
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if mark.encode() in (process / "environ").read_bytes():
                    found.append((int(process.name), (process / "cmdline").read_bytes()))
            except OSError:
                pass
        return [f for f in found if f[1]]

    @needs_mpirun
    def test_mpirun_over_every_transport(self):
        for transport in ("auto", "tcp") + (("mpi",) if pathlib.Path(PLUGIN).is_file() else ()):
            done = run(mpirun("-n", 4, PROGRAM), CAJAL_TRANSPORT=transport, CAJAL_MPI_PLUGIN=PLUGIN)
            self.assertEqual(done.returncode, 0, done)
            self.assertEqual(sorted(done.stdout.splitlines()), obeying(4, {"auto": "shared"}.get(transport, transport)))

    @needs_mpirun
    def test_a_missing_plugin_is_named_with_what_follows(self):
        done = run(mpirun("-n", 2, PROGRAM), CAJAL_TRANSPORT="mpi", CAJAL_MPI_PLUGIN="/nowhere/libcajal_mpi.so")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("libcajal_mpi.so is at none of /nowhere/libcajal_mpi.so", done.stderr)
        self.assertIn("without it ranks cannot talk through Open MPI", done.stderr)

    @needs_plugin
    def test_who_dies_or_stalls_under_mpi_ends_all(self):
        # mpirun itself ends the others when one has ended with an error, perhaps before they can say why.
        for fate in (signal.SIGKILL, signal.SIGSTOP):
            done = run(mpirun("-n", 3, PROGRAM, 150, 1, int(fate)), CAJAL_TRANSPORT="mpi", CAJAL_MPI_PLUGIN=PLUGIN)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("rank 1 " + ("" if fate == signal.SIGKILL else "has stalled"), done.stderr)


class TwoMachines(unittest.TestCase):
    """Two network namespaces with a cable between them and host names of their own."""

    @classmethod
    def setUpClass(cls):
        if not shutil.which("ip"):
            raise unittest.SkipTest("ip is not here (iproute2)")
        cls.names = [f"cajal{os.getpid()}{side}" for side in "ab"]
        for command in (f"ip netns add {cls.names[0]}", f"ip netns add {cls.names[1]}",
                        f"ip link add {cls.names[0]} type veth peer name {cls.names[1]}"):
            done = subprocess.run(command.split(), capture_output=True, text=True)
            if done.returncode != 0:
                cls.tearDownClass()
                raise unittest.SkipTest(f"'{command}' is not permitted here: {done.stderr.strip()}")
        for number, name in enumerate(cls.names, 1):
            subprocess.run(["ip", "link", "set", name, "netns", name], check=True)
            for command in (f"ip addr add 10.77.0.{number}/24 dev {name}", f"ip link set {name} up", "ip link set lo up"):
                subprocess.run(["ip", "netns", "exec", name, *command.split()], check=True)
        cls.folder = tempfile.TemporaryDirectory()
        agent = pathlib.Path(cls.folder.name) / "agent"
        agent.write_text("#!/bin/sh\nname=$1; shift\ncase $name in 10.77.0.1) name=" + cls.names[0] + " ;; *) name=" +
                         cls.names[1] + ' ;; esac\nexec ip netns exec $name unshare --uts sh -c "hostname $name; $*"\n')
        agent.chmod(0o755)
        cls.agent = str(agent)

    @classmethod
    def tearDownClass(cls):
        for name in cls.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)

    def on(self, machine, command):
        return [self.agent, f"10.77.0.{machine + 1}", *map(str, command)]

    def test_ranks_that_are_told_where_rank_0_is_talk_over_tcp(self):
        launched = Launched(torchrun(4, "10.77.0.1", 29555), wrap=lambda r, command: self.on(r // 2, command))
        ended = launched.all()
        self.assertEqual(sorted(output.strip() for _, output in ended), obeying(4, "tcp", here=2))

    def test_a_cable_that_is_cut_is_noticed_at_both_ends(self):
        launched = Launched(torchrun(2, "10.77.0.1", 29556), 150, wrap=self.on)
        time.sleep(2)
        subprocess.run(["ip", "netns", "exec", self.names[1], "ip", "link", "set", self.names[1], "down"], check=True)
        ended = launched.all()
        subprocess.run(["ip", "netns", "exec", self.names[1], "ip", "link", "set", self.names[1], "up"], check=True)
        for rank, (code, output) in enumerate(ended):
            self.assertEqual(code, 1, output)
            self.assertIn(f"rank {1 - rank} has stalled", output)

    def test_shared_memory_is_refused_across_machines(self):
        ended = Launched(torchrun(2, "10.77.0.1", 29557, CAJAL_TRANSPORT="shared"), wrap=self.on).all()
        for code, output in ended:
            self.assertEqual(code, 1, output)
            self.assertIn("needs all ranks on one machine", output)

    @needs_plugin
    def test_mpirun_across_machines(self):
        command = mpirun("--mca", "plm_rsh_agent", self.agent, "--mca", "btl_tcp_if_include", "10.77.0.0/24", "--mca",
                         "oob_tcp_if_include", "10.77.0.0/24", "-H", "10.77.0.1:2,10.77.0.2:2", "-x", "CAJAL_MPI_PLUGIN",
                         "-n", 4, PROGRAM)
        done = run(self.on(0, command), CAJAL_MPI_PLUGIN=PLUGIN)
        self.assertEqual(done.returncode, 0, done)
        self.assertEqual(sorted(done.stdout.splitlines()), obeying(4, "mpi", here=2))


if __name__ == "__main__":
    PROGRAM, PLUGIN = (str(pathlib.Path(a).resolve()) for a in sys.argv[1:3])
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
