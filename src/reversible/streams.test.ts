// The integer grid: rounding, the momentum step with its stored bits and back, range; by the kernels and by libtorch's operators, which give the
// same bits. Every coupling's inverse on toy branches is in coupling.test.ts.
import assert from "node:assert/strict";
import { test } from "node:test";

import { hasKernels, onReference } from "../torch/kernels/kernels.js";
import { cast, clone, copy_, mulScalar, normal_, random_ } from "../torch/ops.js";
import { setSeed } from "../torch/random.js";
import { scope } from "../torch/scope.js";
import { byteSize, type DType, dtype, fromArray, type Tensor, toArray, zeros } from "../torch/tensor.js";
import { bdia } from "./couplings/bdia.js";
import { GAMMAS } from "./couplings/gamma.js";
import { momentum } from "./couplings/momentum.js";
import { Range } from "./streams/range.js";
import {
  type Factor,
  floatStreams,
  gridStreams,
  packBits,
  type StreamFormat,
  storedBits,
  unpackBits,
} from "./streams.js";

const grid = gridStreams("int32", 16);
const GRIDS = [
  { type: "int32", format: grid },
  { type: "int32", format: gridStreams("int32", 3) },
  { type: "int64", format: gridStreams("int64", 32) },
] as const;

/** By the kernels, then by libtorch's operators. */
const bothWays = (fn: () => void): void => {
  scope(fn);
  onReference(() => scope(fn));
};

/** What `fn` gives by either, which must be the same. */
function same(fn: () => unknown): void {
  const [kernels, reference] = [scope(fn), onReference(() => scope(fn))];
  assert.deepEqual(kernels, reference);
}

const skip = process.env.REVMOE_KERNELS === "reference" && "nothing to compare with";
test("a CPU has the kernels that this compares with", { skip }, () => assert.ok(hasKernels("cpu")));

test("a float is rounded to the nearest multiple of 2^-16, ties to even", () => {
  bothWays(() => {
    const unit = 2 ** -16;
    const stream = grid.fromFloat(
      fromArray([0, 1, -1.5, 0.4 * unit, 0.6 * unit, 1.5 * unit, -2.5 * unit], [7], "float32"),
    );
    assert.equal(dtype(stream), "int32");
    assert.deepEqual(toArray(stream), [0, 65536, -98304, 0, 1, 2, -2]);
    assert.deepEqual(toArray(grid.toFloat(stream)), [0, 1, -1.5, 0, unit, 2 * unit, -2 * unit]);
  });
});

test("scaling drops m low bits towards minus infinity, and the bits bring every one back", () => {
  bothWays(() => {
    setSeed(1);
    const v = random_(zeros([64, 16], "int32"), -(2 ** 30), 2 ** 30);
    const [p, y] = [zeros([64, 16], "int32"), zeros([64, 16], "float32")];
    const values = toArray(v);
    for (const gamma of GAMMAS) {
      const bits = storedBits(gamma);
      const { streams, bits: packed } = grid.momentum([p, v], y, { gamma }, { wantBits: true });
      const scaled = values.map((value) => (gamma < 0 ? -(value >> bits) : value >> bits) + 0);
      for (const stream of streams) assert.deepEqual(toArray(stream), scaled, `gamma ${gamma}`);
      const slot = bits > 4 ? 8 : bits === 3 ? 4 : bits;
      assert.equal(packed === null ? 0 : byteSize(packed), (1024 * slot) / 8);
      assert.deepEqual(toArray(grid.momentumBack_(streams[1], y, packed, { gamma })), values);
    }
  });
});

test("packing is lossless for every width", () => {
  scope(() => {
    for (const bits of [1, 2, 3, 4, 5, 8]) {
      const values = Array.from({ length: 64 }, (_, i) => (i * 7) % 2 ** bits);
      const packed = packBits(
        fromArray(
          values.map((value) => value - 256),
          [8, 8],
          "int32",
        ),
        bits,
      );
      assert.deepEqual(toArray(unpackBits(packed, bits, [64], "int32")), values);
    }
  });
});

/** Streams up to the limit, and branch outputs of every size that fits, ties among them. */
function streamsAndBranch(format: StreamFormat, type: "int32" | "int64", size: number[], yType: DType) {
  const [most, fraction] = type === "int32" ? [2 ** 28, Number(format.name.split("/")[1])] : [2 ** 52, 32];
  const y = mulScalar(normal_(zeros(size, "float32"), 0, 1), 4);
  const values = toArray(y).map((value, i) => (i % 5 === 0 ? (i - 40) * 2 ** -(fraction + 1) : value));
  return {
    p: random_(zeros(size, type), -most, most),
    v: random_(zeros(size, type), -most, most),
    y: cast(fromArray(values, size, "float32"), yType),
  };
}

