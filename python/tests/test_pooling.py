import math

import pytest

import cajal
from cajal import LLM, Model


@pytest.fixture(scope="module")
def embedder(embedding_folder):
    with Model(embedding_folder / "dense", threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def reranker(embedding_folder):
    return LLM(embedding_folder / "reranker", threads=1)


def test_one_text_gives_one_vector_and_several_a_list(embedder):
    one = embedder.embed("some text")
    assert one.outputs.hidden_size == embedder.info.hidden_size
    assert math.hypot(*one.outputs.embedding) == pytest.approx(1, abs=1e-6)
    assert one.prompt_token_ids == embedder.encode("some text")
    assert embedder.embed(["some text", one.prompt_token_ids]) == [one, one]
    assert embedder.embed([]) == []


def test_prompts_and_dimensions(embedder):
    assert embedder.embed("x", instruction="Do") == embedder.embed("Instruct: Do\nQuery:x")
    assert embedder.embed("x", prompt_name="query") != embedder.embed("x")
    assert embedder.embed("x", dimensions=3).outputs.hidden_size == 3
    with pytest.raises(cajal.InvalidArgument, match="expected 1 to 32"):
        embedder.embed("x", dimensions=0)
    with pytest.raises(cajal.NotFound, match="passage"):
        embedder.embed("x", prompt_name="passage")
    with pytest.raises(cajal.InvalidArgument, match="token"):
        embedder.embed("q" * 1000)
    assert len(embedder.embed("q" * 1000, truncate=True).prompt_token_ids) == embedder.info.max_model_len


def test_a_vector_as_an_array(embedder):
    numpy = pytest.importorskip("numpy")
    vector = embedder.embed("x").outputs
    assert vector.numpy().dtype == numpy.float32
    assert vector.numpy().tolist() == vector.embedding


def test_the_names_of_vllm(embedding_folder, embedder):
    llm = LLM(embedding_folder / "dense", threads=1)
    assert llm.embed("x") == [embedder.embed("x")]
    assert llm.embed(["x", "y"], dimensions=2) == embedder.embed(["x", "y"], dimensions=2)


def test_ranks_and_scores(reranker):
    documents = ["is", "the query of yes", "", "the"]
    ranked = reranker.model.rerank("q", documents)
    assert sorted(d.index for d in ranked) == [0, 1, 2, 3]
    assert [d.relevance_score for d in ranked] == sorted((d.relevance_score for d in ranked), reverse=True)
    assert reranker.model.rerank("q", documents, top_n=2) == ranked[:2]
    scores = [s.outputs.score for s in reranker.score("q", documents)]
    assert [scores[d.index] for d in ranked] == [d.relevance_score for d in ranked]
    assert reranker.score(["q"] * 4, documents) == reranker.score("q", documents)
    with pytest.raises(ValueError, match="2 queries"):
        reranker.score(["q", "r"], documents)


def test_a_model_without_a_head_generates_nothing(embedding_folder):
    with Model(embedding_folder / "dense_untied", threads=1) as model:
        assert model.embed("x").outputs.hidden_size == 32
        with pytest.raises(cajal.Unsupported, match="no output head"):
            model.generate("x")
