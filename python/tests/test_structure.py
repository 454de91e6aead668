import json
import re

import pytest

import cajal
from cajal import SamplingParams, StructuredOutputsParams


def text_of(model, **fields):
    try:
        params = SamplingParams(max_tokens=60, structured_outputs=StructuredOutputsParams(**fields))
        return model.generate("Once", params).text
    except cajal.Unsupported as e:
        pytest.skip(str(e))


def test_answers_follow_a_structure(model):
    assert text_of(model, choice=["yes", "no", "né"]) in ("yes", "no", "né")
    assert re.fullmatch(r"\d{3}-[a-f]{2}", text_of(model, regex=r"\d{3}-[a-f]{2}"))
    assert text_of(model, grammar='root ::= "a" [bc] "d"') in ("abd", "acd")
    assert isinstance(json.loads(text_of(model, json={"type": "boolean"})), bool)
    tag = {"type": "structural_tag", "format": {"type": "const_string", "value": "<ok>"}}
    assert text_of(model, structural_tag=tag) == "<ok>"


def test_a_structure_that_makes_no_sense_is_refused(model):
    text_of(model, choice=["x"])
    for fields, words in (({"json": {"not": {}}}, "'not'"), ({"regex": "("}, "parenthesis"), ({"choice": ["a"], "regex": "b"}, "2 ways")):
        with pytest.raises(cajal.InvalidArgument, match=words):
            text_of(model, **fields)


def test_biases_and_least_lengths(model):
    assert model.generate("Once", max_tokens=3, logit_bias={17: 100.0}).outputs[0].token_ids == [17, 17, 17]
    eos = model.info.eos_token_ids[0]
    assert model.generate("Once", max_tokens=5, logit_bias={eos: 100.0}).outputs[0].token_ids == [eos]
    ids = model.generate("Once", max_tokens=5, logit_bias={eos: 100.0}, min_tokens=3).outputs[0].token_ids
    assert len(ids) == 4 and ids[3] == eos and eos not in ids[:3]
    for wrong in ({"logit_bias": {17: 101.0}}, {"logit_bias": {10**6: 1.0}}, {"min_tokens": 4}, {"thinking_token_budget": -1}):
        with pytest.raises(cajal.InvalidArgument, match=next(iter(wrong))):
            model.generate("Once", max_tokens=3, **wrong)
