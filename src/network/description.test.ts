import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

import { GAMMAS } from "../reversible/couplings/gamma.js";
import { COUPLING_NAMES } from "../reversible/couplings/registry.js";
import {
  couplingOf,
  describeNetwork,
  formatOf,
  NETWORK_FILE,
  type NetworkDescription,
  ORDINARY,
  readNetworkFile,
} from "./description.js";
import { TRAIN_ROWS } from "../train/settings/rows.js";

const DEFAULTS = {
  coupling: "momentum",
  gamma: 0.25,
  stream: "int32",
  stream_fraction_bits: 0,
  blocks_per_step: 1,
  checkpoint_first_blocks: 0,
  checkpoint_last_blocks: 0,
  adapter_sharing: "layer",
} as const;

function makeFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-network-"));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

test("settings as a description: only what the network depends on, with the fraction bits spelled out", () => {
  const cases: [Parameters<typeof describeNetwork>[0], NetworkDescription][] = [
    [DEFAULTS, { coupling: "momentum", gamma: 0.25, stream: "int32", streamFractionBits: 16 }],
    [
      { ...DEFAULTS, gamma: -1, stream_fraction_bits: 12 },
      { coupling: "momentum", gamma: -1, stream: "int32", streamFractionBits: 12 },
    ],
    [
      { ...DEFAULTS, stream: "int64" },
      { coupling: "momentum", gamma: 0.25, stream: "int64", streamFractionBits: 32 },
    ],
    [
      { ...DEFAULTS, stream: "float32" },
      { coupling: "momentum", gamma: 0.25, stream: "float32" },
    ],
    [
      { ...DEFAULTS, coupling: "additive" },
      { coupling: "additive", stream: "int32", streamFractionBits: 16 },
    ],
    [
      { ...DEFAULTS, coupling: "bdia", blocks_per_step: 2, checkpoint_first_blocks: 1, checkpoint_last_blocks: 3 },
      {
        coupling: "bdia",
        gamma: 0.25,
        stream: "int32",
        streamFractionBits: 16,
        blocksPerStep: 2,
        ordinaryFirst: 1,
        ordinaryLast: 3,
      },
    ],
    [
      { ...DEFAULTS, coupling: "revffn", adapter_sharing: "stream" },
      { coupling: "revffn", adapters: "stream", stream: "int32", streamFractionBits: 16 },
    ],
    [{ ...DEFAULTS, coupling: "ordinary" }, ORDINARY],
  ];
  for (const [settings, expected] of cases) assert.deepEqual(describeNetwork(settings), expected);
});

test("a description as a coupling and a stream format, also when it leaves out what has a default", () => {
  const names = (description: NetworkDescription): string[] => [
    couplingOf(description).name,
    formatOf(description).name,
  ];
  assert.deepEqual(names({ coupling: "momentum", gamma: -0.5, stream: "int32", streamFractionBits: 12 }), [
    "momentum(-0.5)",
    "int32/12",
  ]);
  assert.deepEqual(names({ coupling: "momentum", stream: "int64" }), ["momentum(0.25)", "int64/32"]);
  assert.deepEqual(names({ coupling: "additive", stream: "int32" }), ["additive", "int32/16"]);
  assert.deepEqual(names(ORDINARY), ["ordinary", "float32"]);
  assert.throws(() => couplingOf({ coupling: "momentum", gamma: 0.3, stream: "int32" }), {
    name: "UserError",
    message: /^gamma: 0\.3 is not possible/,
  });
});

test("the settings of gamma are the factors that the coupling can shift by", () => {
  const sorted = (values: readonly number[]): number[] => [...values].sort((a, b) => a - b);
  assert.deepEqual(sorted(TRAIN_ROWS.gamma.oneOf), sorted(GAMMAS));
  assert.deepEqual(sorted([-1, ...TRAIN_ROWS.gamma_final.oneOf.filter((gamma) => gamma !== 0)]), sorted(GAMMAS));
});

test("what is written is read back; a folder without the file is the ordinary network", (t) => {
  const folder = makeFolder(t);
  assert.deepEqual(readNetworkFile(folder), ORDINARY);
  for (const changes of [
    {},
    ...COUPLING_NAMES.map((coupling) => ({ coupling })),
    { stream: "float32" },
    { stream: "int64", gamma: -0.125 },
    { coupling: "bdia", blocks_per_step: 3, checkpoint_last_blocks: 1 },
  ] as const) {
    const description = describeNetwork({ ...DEFAULTS, ...changes });
    writeFileSync(join(folder, NETWORK_FILE), JSON.stringify(description));
    assert.deepEqual(readNetworkFile(folder), description);
  }
});

test("a file that says something else is refused by its name", (t) => {
  const folder = makeFolder(t);
  const wrong = [
    "",
    "{",
    "null",
    "[]",
    "7",
    "{}",
    '{"coupling": "momentum"}',
    '{"coupling": "reformer", "stream": "int32"}',
    '{"coupling": "additive", "stream": "int8"}',
  ];
  for (const text of wrong) {
    writeFileSync(join(folder, NETWORK_FILE), text);
    assert.throws(
      () => readNetworkFile(folder),
      {
        name: "UserError",
        message: `${join(folder, NETWORK_FILE)}: is not a description of a network that this version knows. Remove it to use the folder as the ordinary network.`,
      },
      text,
    );
  }
});

test("config.json may say it too; then its key is what is refused, not the file", (t) => {
  const folder = makeFolder(t);
  const config = join(folder, "config.json");
  const description = describeNetwork({ ...DEFAULTS, coupling: "additive" });
  writeFileSync(config, JSON.stringify({ hidden_size: 8, revmoe: description }));
  assert.deepEqual(readNetworkFile(folder), description);
  writeFileSync(config, JSON.stringify({ hidden_size: 8, revmoe: { coupling: "reformer", stream: "int32" } }));
  assert.throws(() => readNetworkFile(folder), {
    name: "UserError",
    message: `${config}: revmoe is not a description of a network that this version knows. Remove its key revmoe to use the folder as the ordinary network.`,
  });
});
