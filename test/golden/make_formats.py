"""Makes test/golden/formats: the same rows in every file format, written by pyarrow and datasets, and as JSON lines what a
reader must give back. Needs pyarrow, datasets and zstandard (or the zstd of pyarrow).

python3 test/golden/make_formats.py
"""
import decimal
import gzip
import json
import shutil
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq

HERE = Path(__file__).parent / "formats"

TOOLS = [
    {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}},
    {"type": "function", "function": {"name": "price", "parameters": {"type": "object", "properties": {"sku": {"type": "integer"}}}}},
]


def call(name, **arguments):
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def rows():
    """Unlike rows: fields that some have and others do not, unusual letters, whole floats, integers beyond 2^53."""
    yield {
        "messages": [
            {"role": "user", "content": "Wie ist das Wetter in Köln? 🌧"},
            {"role": "assistant", "tool_calls": [call("weather", city="Köln", days=2.0)]},
            {"role": "tool", "name": "weather", "content": "rain"},
            {"role": "assistant", "content": "Regen,\n\"viel\"."},
        ],
        "tools": TOOLS,
        "id": 9007199254740993,
        "score": 10.0,
    }
    yield {
        "messages": [
            {"role": "user", "content": "price?"},
            {"role": "assistant", "tool_calls": [call("price", sku=7), call("weather", city="Rome")]},
            {"role": "tool", "content": "3"},
            {"role": "assistant", "content": "3"},
        ],
        "id": 2,
        "score": 0.1,
    }
    for i in range(40):
        yield {
            "messages": [{"role": "user", "content": f"count to {i}" + " please" * (i % 7)}, {"role": "assistant", "content": " ".join(map(str, range(i)))}],
            "id": i + 3,
            "score": i / 4,
        }


def flat_rows():
    for i in range(40):
        yield {"prompt": f'What is {i}, "plus" one?\nSay it.', "completion": f"{i + 1}, of course; é", "note": "" if i % 3 else f"n{i}"}


def types():
    """A column of each type that a table may have, with nulls in it, and empty lists."""
    return pa.table(
        {
            "large": pa.array(["a", "é", None, "d", ""], pa.large_string()),
            "words": pa.array(["x", "y", "x", None, "y"]).dictionary_encode(),
            "lists": pa.array([[[1, 2], [3]], [], None, [[]], [[4], None]], pa.list_(pa.list_(pa.int32()))),
            "large_lists": pa.array([["a"], [], None, ["b", "c"], ["d"]], pa.large_list(pa.string())),
            "pairs": pa.array([[1, 2]] * 5, pa.list_(pa.int64(), 2)),
            "flags": pa.array([True, False, None, True, False]),
            "halves": pa.array([1.5, 2.0, None, 0.25, -3.0], pa.float32()),
            "bytes": pa.array([1, 2, 3, None, 255], pa.uint8()),
            "unsigned": pa.array([1, 2**64 - 1, 3, None, 5], pa.uint64()),
            "map": pa.array([[("k", 1)], [("a", 2), ("b", 3)], None, [("z", 4)], [("z", 5)]], pa.map_(pa.string(), pa.int64())),
            "struct": pa.array([{"p": {"q": 1}}, {"p": None}, None, {"p": {"q": None}}, {"p": {"q": 2}}]),
            "structs": pa.array([[{"a": 1, "b": "x"}, {"a": None, "b": None}], [], None, [None], [{"a": 3, "b": None}]]),
            "nothing": pa.nulls(5),
            "decimal": pa.array([decimal.Decimal("1.50"), decimal.Decimal("-2.00"), None, decimal.Decimal("0.25"), decimal.Decimal("3.75")], pa.decimal128(10, 2)),
        }
    )


def without_nulls(value):
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        is_map = value and all(isinstance(item, tuple) for item in value)
        return dict(value) if is_map else [without_nulls(item) for item in value]
    return float(value) if isinstance(value, decimal.Decimal) else value


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir()
    nested, flat = list(rows()), list(flat_rows())
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in nested)
    (HERE / "nested.jsonl").write_text(lines, encoding="utf-8")
    (HERE / "flat.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in flat), encoding="utf-8")

    table = pa.Table.from_pylist(nested)
    for codec in ("snappy", "zstd", "gzip", "brotli", "lz4", "none"):
        pq.write_table(table, HERE / f"{codec}.parquet", compression=codec, row_group_size=25)
    pq.write_table(table, HERE / "pages.parquet", data_page_version="2.0", data_page_size=512, use_dictionary=False)
    with pa.OSFile(str(HERE / "stream.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=25)
    pa.feather.write_feather(table, HERE / "zstd.feather", compression="zstd")
    pa.feather.write_feather(table, HERE / "plain.feather", compression="uncompressed")
    every = types()
    pq.write_table(every, HERE / "types.parquet")
    with pa.OSFile(str(HERE / "types.arrow"), "wb") as sink, pa.ipc.new_stream(sink, every.schema) as writer:
        writer.write_table(every, max_chunksize=2)
    (HERE / "types.jsonl").write_text("".join(json.dumps(without_nulls(row), ensure_ascii=False) + "\n" for row in every.to_pylist()), encoding="utf-8")
    whole = datasets.Dataset(table)
    datasets.DatasetDict({"train": whole.select(range(30)), "test": whole.select(range(30, 42))}).save_to_disk(str(HERE / "saved"))

    import pandas

    frame = pandas.DataFrame(flat)
    frame.to_csv(HERE / "flat.csv", index=False)
    frame.to_csv(HERE / "flat.tsv", index=False, sep="\t")
    frame.to_csv(HERE / "semicolons.csv", index=False, sep=";")
    (HERE / "nested.json").write_text(json.dumps({"data": nested}, ensure_ascii=False, indent=1), encoding="utf-8")
    (HERE / "array.json").write_text(json.dumps(flat), encoding="utf-8")
    with gzip.GzipFile(HERE / "nested.jsonl.gz", "wb", mtime=0) as sink:
        sink.write(lines.encode())
    with pa.CompressedOutputStream(str(HERE / "nested.jsonl.zst"), "zstd") as sink:
        sink.write(lines.encode())


if __name__ == "__main__":
    main()
