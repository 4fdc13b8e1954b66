"""The reversible networks of RevMoE in Hugging Face transformers (4.57 and 5), loaded with trust_remote_code.

The attention and feed-forward modules are the family's own; only how the residual streams pass the blocks is ours. With F
the attention branch, G the feed-forward branch and f both, as config.json's `revmoe` says:
    momentum  v' = gamma v + (1 - gamma) f(p);  p' = p + v';  in the end p + v gamma / (1 - gamma)
    additive  a' = a + F(b);  b' = b + G(a');  in the end (a + b) / 2
    revffn    halves y1 = x1 + F(queries from x1; keys and values from x2), y2 = x2 + G(y1), through adapters
Streams on an integer grid are float64 tensors of whole numbers here, so every sum is exact; rounding passes gradients on.
A key/value cache works as in the family, for each attention module is called once. Limits: between blocks there are streams,
so `output_hidden_states` shows those, stacked; float64 must exist on the device.
"""
import inspect

import torch
import transformers
from torch import nn

try:  # transformers 5 fuses experts as it loads; it has to be told that these families are read like those they extend.
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping, register_checkpoint_conversion_mapping
except ImportError:
    register_checkpoint_conversion_mapping = None


class FloatStreams:
    def from_float(self, y):
        return y.float()

    def to_float(self, stream):
        return stream

    def scale(self, stream, gamma):
        return stream * gamma


class GridStreams:
    """Multiples of 2^-bits, counted."""

    def __init__(self, bits):
        self.unit = 2.0**bits

    def from_float(self, y):
        return rounded(torch.round, y.double() * self.unit)

    def to_float(self, stream):
        return (stream / self.unit).float()

    def scale(self, stream, gamma):
        down = rounded(torch.floor, stream * abs(gamma))
        return -down if gamma < 0 else down


def rounded(rounding, value):
    """rounding(value), with the gradient of value."""
    return value + (rounding(value) - value).detach()