const SIZES = [
  [1, 8],
  [3, 24],
  [37, 40],
];
/** So that bits of every width fill more than a chunk. */
const LARGE = [2, 16_400];
const LARGE_FOR = new Set([-1, -0.5, -0.25, 0.0625, -1 / 256]);

test("the momentum step, its bits and the way back are those of the reference, for every gamma, sign and type", () => {
  for (const { type, format } of GRIDS) {
    for (const [i, gamma] of [...GAMMAS, 0].entries()) {
      const sizes = type === "int32" && LARGE_FOR.has(gamma) ? [...SIZES, LARGE] : SIZES;
      for (const size of sizes) {
        for (const yType of size === LARGE ? (["float32"] as const) : (["float32", "bfloat16"] as const)) {
          for (const signed of [false, true]) {
            same(() => {
              setSeed(1000 * i + size[1]);
              const { p, v, y } = streamsAndBranch(format, type, size, yType);
              const signs_T1 = fromArray(
                Array.from({ length: size[0] }, (_, token) => ((token * 7) % 3 === 0 ? -1 : 1)),
                [size[0], 1],
                "float32",
              );
              const factor: Factor = { gamma, ...(signed && { signs_T1 }) };
              const wanted = format.momentum([p, v], y, factor, { wantBits: true });
              const unwanted = format.momentum([p, v], y, factor, { wantBits: false });
              assert.equal(unwanted.bits, null);
              assert.deepEqual(toArray(unwanted.streams[0]), toArray(wanted.streams[0]));
              const over = format.momentum([clone(p), clone(v)], y, factor, { wantBits: true, overwrite: true });
              assert.deepEqual(over.streams.map(toArray), wanted.streams.map(toArray));
              assert.deepEqual(over.bits && toArray(over.bits), wanted.bits && toArray(wanted.bits));
              const [pNext, vNext] = wanted.streams;
              const found = [pNext, vNext, ...(wanted.bits === null ? [] : [wanted.bits])].map(toArray);
              const x = format.momentumStart_(pNext, vNext);
              assert.deepEqual(toArray(pNext), toArray(p));
              const back = format.momentumBack_(vNext, y, wanted.bits, factor);
              if (gamma !== 0) assert.deepEqual(toArray(back), toArray(v), `${format.name} ${gamma} ${size}`);
              return [...found, toArray(x), toArray(back)];
            });
          }
        }
      }
    }
  }
});

test("sums, floats and beginnings are those of the reference, of odd sizes too", () => {
  for (const { type, format } of GRIDS) {
    for (const size of [[1, 1], [3, 5], [7, 1171], ...SIZES]) {
      for (const yType of ["float32", "bfloat16"] as const) {
        same(() => {
          setSeed(size[1]);
          const { p, y } = streamsAndBranch(format, type, size, yType);
          const sum = format.plus(p, y, 2);
          const found = [sum, format.plus(p, y), format.fromFloat(y), format.fromFloat(y, -1), format.toFloat(p)];
          assert.deepEqual(toArray(format.plus_(clone(sum), y, -2)), toArray(p));
          return found.map(toArray);
        });
      }
    }
  }
});

test("gradients of the momentum and bdia couplings are those of the reference", () => {
  for (const coupling of [momentum(-1), momentum(1 / 256), momentum(-0.5), bdia(0.25)]) {
    for (const size of [...SIZES, [3, 2731]]) {
      same(() => {
        setSeed(size[1]);
        const [dp, dv, dx] = [0, 1, 2].map(() => normal_(zeros(size, "float32"), 0, 1));
        const signs_T1 = fromArray(
          Array.from({ length: size[0] }, (_, token) => (token % 2 === 0 ? -1 : 1)),
          [size[0], 1],
          "float32",
        );
        let dBranch: number[] = [];
        const visit = (_branch: unknown, _x: unknown, dy: Tensor) => {
          dBranch = toArray(dy);
          return { y_TD: null, dx_TD: dx, dMemory_TD: null };
        };
        const pass = { unit: 1, wantBits: false, signs_T1 };
        const { dStreams } = coupling.reverse([dp, dv], visit, null, grid, pass);
        return [dBranch, ...dStreams.map(toArray)];
      });
    }
  }
});

/** Passes one stream through a block that does not change it. */
const check = (format: StreamFormat, stream: Tensor, y = zeros([1, 8], "float32")): void =>
  scope(() => void format.checked("block 3", () => ({ streams: [format.plus(stream, y)] })));

