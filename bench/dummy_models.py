"""Shapes of Qwen3 models to measure with, as the config.json of each and as a GGUF with random weights."""
import random
import struct

VOCAB = 151936
# vocabulary, hidden, layers, heads, kv heads, head_dim, intermediate, tied, (experts, chosen, their intermediate)
SHAPES = {
    "tiny": (VOCAB, 256, 2, 4, 2, 64, 512, True, None),
    "0.6b": (VOCAB, 1024, 28, 16, 8, 128, 3072, True, None),
    # A quarter of 0.6b in everything that a token reads: for depths that would take the peers an hour to fill.
    "0.6b-quarter": (VOCAB // 4, 1024, 7, 16, 8, 128, 3072, True, None),
    "1.7b": (VOCAB, 2048, 28, 16, 8, 128, 6144, True, None),
    "4b": (VOCAB, 2560, 36, 32, 8, 128, 9728, True, None),
    "8b": (VOCAB, 4096, 36, 32, 8, 128, 12288, False, None),
    "moe-small": (VOCAB, 1024, 12, 16, 4, 128, 3072, False, (64, 8, 384)),
}


def config_of(shape):
    vocab, hidden, layers, heads, kv, dim, inner, tied, experts = SHAPES[shape]
    config = {
        "model_type": "qwen3_moe" if experts else "qwen3", "vocab_size": vocab, "hidden_size": hidden,
        "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv, "head_dim": dim, "rms_norm_eps": 1e-6, "rope_theta": 1000000,
        "max_position_embeddings": 40960, "tie_word_embeddings": tied, "torch_dtype": "bfloat16",
        "hidden_act": "silu", "attention_bias": False,
        "architectures": ["Qwen3MoeForCausalLM" if experts else "Qwen3ForCausalLM"]}
    if experts:
        count, chosen, inside = experts
        config.update(num_experts=count, num_experts_per_tok=chosen, moe_intermediate_size=inside,
                      norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[])
    return config


class GgufWriter:
    """A GGUF of version 3: metadata, the list of tensors, and their data behind each other, 32 bytes aligned."""
    U32, F32, STRING = 4, 6, 8
    F32_TENSOR, BF16_TENSOR = (0, 4), (30, 2)

    def __init__(self):
        self.metadata, self.tensors = [], []

    @staticmethod
    def string(text):
        data = text.encode()
        return struct.pack("<Q", len(data)) + data

    def put(self, key, value):
        if isinstance(value, str):
            body = struct.pack("<I", self.STRING) + self.string(value)
        elif isinstance(value, float):
            body = struct.pack("<If", self.F32, value)
        else:
            body = struct.pack("<II", self.U32, value)
        self.metadata.append(self.string(key) + body)

    def tensor(self, name, shape, kind):
        """shape: outermost first, as in PyTorch; the file has them the other way round."""
        self.tensors.append((name, shape, kind))

    def write(self, path):
        noise = random.Random(0)
        # bf16 numbers of magnitude 2^-7..2^-5 and either sign, repeated: what they are does not change the speed.
        block = struct.pack("<1048576H", *(noise.choice((0x3C00, 0xBC00)) | noise.randrange(256)
                                           for _ in range(1 << 20)))
        ones = struct.pack("<f", 1.0) * (1 << 16)
        head, offset = b"", 0
        for name, shape, (code, size) in self.tensors:
            count = 1
            for n in shape:
                count *= n
            head += self.string(name) + struct.pack("<I", len(shape))
            head += b"".join(struct.pack("<Q", n) for n in reversed(shape)) + struct.pack("<IQ", code, offset)
            offset += (count * size + 31) // 32 * 32
        with open(path, "wb") as file:
            file.write(b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.metadata)))
            file.write(b"".join(self.metadata) + head)
            file.write(b"\0" * (-file.tell() % 32))
            for _, shape, kind in self.tensors:
                left = kind[1]
                for n in shape:
                    left *= n
                padding = -left % 32
                source = ones if kind == self.F32_TENSOR else block
                while left:
                    left -= file.write(source[:left])
                file.write(b"\0" * padding)


def write_gguf(shape, path):
    vocab, hidden, layers, heads, kv, dim, inner, tied, experts = SHAPES[shape]
    name = "qwen3moe" if experts else "qwen3"
    g = GgufWriter()
    g.put("general.architecture", name)
    for key, value in {"block_count": layers, "context_length": 40960, "embedding_length": hidden,
                       "feed_forward_length": inner, "attention.head_count": heads, "attention.head_count_kv": kv,
                       "attention.key_length": dim, "attention.value_length": dim, "vocab_size": vocab,
                       "rope.freq_base": 1e6, "attention.layer_norm_rms_epsilon": 1e-6}.items():
        g.put(f"{name}.{key}", value)
    if experts:
        g.put(f"{name}.expert_count", experts[0])
        g.put(f"{name}.expert_used_count", experts[1])
        g.put(f"{name}.expert_feed_forward_length", experts[2])
    g.put("tokenizer.ggml.model", "no_vocab")
    weight, norm = g.BF16_TENSOR, g.F32_TENSOR
    g.tensor("token_embd.weight", (vocab, hidden), weight)
    g.tensor("output_norm.weight", (hidden,), norm)
    if not tied:
        g.tensor("output.weight", (vocab, hidden), weight)
    for layer in range(layers):
        block = f"blk.{layer}."
        for key, dims in (("attn_norm", (hidden,)), ("ffn_norm", (hidden,)), ("attn_q_norm", (dim,)),
                          ("attn_k_norm", (dim,))):
            g.tensor(block + key + ".weight", dims, norm)
        matrices = [("attn_q", (heads * dim, hidden)), ("attn_k", (kv * dim, hidden)), ("attn_v", (kv * dim, hidden)),
                    ("attn_output", (hidden, heads * dim))]
        if experts:
            count, _, inside = experts
            g.tensor(block + "ffn_gate_inp.weight", (count, hidden), norm)
            matrices += [("ffn_gate_exps", (count, inside, hidden)), ("ffn_up_exps", (count, inside, hidden)),
                         ("ffn_down_exps", (count, hidden, inside))]
        else:
            matrices += [("ffn_gate", (inner, hidden)), ("ffn_up", (inner, hidden)), ("ffn_down", (hidden, inner))]
        for key, dims in matrices:
            g.tensor(block + key + ".weight", dims, weight)
    g.write(path)