class ReversibleLayer:
    """Mixed into a family's decoder layer. Takes and returns streams, stacked in front; the first layer takes the hidden
    state, and the last returns it."""

    def join(self, config, layer, first, last):
        network = config.revmoe
        grid = network["stream"] != "float32"
        self.streams = GridStreams(network["streamFractionBits"]) if grid else FloatStreams()
        self.coupling = network["coupling"]
        self.gamma = network.get("gamma")
        self.is_first, self.is_last = layer == first, layer == last
        # Of the blocks that momentum passes as one function, the last one moves the streams.
        self.moves = self.is_last or (layer - first + 1) % network.get("blocksPerStep", 1) == 0
        self.sharing = network.get("adapters")
        if self.sharing:
            width = config.hidden_size
            names = ["up", "down"] if self.sharing == "layer" else ["up_1", "down_1", "up_2", "down_2"]
            self.adapters = nn.ModuleDict(
                {n: nn.Linear(width // 2, width, False) if n.startswith("up") else nn.Linear(width, width // 2, False) for n in names}
            )
            # Latent attention makes keys and values of one projection.
            for name in ("k_proj", "v_proj", "kv_a_proj_with_mqa"):
                if hasattr(self.self_attn, name):
                    getattr(self.self_attn, name).register_forward_pre_hook(self.read_memory)

    def forward(self, hidden_states, **context):
        router_logits = context.pop("output_router_logits", False)
        self.context, self.seen = context, {}
        streams = self.begin(hidden_states) if self.is_first else hidden_states.unbind(0)
        streams = getattr(self, self.coupling)(*streams)
        result = self.end(*streams) if self.is_last else torch.stack(streams)
        seen, self.context, self.seen = self.seen, None, None
        if not self.returns_tuple:
            return result
        attentions = (seen["attentions"],) if context.get("output_attentions") else ()
        return (result, *attentions, *((seen["router_logits"],) if router_logits else ()))

    def begin(self, x):
        s = self.streams.from_float(x)
        if self.coupling == "momentum":
            return s, torch.zeros_like(s)
        return (s, s) if self.coupling == "additive" else s.chunk(2, -1)

    def end(self, *streams):
        one, other = map(self.streams.to_float, streams)
        if self.coupling == "momentum":
            hidden = other * (self.gamma / (1 - self.gamma)) + one
        else:
            hidden = (one + other) * 0.5 if self.coupling == "additive" else torch.cat([one, other], -1)
        return hidden.to(self.dtype)

    def momentum(self, p, v, *before):
        x = self.streams.to_float(p)
        f = before[0].float() if before else torch.zeros_like(x)
        f = f + self.attend(x + f)
        f = f + self.feed_forward(x + f)
        if not self.moves:
            return p, v, f.to(p.dtype)
        v = self.streams.scale(v, self.gamma) + self.streams.from_float(f * (1 - self.gamma))
        return p + v, v

    def additive(self, a, b):
        to_float, from_float = self.streams.to_float, self.streams.from_float
        a = a + from_float(self.attend(to_float(b)))
        return a, b + from_float(self.feed_forward(to_float(a)))

    def revffn(self, x1, x2):
        to_float, from_float = self.streams.to_float, self.streams.from_float
        self.memory = self.normed(self.input_layernorm, self.adapter("up", 2, to_float(x2)))
        y1 = x1 + from_float(self.adapter("down", 1, self.attend(self.adapter("up", 1, to_float(x1)))).float())
        self.memory = None
        y2 = self.adapter("down", 2, self.feed_forward(self.adapter("up", 1, to_float(y1)))).float()
        return y1, x2 + from_float(y2)

    @property
    def dtype(self):
        return self.input_layernorm.weight.dtype

    def normed(self, norm, x):
        # Streams are wider than the weights may be: the norm sees them as they are.
        return norm(x).to(self.dtype)

    def attend(self, x):
        y, self.seen["attentions"] = self.self_attn(hidden_states=self.normed(self.input_layernorm, x), **self.context)[:2]
        return self.scaled(y)

    def feed_forward(self, x):
        module = self.mlp if hasattr(self, "mlp") else self.block_sparse_moe
        y = module(self.normed(self.post_attention_layernorm, x))
        y, self.seen["router_logits"] = y[:2] if isinstance(y, tuple) else (y, None)
        return self.scaled(y)

    def scaled(self, y):
        # Granite multiplies what a branch adds.
        return y.float() * getattr(self, "residual_multiplier", 1.0)

    def adapter(self, part, stream, x):
        return self.adapters[part if self.sharing == "layer" else f"{part}_{stream}"](x.to(self.dtype))

    def read_memory(self, _projection, _inputs):
        return (self.memory,)


def reversible(layer_class):
    # The name stays, since transformers finds the layers that must not be split over devices by it.
    body = {"returns_tuple": "output_attentions" in inspect.signature(layer_class.forward).parameters}
    return type(layer_class.__name__, (ReversibleLayer, layer_class), body)


class ReversibleNetwork:
    """Mixed into a family's model for causal language modelling."""

    def __init__(self, config):
        super().__init__(config)
        first = config.revmoe.get("ordinaryFirst", 0)
        last = config.num_hidden_layers - config.revmoe.get("ordinaryLast", 0) - 1
        layer_class = reversible(type(self.model.layers[first]))
        for i in range(first, last + 1):
            self.model.layers[i].__class__ = layer_class
            self.model.layers[i].join(config, i, first, last)


# The stems of the names of each family's classes; versions of transformers from before a family lack it.
FAMILIES = {
    "qwen2_moe": "Qwen2Moe",
    "qwen3_moe": "Qwen3Moe",
    "mixtral": "Mixtral",
    "olmoe": "Olmoe",
    "granitemoe": "GraniteMoe",
    "glm4_moe": "Glm4Moe",
    "minimax_m2": "MiniMaxM2",
    "ernie4_5_moe": "Ernie4_5_Moe",
    "deepseek_v3": "DeepseekV3",
    "deepseek_v2": "DeepseekV2",
    "glm4_moe_lite": "Glm4MoeLite",
    "gpt_oss": "GptOss",
}


def subclass(name, *bases, **body):
    globals()[name] = type(name, bases, {"__module__": __name__, **body})
    return globals()[name]


for family, stem in FAMILIES.items():
    if not hasattr(transformers, f"{stem}Config"):
        continue
    config_class = subclass(f"RevMoe{stem}Config", getattr(transformers, f"{stem}Config"), model_type=f"revmoe_{family}")
    subclass(f"RevMoe{stem}ForCausalLM", ReversibleNetwork, getattr(transformers, f"{stem}ForCausalLM"), config_class=config_class)
    if register_checkpoint_conversion_mapping:
        register_checkpoint_conversion_mapping(config_class.model_type, get_checkpoint_conversion_mapping(family), overwrite=True)
