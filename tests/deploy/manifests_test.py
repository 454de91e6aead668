#!/usr/bin/env python3
"""deploy/kubernetes/*.yaml: what Kubernetes demands of their form, and that the program knows every flag, path and port in them.

    python3 tests/deploy/manifests_test.py build/release/cajal        (needs Debian's python3-yaml)
"""
import os
import pathlib
import re
import subprocess
import sys
import unittest

try:
    import yaml
except ImportError:
    print("skipped: python3-yaml is not here")
    sys.exit(77)

PROGRAM = "cajal"
FOLDER = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
VERSIONS = {"Deployment": "apps/v1", "Service": "v1", "PodDisruptionBudget": "policy/v1",
            "LeaderWorkerSet": "leaderworkerset.x-k8s.io/v1", "InferencePool": "inference.networking.k8s.io/v1"}


def documents():
    for path in sorted(FOLDER.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            yield path.name, document


def pods():
    """(where, pod template, whether it answers HTTP)"""
    for name, document in documents():
        if document["kind"] == "Deployment":
            yield name, document["spec"]["template"], True
        if document["kind"] == "LeaderWorkerSet":
            templates = document["spec"]["leaderWorkerTemplate"]
            yield name + " leader", templates["leaderTemplate"], True
            yield name + " worker", templates["workerTemplate"], False


class Manifests(unittest.TestCase):
    def test_are_what_they_say_they_are(self):
        kinds = set()
        for name, document in documents():
            kinds.add(document["kind"])
            self.assertEqual(document["apiVersion"], VERSIONS[document["kind"]], name)
            self.assertRegex(document["metadata"]["name"], r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", name)
            self.assertIn("spec", document)
        self.assertEqual(kinds, set(VERSIONS))

    def test_select_pods_that_are_there(self):
        labels = [pod["metadata"]["labels"] for _, pod, _ in pods()]
        for name, document in documents():
            selector = document["spec"].get("selector")
            if selector is None:
                self.assertEqual(document["kind"], "LeaderWorkerSet")
                continue
            selector = selector.get("matchLabels", selector)
            self.assertTrue(selector and any(selector.items() <= l.items() for l in labels), (name, selector))
            if document["kind"] == "Deployment":
                self.assertLessEqual(selector.items(), document["spec"]["template"]["metadata"]["labels"].items())

    def test_start_the_program_with_flags_that_it_knows(self):
        for name, pod, _ in pods():
            arguments = pod["spec"]["containers"][0]["args"]
            ran = subprocess.run([PROGRAM, *arguments, "--print-config", "--api-key-file=/dev/null"], capture_output=True, text=True,
                                 env={k: v for k, v in os.environ.items() if not k.startswith("CAJAL_")}, timeout=60)
            # The model and the keys are not here; flags that are unknown or contradict each other come before.
            self.assertNotRegex(ran.stderr, "no flag of|is a flag of|contradict|expected", name)
            shown = subprocess.run([PROGRAM, "serve", "--help"], capture_output=True, text=True, check=True, timeout=60).stdout
            known = set(re.findall(r"--[a-z-]+", shown))
            self.assertEqual(arguments[0], "serve")
            for argument in arguments[2:]:
                self.assertIn(argument.split("=")[0], known, name)
                self.assertIn("=", argument)

    def test_give_probes_and_an_end_without_haste(self):
        for name, pod, answers in pods():
            spec = pod["spec"]
            container = spec["containers"][0]
            self.assertTrue(container["name"] and container["image"], name)
            self.assertNotRegex(container["image"], r":latest$|^[^:]*$")
            port = next((a.split("=")[1] for a in container["args"] if a.startswith("--port=")))
            timeout = int(next(a.split("=")[1] for a in container["args"] if a.startswith("--shutdown-timeout=")))
            wait = container["lifecycle"]["preStop"]["sleep"]["seconds"]
            self.assertGreater(spec["terminationGracePeriodSeconds"], wait + (timeout if answers else 0), name)
            if not answers:
                self.assertFalse([k for k in container if k.endswith("Probe")], "only the leader answers")
                continue
            self.assertEqual([p["containerPort"] for p in container["ports"] if p["name"] == "http"], [int(port)])
            for probe, path in (("startupProbe", "/ready"), ("readinessProbe", "/ready"), ("livenessProbe", "/health")):
                self.assertEqual(container[probe]["httpGet"], {"path": path, "port": "http"}, (name, probe))
            self.assertGreaterEqual(container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"], 600)

    def test_give_no_more_rights_than_needed(self):
        for name, pod, _ in pods():
            spec, container = pod["spec"], pod["spec"]["containers"][0]
            self.assertTrue(spec["securityContext"]["runAsNonRoot"], name)
            self.assertFalse(spec["automountServiceAccountToken"], name)
            self.assertTrue(container["securityContext"]["readOnlyRootFilesystem"], name)
            self.assertFalse(container["securityContext"]["allowPrivilegeEscalation"], name)
            self.assertEqual(container["securityContext"]["capabilities"], {"drop": ["ALL"]}, name)
            self.assertEqual({v["name"] for v in spec["volumes"]}, {m["name"] for m in container["volumeMounts"]}, name)
            model = container["args"][1]
            self.assertTrue(any(m.get("readOnly") and model.startswith(m["mountPath"]) for m in container["volumeMounts"]), name)

    def test_of_ranks_agree_in_their_number(self):
        for name, document in documents():
            if document["kind"] != "LeaderWorkerSet":
                continue
            templates = document["spec"]["leaderWorkerTemplate"]
            leader, worker = (templates[t]["spec"]["containers"][0] for t in ("leaderTemplate", "workerTemplate"))
            self.assertEqual(leader["args"], worker["args"], name)
            degree = int(next(a.split("=")[1] for a in leader["args"] if a.startswith("--tensor-parallel-size=")))
            self.assertEqual(degree, templates["size"])
            self.assertEqual(templates["restartPolicy"], "RecreateGroupOnPodRestart")


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 else PROGRAM
    unittest.main()
