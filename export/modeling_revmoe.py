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
import sys

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

    def join(self, network, width, layer, first, last):
        grid = network["stream"] != "float32"
        self.streams = GridStreams(network["streamFractionBits"]) if grid else FloatStreams()
        self.coupling = network["coupling"]
        self.gamma = network.get("gamma")
        self.is_first, self.is_last = layer == first, layer == last
        # Of the blocks that momentum passes as one function, the last one moves the streams.
        self.moves = self.is_last or (layer - first + 1) % network.get("blocksPerStep", 1) == 0
        self.sharing = network.get("adapters")
        if self.sharing:
            names = ["up", "down"] if self.sharing == "layer" else ["up_1", "down_1", "up_2", "down_2"]
            self.adapters = nn.ModuleDict(
                {n: nn.Linear(width // 2, width, False) if n.startswith("up") else nn.Linear(width, width // 2, False) for n in names}
            )
            # Latent attention makes keys and values of one projection; the delta rule makes rates and decays of what it makes keys of.
            for name in ("k_proj", "v_proj", "kv_a_proj_with_mqa", "in_proj_ba", "in_proj_b", "in_proj_a"):
                if hasattr(self.mixer, name):
                    getattr(self.mixer, name).register_forward_pre_hook(self.read_memory)
            for name in ("in_proj_qkv", "in_proj_qkvz"):
                if hasattr(self.mixer, name):
                    getattr(self.mixer, name).register_forward_hook(self.mix_memory)

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

    @property
    def mixer(self):
        return self.self_attn if hasattr(self, "self_attn") else self.linear_attn

    def attend(self, x):
        hidden = self.normed(self.input_layernorm, x)
        if not hasattr(self, "self_attn"):
            return self.scaled(self.mixer(hidden_states=hidden, **self.linear_context()))
        y, self.seen["attentions"] = self.mixer(hidden_states=hidden, **self.context)[:2]
        return self.scaled(y)

    def linear_context(self):
        """What a delta rule takes of the context: positions are none of its own. In transformers 4 its cache has another name."""
        takes = inspect.signature(self.mixer.forward).parameters
        if "cache_params" not in takes:
            return {k: v for k, v in self.context.items() if not k.startswith("position_")}
        renamed = {**self.context, "cache_params": self.context.get("past_key_values")}
        return {k: v for k, v in renamed.items() if k in takes}

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

    def mix_memory(self, projection, _inputs, output):
        """Of a delta rule's projection that makes queries, and maybe gates, beside keys and values: these are of the memory."""
        mixer = self.mixer
        # Queries, keys, values and gates follow one another, in Qwen3-Next for each key head.
        groups = mixer.num_k_heads if hasattr(mixer, "in_proj_qkvz") else 1
        keys, values = mixer.key_dim // groups, mixer.value_dim // groups
        row = torch.arange(output.shape[-1] // groups, device=output.device)
        of_memory = ((row >= keys) & (row < 2 * keys + values)).repeat(groups)
        return torch.where(of_memory, nn.functional.linear(self.memory, projection.weight), output)


def reversible(layer_class):
    # The name stays, since transformers finds the layers that must not be split over devices by it.
    body = {"returns_tuple": "output_attentions" in inspect.signature(layer_class.forward).parameters}
    return type(layer_class.__name__, (ReversibleLayer, layer_class), body)


class ReversibleNetwork:
    """Mixed into a family's model. Where it also sees, its text model is one of several parts."""

    def __init__(self, config):
        super().__init__(config)
        text, network = config.get_text_config(), config.revmoe
        layers = getattr(self.model, "language_model", self.model).layers
        first = network.get("ordinaryFirst", 0)
        last = text.num_hidden_layers - network.get("ordinaryLast", 0) - 1
        layer_class = reversible(type(layers[first]))
        for i in range(first, last + 1):
            layers[i].__class__ = layer_class
            layers[i].join(network, text.hidden_size, i, first, last)


def __getattr__(name):
    """RevMoeX, where X is what transformers calls a family's settings or its model: a class of ours that extends X, made when it is asked for."""
    own = getattr(transformers, name.removeprefix("RevMoe"), None) if name.startswith("RevMoe") else None
    if own is None:
        raise AttributeError(f"transformers {transformers.__version__} has nothing that {name} could extend; a newer one may have it")
    if name.endswith("Config"):
        body, bases = {"model_type": f"revmoe_{own.model_type}"}, (own,)
        if register_checkpoint_conversion_mapping and (mapping := get_checkpoint_conversion_mapping(own.model_type)):
            register_checkpoint_conversion_mapping(body["model_type"], mapping, overwrite=True)
    else:
        body, bases = {"config_class": getattr(sys.modules[__name__], f"RevMoe{own.config_class.__name__}")}, (ReversibleNetwork, own)
    globals()[name] = type(name, bases, {"__module__": __name__, **body})
    return globals()[name]
