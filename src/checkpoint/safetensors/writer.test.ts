// Writing: what is written is read back bit for bit, in the layout of the format; a full disk is told with its figures.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { UserError } from "../../errors.js";
import { ledger, resetPeak } from "../../torch/memory.js";
import { narrow, normal_, transpose } from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { type DType, DTYPES, dtype, fromArray, item, shape, type Tensor, toArray, zeros } from "../../torch/tensor.js";
import { openSafetensors } from "./file.js";
import { type TensorSource, writeSafetensors } from "./writer.js";
import { withFolder } from "../testing-model.js";
import { sameBits } from "../verify.js";

const sourceOf = (name: string, tensor: Tensor): TensorSource => ({
  name,
  dtype: dtype(tensor),
  shape: shape(tensor),
  read: () => tensor,
});

test("every dtype, scalars, empty and transposed tensors come back bit for bit, aligned, from a header of whole words", () =>
  withFolder((folder) =>
    scope(() => {
      const path = join(folder, "a.safetensors");
      const sources = (Object.keys(DTYPES) as DType[]).map((type, i) =>
        sourceOf(type, fromArray([0, 1, i % 2], [3], type)),
      );
      const matrix = fromArray([1, 2, 3, 4, 5, NaN], [2, 3], "bfloat16");
      sources.push(
        sourceOf("scalar", fromArray([-2.5], [], "float32")),
        sourceOf("empty", zeros([0, 4], "float32")),
        sourceOf("transposed", transpose(matrix, 0, 1)),
        sourceOf("12", matrix),
      );
      writeSafetensors(path, sources, { format: "pt" });
      const file = openSafetensors(path);
      assert.deepEqual(file.metadata, { format: "pt" });
      assert.deepEqual([...file.entries.keys()].sort(), sources.map(({ name }) => name).sort());
      for (const { name, read } of sources) {
        assert.ok(sameBits(file.read(name), read()), name);
        const { begin, dtype } = file.entries.get(name) ?? assert.fail(name);
        assert.equal(begin % DTYPES[dtype], 0, `${name} is aligned`);
      }
      assert.deepEqual(toArray(file.read("transposed")).slice(0, 4), [1, 4, 2, 5]);
      file.close();
      assert.equal(readFileSync(path).readBigUInt64LE() % 8n, 0n);
    }),
  ));

test("tensors pass through one at a time, also those longer than the buffer", () =>
  withFolder((folder) => {
    const path = join(folder, "a.safetensors");
    const elements = 3_000_001;
    const bytes = elements * 4;
    const make = (): Tensor => normal_(zeros([elements], "float32"), 0, 1);
    const lastOf = (tensor: Tensor): number => item(narrow(tensor, 0, elements - 1, 1));
    const seen: number[] = [];
    const sources = ["x", "y", "z"].map(
      (name): TensorSource => ({
        name,
        dtype: "float32",
        shape: [elements],
        read: () => {
          const made = make();
          seen.push(lastOf(made));
          return made;
        },
      }),
    );
    const before = ledger();
    resetPeak();
    writeSafetensors(path, sources);
    assert.equal(ledger().peakBytes - before.liveBytes, bytes, "one tensor at a time");
    assert.equal(ledger().tensors, before.tensors);
    const file = openSafetensors(path);
    scope(() => {
      assert.deepEqual(
        ["x", "y", "z"].map((name) => lastOf(file.read(name))),
        seen,
      );
      assert.equal(new Set(seen).size, 3);
    });
    file.close();
  }));

test("a full disk names the file, the bytes needed and the bytes free", {
  skip: existsSync("/dev/full") ? false : "this system has no /dev/full",
}, () => {
  scope(() => {
    const source = sourceOf("x", zeros([1024], "float32"));
    assert.throws(
      () => writeSafetensors("/dev/full", [source]),
      (failure: Error) => {
        assert.ok(failure instanceof UserError, String(failure));
        assert.match(
          failure.message,
          /^\/dev\/full: cannot be written: the disk is full \(4\.0\d KiB needed, 0 B written, .+ free\)\. Free some space/,
        );
        return true;
      },
    );
  });
});

test("a failure of the tensor's own is passed on as it is, and a wrong announcement is a bug", () =>
  withFolder((folder) =>
    scope(() => {
      const path = join(folder, "a.safetensors");
      const boom = {
        ...sourceOf("x", zeros([2], "float32")),
        read: () => {
          throw new RangeError("boom");
        },
      };
      assert.throws(() => writeSafetensors(path, [boom]), /^RangeError: boom/);
      assert.throws(
        () => writeSafetensors(path, [{ ...boom, read: () => zeros([3], "float32") }]),
        /internal: x was announced as float32 \[2\] and came as float32 \[3\]/,
      );
      assert.throws(() => writeSafetensors(path, [boom, boom]), /internal: two tensors of one name/);
    }),
  ));
