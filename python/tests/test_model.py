import _thread
import gc
import json
import threading
import time

import pytest

import cajal
from cajal import LLM, Model, SamplingParams


def test_says_what_it_is(model):
    info = model.info
    assert (info.model_type, info.vocab_size, info.has_tokenizer) == ("qwen3", 151936, True)
    assert info.eos_token_ids == [151645]
    assert info.pad_token_id is None
    assert cajal.__version__.count(".") == 2


@pytest.mark.parametrize("text", ["", "Hello, neuron!", "神经元 🧠\n", "zero \0 inside", "<|im_end|>"])
def test_text_goes_there_and_back(model, text):
    assert model.decode(model.encode(text)) == text


def test_one_prompt_gives_one_answer_and_several_a_list(model):
    one = model.generate("Once", max_tokens=3)
    assert one.prompt == "Once"
    assert one.text == one.outputs[0].text
    assert len(one.outputs[0].token_ids) == 3
    assert one.outputs[0].finish_reason == "length"
    ids = model.generate(one.prompt_token_ids, max_tokens=3)
    assert ids.prompt is None
    assert ids.outputs == one.outputs
    assert [o.outputs for o in model.generate(["Once", one.prompt_token_ids], max_tokens=3)] == [one.outputs] * 2
    assert model.generate([], max_tokens=3) == []


def test_names_of_transformers_are_understood(model):
    expected = model.generate("Once", SamplingParams(max_tokens=4, n=2, temperature=0))
    got = model.generate("Once", max_new_tokens=4, num_return_sequences=2, do_sample=False)
    assert got.outputs == expected.outputs
    assert model.generate("Once", max_tokens=4, do_sample=True, seed=1).outputs == \
        model.generate("Once", max_tokens=4, temperature=1, seed=1).outputs
    with pytest.raises(TypeError):
        model.generate("Once", num_beams=4)


def test_pieces_are_the_whole(model):
    params = SamplingParams(max_tokens=30, temperature=1, seed=3, logprobs=2, n=2)
    whole = model.generate("Once upon a time", params)
    for index, output in enumerate(whole.outputs):
        pieces = [p for p in model.stream("Once upon a time", params) if p.index == index]
        assert "".join(p.text for p in pieces) == output.text
        assert [i for p in pieces for i in p.token_ids] == output.token_ids
        assert [x for p in pieces for x in p.logprobs] == output.logprobs
        assert [p.finish_reason for p in pieces][-1] == output.finish_reason
        assert {p.finish_reason for p in pieces[:-1]} <= {None}


def test_scores_what_it_generates(model):
    output = model.generate("Once upon a time", max_tokens=5, logprobs=0)
    score = model.score(output.prompt_token_ids + output.outputs[0].token_ids, top_logprobs=2)
    assert score.logprobs[0] is None
    assert sum(score.logprobs[-5:]) == pytest.approx(output.outputs[0].cumulative_logprob, abs=0)
    assert all(set(p.rank for p in position.values()) == {1, 2} for position in score.top_logprobs[1:])
    assert model.score("Hello").perplexity == 1


def test_score_as_an_array(model):
    numpy = pytest.importorskip("numpy")
    score = model.score(numpy.array([1, 2, 3], dtype=numpy.int64))
    assert score.numpy().shape == (2,)


def test_stops(model):
    params = SamplingParams(max_tokens=8, ignore_eos=True)
    whole = model.generate("Once", params).outputs[0]
    assert model.generate("Once", params, stop_token_ids=[whole.token_ids[0]]).outputs[0].finish_reason == "stop"
    assert model.generate("Once", params, stop=whole.text[-2:]).outputs[0].finish_reason == "stop"


def test_what_is_wrong_is_said(model, tmp_path):
    with pytest.raises(ValueError, match="temperature is -1") as caught:
        model.generate("x", temperature=-1)
    assert caught.value.code == "invalid_argument"
    with pytest.raises(ValueError, match="NaN|not a number"):
        model.generate("x", temperature=float("nan"))
    with pytest.raises(ValueError, match="seed"):
        model.generate("x", seed=-1)
    with pytest.raises(ValueError, match="no tokens"):
        model.generate("")
    with pytest.raises(ValueError, match="32 bits|outside the vocabulary"):
        model.generate([2**40])
    with pytest.raises(ValueError, match=r"prompts\[1\]"):
        model.generate(["fine", [999999]])
    with pytest.raises(FileNotFoundError, match="no such folder") as caught:
        Model(tmp_path / "nothing")
    assert "check the path" in caught.value.remedy
    with pytest.raises(NotImplementedError):
        Model(tmp_path, dtype="float16")


