#!/usr/bin/env python3
"""What routers, autoscalers and dashboards read: vLLM's names, old and new, and the contract of the Gateway API Inference Extension.

    python3 tests/server/metrics_test.py build/release/cajal
"""
import concurrent.futures
import re
import sys
import time
import unittest

from serving import Server

PROGRAM = "cajal"
COMPLETIONS = "/v1/completions"
GAUGES = ("num_requests_running num_requests_waiting num_requests_waiting_by_reason kv_cache_usage_perc gpu_cache_usage_perc "
          "cache_config_info")
COUNTERS = ("prompt_tokens_total generation_tokens_total request_success_total num_preemptions_total prefix_cache_queries_total "
            "prefix_cache_hits_total gpu_prefix_cache_queries_total gpu_prefix_cache_hits_total")
HISTOGRAMS = ("time_to_first_token_seconds inter_token_latency_seconds time_per_output_token_seconds e2e_request_latency_seconds "
              "request_queue_time_seconds request_prefill_time_seconds request_decode_time_seconds request_inference_time_seconds "
              "request_prompt_tokens request_generation_tokens iteration_tokens_total request_params_n request_params_max_tokens")
TTFT_BUCKETS = ".001 .005 .01 .02 .04 .06 .08 .1 .25 .5 .75 1 2.5 5 7.5 10 20 40 80 160 640 2560"


class Metrics(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(PROGRAM, "--threads", "1", "--max-num-seqs", "2", "--disable-access-log")

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0

    def text(self):
        status, headers, text = self.server.request("GET", "/metrics")
        self.assertEqual(status, 200)
        self.assertTrue(headers["Content-Type"].startswith("text/plain; version=0.0.4"))
        return text

    def test_have_the_names_and_types_of_vllm(self):
        text = self.text()
        for kind, names in (("gauge", GAUGES), ("counter", COUNTERS), ("histogram", HISTOGRAMS)):
            for name in names.split():
                self.assertIn(f"# TYPE vllm:{name} {kind}\n", text)
                sample = f"vllm:{name}" + ("_count" if kind == "histogram" else "")
                labels = re.search(rf"^{sample}{{(.*?)}} ", text, re.M)
                self.assertIsNotNone(labels, sample)
                self.assertIn('model_name="cajal-demo"', labels[1])
                self.assertIn('engine="0"', labels[1])

    def test_have_the_buckets_of_vllm(self):
        bounds = re.findall(r'^vllm:time_to_first_token_seconds_bucket{.*le="(\S+?)"}', self.text(), re.M)
        self.assertEqual([float(b) for b in bounds], [float(b) for b in TTFT_BUCKETS.split()] + [float("inf")])

    def test_keep_the_contract_of_the_inference_extension(self):
        """Queued and running requests, the part of blocks in use, block size and number of blocks."""
        self.server.wait_idle()
        idle = self.server.metrics()
        self.assertEqual([idle[f"vllm:{n}"] for n in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")], [0] * 3)
        info = re.search(r"^vllm:cache_config_info{(.*)} 1$", self.text(), re.M)[1]
        self.assertGreater(int(re.search(r'block_size="(\d+)"', info)[1]), 0)
        self.assertGreater(int(re.search(r'num_gpu_blocks="(\d+)"', info)[1]), 0)

        body = {"prompt": "x", "max_tokens": 1500, "ignore_eos": True}
        with concurrent.futures.ThreadPoolExecutor(5) as pool:
            answers = [pool.submit(self.server.request, "POST", COMPLETIONS, body) for _ in range(5)]
            deadline = time.monotonic() + 30
            while True:  # two run, three wait
                now = self.server.metrics()
                if (now["vllm:num_requests_running"], now["vllm:num_requests_waiting"]) == (2, 3):
                    break
                self.assertLess(time.monotonic(), deadline, now)
            self.assertTrue(all(a.result()[0] == 200 for a in answers))
        self.assertTrue(0 <= now["vllm:kv_cache_usage_perc"] <= 1)
        self.assertEqual(now["vllm:kv_cache_usage_perc"], now["vllm:gpu_cache_usage_perc"])
        self.server.wait_idle()
        after = self.server.metrics()
        self.assertEqual(after["vllm:kv_cache_usage_perc"], 0)
        self.assertEqual(after["vllm:request_success_total"] - idle["vllm:request_success_total"], 5)
        self.assertEqual(after["vllm:generation_tokens_total"] - idle["vllm:generation_tokens_total"], 5 * 1500)
        self.assertEqual(after["vllm:time_to_first_token_seconds_count"] - idle["vllm:time_to_first_token_seconds_count"], 5)

    def test_are_there_while_all_threads_are_busy(self):
        connection = self.server.connect()
        for _ in range(50):  # on one connection, as who looks every 50 ms does
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            self.assertEqual((answer.status, len(answer.read()) > 1000), (200, True))
        connection.close()


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 else PROGRAM
    unittest.main()
