"""Writes a small Qwen3 with random weights and the real tokenizer, for tests that need text."""
import json
import pathlib
import random
import shutil

CONFIG = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 151936, "hidden_size": 16,
    "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
    "hidden_act": "silu", "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "rope_theta": 1000000,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "eos_token_id": 151645,
}


def random_bf16(generator, count):
    """Numbers of either sign between 2**-7 and 2**-5, whose bits are random."""
    data = bytearray(2 * count)
    data[0::2] = generator.randbytes(count)
    data[1::2] = generator.randbytes(count).translate(bytes(0x3c if b < 128 else 0xbc for b in range(256)))
    return bytes(data)


def write_text_model(folder, tokenizer_folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    c = CONFIG
    hidden, inner, vocab = c["hidden_size"], c["intermediate_size"], c["vocab_size"]
    q, kv = c["num_attention_heads"] * c["head_dim"], c["num_key_value_heads"] * c["head_dim"]
    shapes = {"model.embed_tokens.weight": [vocab, hidden], "model.norm.weight": [hidden], "lm_head.weight": [vocab, hidden]}
    layer = {"input_layernorm": [hidden], "post_attention_layernorm": [hidden], "self_attn.q_norm": [c["head_dim"]],
             "self_attn.k_norm": [c["head_dim"]], "self_attn.q_proj": [q, hidden], "self_attn.k_proj": [kv, hidden],
             "self_attn.v_proj": [kv, hidden], "self_attn.o_proj": [hidden, q], "mlp.gate_proj": [inner, hidden],
             "mlp.up_proj": [inner, hidden], "mlp.down_proj": [hidden, inner]}
    for i in range(c["num_hidden_layers"]):
        shapes.update({f"model.layers.{i}.{name}.weight": shape for name, shape in layer.items()})
    generator = random.Random(0)
    header, blobs, offset = {}, [], 0
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) == 2 else 1)
        # Norms of one keep the numbers of all sizes alive.
        blobs.append(random_bf16(generator, count) if len(shape) == 2 else b"\x80\x3f" * count)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + 2 * count]}
        offset += 2 * count
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for blob in blobs:
            file.write(blob)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(pathlib.Path(tokenizer_folder) / name, folder / name)
    return folder