def test_token_ids_are_enough_without_a_tokenizer(golden_folder):
    with Model(golden_folder, threads=1) as model:
        assert model.generate([1, 2, 3], max_tokens=2).text == ""
        with pytest.raises(FileNotFoundError, match="tokenizer.json"):
            model.generate("text")
        with pytest.raises(FileNotFoundError):
            model.chat([{"role": "user", "content": "Hi"}])


def test_a_name_is_looked_up_in_the_cache(golden_folder, tmp_path, monkeypatch):
    root = tmp_path / "models--somebody--tiny"
    (root / "refs").mkdir(parents=True)
    (root / "refs/main").write_text("abc")
    (root / "snapshots").mkdir()
    (root / "snapshots/abc").symlink_to(golden_folder)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with Model.from_pretrained("somebody/tiny") as model:
        assert model.info.model == "somebody/tiny"
    with pytest.raises(FileNotFoundError, match="models--somebody--big"):
        Model.from_pretrained("somebody/big")


def test_overrides_and_dummy_weights(golden_folder):
    with Model(golden_folder, load_format="dummy", hf_overrides={"num_hidden_layers": 1}, max_model_len=32) as model:
        assert (model.info.num_hidden_layers, model.info.max_model_len) == (1, 32)


def test_weights_are_rounded_as_asked(golden_folder):
    sizes = {}
    for name, settings in {"plain": {}, "int8": {"quantization": "int8"},
                           "mlp": {"quantization": "int8", "quantization_overrides": {"attention": "none", "embed_tokens": "none"}}}.items():
        with Model(golden_folder, device="cpu", threads=1, **settings) as model:
            sizes[name] = model.info.weight_bytes
    assert sizes["int8"] < sizes["mlp"] < sizes["plain"]
    with pytest.raises(ValueError, match="int3"):
        Model(golden_folder, quantization="int3")


def test_ranks_say_what_one_says():
    prompts = ["The sky is", "What is 47 + 38?"]
    settings = {"device": "cpu", "max_model_len": 128}
    with Model(**settings) as alone, Model(**settings, tensor_parallel_size=2) as two:
        assert "2 threads as ranks" in two.info.device
        assert two.info.weight_bytes < alone.info.weight_bytes
        one, both = (m.generate(prompts, max_tokens=8) for m in (alone, two))
        assert [o.outputs for o in both] == [o.outputs for o in one]
    with pytest.raises(cajal.InvalidArgument, match="no experts"):
        Model(**settings, capacity_factor=1.5)
    with pytest.raises(cajal.InvalidArgument, match="tensor_parallel_size is -1"):
        Model(**settings, tensor_parallel_size=-1)


def test_caches_are_rounded_as_asked(golden_folder):
    sizes = {}
    for dtype in ("auto", "int8"):
        with Model(golden_folder, device="cpu", threads=1, max_model_len=64, kv_cache_dtype=dtype) as model:
            sizes[dtype] = model.info.kv_cache_bytes
            assert model.generate([1, 2, 3], SamplingParams(max_tokens=4, ignore_eos=True)).outputs[0].token_ids
    assert sizes["int8"] < sizes["auto"]
    with pytest.raises(ValueError, match="int3"):
        Model(golden_folder, kv_cache_dtype="int3")


ENDLESS = SamplingParams(max_tokens=2000, ignore_eos=True)


def test_leaving_a_stream_ends_it(model):
    for piece in model.stream("Once", ENDLESS):
        break
    gc.collect()
    start = time.monotonic()
    model.generate("Once", max_tokens=1)
    assert time.monotonic() - start < 5
    assert piece.finish_reason is None