test("a value that leaves the grid, or is no number, is refused with the way out", () => {
  const eight = (...first: number[]): number[] => [...first, ...new Array<number>(8 - first.length).fill(0)];
  const stream = (value: number): Tensor => fromArray(eight(0, 0, value), [1, 8], "int32");
  const floats = (value: number): Tensor => fromArray(eight(1, value), [1, 8], "float32");
  const notFinite = { name: "UserError", message: /^a branch of the network: a value is not a finite number\. / };
  bothWays(() => {
    assert.throws(
      () => grid.fromFloat(floats(20_000)),
      /UserError: a branch of the network: a stream value of 2\.00e\+4 leaves the grid \(limit 16384\)\. Set fewer stream_fraction_bits/,
    );
    assert.throws(() => grid.fromFloat(floats(-1e30)), /1\.00e\+30 leaves the grid .*No grid holds that/);
    for (const value of [Number.NaN, -Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      for (const type of ["float32", "bfloat16"] as const) {
        assert.throws(() => grid.fromFloat(cast(floats(value), type)), notFinite);
        assert.throws(() => check(grid, stream(0), cast(floats(value), type)), notFinite);
        const [p, v] = [stream(5), stream(7)];
        const y = cast(floats(value), type);
        assert.throws(
          () => grid.checked("block 3", () => grid.momentum([p, v], y, { gamma: 0.5 }, { wantBits: true })),
          notFinite,
        );
        assert.throws(() => grid.momentumBack_(v, y, zeros([1], "uint8"), { gamma: 0.5 }), notFinite);
      }
    }
    for (const value of [2 ** 30, 2 ** 30 + 5, -(2 ** 30), -(2 ** 31), 2 ** 31 - 1]) {
      const size = (Math.abs(value) / 2 ** 16).toPrecision(3).replace("+", "\\+");
      const message = new RegExp(`UserError: block 3: a stream value of ${size} leaves the grid`);
      assert.throws(() => check(grid, stream(value)), message);
    }
    for (const value of [2 ** 30 - 1, -(2 ** 30) + 1]) check(grid, stream(value));
    assert.throws(() => storedBits(0.3), /not a power of two/);
  });
  scope(() =>
    assert.throws(
      () => check(floatStreams("float32"), fromArray(eight(Number.NaN), [1, 8], "float32")),
      /block 3: .*not a finite/,
    ),
  );
});

test("a sum that leaves the range is named by its block, of either width", () => {
  bothWays(() => {
    for (const { type, format } of GRIDS) {
      const half = type === "int32" ? 2 ** 29 : 2 ** 61;
      const unit = 2 ** Number(format.name.split("/")[1]);
      const p = fromArray([half, 0, 0, 0, 0, 0, 0, 0], [1, 8], type);
      const v = zeros([1, 8], type);
      const y = fromArray([(0.75 * half) / unit, 0, 0, 0, 0, 0, 0, 0], [1, 8], "float32");
      const pass = (): unknown =>
        format.checked("block 7", () => format.momentum([p, v], y, { gamma: -0.5 }, { wantBits: false }));
      assert.throws(pass, /UserError: block 7: a stream value of/);
      format.checked("block 7", () => format.momentum([p, v], mulScalar(y, 0.5), { gamma: -0.5 }, { wantBits: false }));
    }
  });
});

test("whoever holds a watch looks when it wants, and sees all that was noted since", () => {
  scope(() => {
    const range = new Range(2 ** 16, 2 ** 14);
    const watch = range.hold("cpu");
    const note = (product: number, element: number): void =>
      range.during("block 1", () => range.noted("cpu", (flags) => raise(flags, product, element)));
    note(0, 0);
    watch.look();
    note(0, 2 ** 30);
    note(0, 0);
    assert.throws(() => watch.look(), /a block of the network: a stream value of 1\.64e\+4 leaves the grid/);
    note(Number.NaN, 0);
    assert.throws(() => watch.look(), /a branch of the network: a value is not a finite number/);
    watch.close();
    note(0, 0);
    assert.throws(() => note(0, 2 ** 31), /block 1: a stream value of 3\.28e\+4/);
  });
});

function raise(flags: Tensor, product: number, element: number): void {
  const raised = toArray(flags).map((value, i) => {
    const given = [product, element][i];
    return Number.isNaN(value) || Number.isNaN(given) ? Number.NaN : Math.max(value, given);
  });
  scope(() => copy_(flags, fromArray(raised, [2], "float64")));
}

test("int64 keeps 32 fractional bits", () => {
  bothWays(() => {
    const fine = gridStreams("int64", 32);
    const stream = fine.fromFloat(normal_(zeros([4, 8], "float32"), 0, 1));
    assert.equal(dtype(stream), "int64");
    assert.deepEqual(toArray(fine.fromFloat(fromArray([2 ** -32, -(2 ** -31)], [2], "float32"))), [1, -2]);
    const zero = zeros([4, 8], "float32");
    const { streams, bits } = fine.momentum([stream, stream], zero, { gamma: -0.25 }, { wantBits: true });
    assert.deepEqual(toArray(fine.momentumBack_(streams[1], zero, bits, { gamma: -0.25 })), toArray(stream));
  });
});