def test_ctrl_c_ends_a_call(model):
    threading.Timer(0.2, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        model.generate(["Once"] * 16, SamplingParams(max_tokens=2000, ignore_eos=True, n=16))
    assert len(model.generate("Once", max_tokens=2, ignore_eos=True).outputs[0].token_ids) == 2


def test_threads_get_what_they_would_get_alone(model):
    prompts = ["one", "two words", "and three of them"]
    alone = [model.generate(p, max_tokens=10).outputs for p in prompts]
    got = {}
    threads = [threading.Thread(target=lambda i=i: got.update({i: model.generate(prompts[i % 3], max_tokens=10).outputs}))
               for i in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got[i] for i in range(9)] == alone * 3


def test_closing_ends_what_runs(text_folder):
    model = Model(text_folder, threads=1)
    outputs = []
    thread = threading.Thread(target=lambda: outputs.append(model.generate("Once", ENDLESS)))
    thread.start()
    time.sleep(0.1)
    model.close()
    thread.join()
    model.close()
    assert outputs[0].outputs[0].finish_reason in ("aborted", "length")
    with pytest.raises(ValueError, match="closed"):
        model.generate("x")


def test_chat(model):
    conversation = [{"role": "user", "content": "Hi <|im_end|>"}]
    text = model.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    assert text.startswith("<|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\n")
    assert "</think>" in text
    ids = model.apply_chat_template(conversation, add_generation_prompt=True)
    assert ids.count(151645) == 1
    output = model.chat(conversation, max_tokens=3)
    assert output.prompt_token_ids == ids
    assert output.outputs == model.generate(ids, max_tokens=3).outputs


def test_names_of_vllm(text_folder):
    llm = LLM(str(text_folder), threads=1)
    params = SamplingParams(temperature=0.8, top_p=0.95, max_tokens=4, seed=2)
    outputs = llm.generate(["Once", "upon"], params)
    assert [o.prompt for o in outputs] == ["Once", "upon"]
    assert all(o.finished and o.outputs[0].index == 0 for o in outputs)
    assert llm.generate("Once", params)[0].outputs == outputs[0].outputs
    ids = [o.prompt_token_ids for o in outputs]
    assert [o.outputs for o in llm.generate(prompt_token_ids=ids, sampling_params=params)] == [o.outputs for o in outputs]
    with pytest.raises(ValueError, match="either"):
        llm.generate()
    messages = [{"role": "user", "content": "Hi"}]
    answers = llm.chat([messages, messages], params, chat_template_kwargs={"enable_thinking": False})
    assert answers[0].outputs == answers[1].outputs == llm.chat(messages, params, chat_template_kwargs={
        "enable_thinking": False})[0].outputs
    assert llm.get_default_sampling_params() == SamplingParams()


def test_log_levels():
    cajal.set_log_level("error")
    cajal.set_log_level("warning")
    with pytest.raises(ValueError, match="loud"):
        cajal.set_log_level("loud")


def test_tells_what_an_answer_cost(model):
    prompt = list(range(500, 700))
    first = model.generate(prompt, max_tokens=2, ignore_eos=True, cache_salt="tenant")
    m = first.outputs[0].metrics
    assert m.cached_tokens == first.num_cached_tokens == 0
    assert 0 <= m.queue_seconds < m.ttft_seconds < m.e2e_seconds
    again = model.generate(prompt, max_tokens=2, ignore_eos=True, cache_salt="tenant")
    assert again.num_cached_tokens == 192
    assert again.outputs == first.outputs
    assert model.generate(prompt, max_tokens=2, ignore_eos=True, cache_salt="another").num_cached_tokens == 0
    pieces = list(model.stream(prompt, max_tokens=3, ignore_eos=True, cache_salt="tenant"))
    assert [p.metrics is None for p in pieces] == [True] * (len(pieces) - 1) + [False]
    assert pieces[-1].metrics.cached_tokens == 192


def test_a_timeout_ends_a_request_with_what_it_has(model):
    output = model.generate("Once", ENDLESS, timeout_ms=0)
    assert output.outputs[0].finish_reason == "timeout"
    assert not output.finished
    assert output.outputs[0].metrics.ttft_seconds is None
    with pytest.raises(ValueError, match="timeout_ms is -1"):
        model.generate("Once", timeout_ms=-1)


def test_a_request_joins_those_that_run(model):
    running = model.stream("Once", ENDLESS, priority=5)
    next(running)
    assert len(model.generate("upon", max_tokens=3, ignore_eos=True).outputs[0].token_ids) == 3
    assert next(running).finish_reason is None
    running.close()


def test_counts(model):
    def value(name):
        lines = [line for line in model.metrics_text().splitlines() if line.startswith(name + "{")]
        assert len(lines) == 1
        return float(lines[0].rsplit(" ", 1)[1])

    before = value("vllm:generation_tokens_total")
    model.generate("Once", max_tokens=5, ignore_eos=True)
    assert value("vllm:generation_tokens_total") == before + 5


def test_guesses_change_no_answer(golden_folder, tmp_path):
    prompts, params = [[1, 2, 3, 1, 2, 3, 1], [7] * 9], SamplingParams(max_tokens=12, ignore_eos=True)
    settings = {"threads": 1, "max_model_len": 128}
    with Model(golden_folder, enable_prefix_caching=False, **settings) as plain:
        expected = [o.outputs for o in plain.generate(prompts, params)]
        assert 'enable_prefix_caching="False"' in plain.metrics_text()
        assert "spec_decode" not in plain.metrics_text()
    for guessing in ({"prompt_lookup_num_tokens": 3}, {"assistant_model": golden_folder, "num_assistant_tokens": 2}):
        with Model(golden_folder, trace_file=tmp_path / "trace.json", **guessing, **settings) as model:
            assert [o.outputs for o in model.generate(prompts, params)] == expected
            assert "vllm:spec_decode_num_drafts_total" in model.metrics_text()
        assert json.loads((tmp_path / "trace.json").read_text())
    with pytest.raises(ValueError, match="assistant_model.*prompt_lookup_num_tokens"):
        Model(golden_folder, assistant_model=golden_folder, prompt_lookup_num_tokens=3)
