// Our network against Hugging Face transformers in float32, from files that test/golden/make_golden.py made: logits, loss
// and every gradient of random models, and the logits of a folder that a run of ours saved and transformers loaded.
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { test } from "node:test";

import { readConfig } from "../checkpoint/folder.js";
import { loadModel } from "../checkpoint/load.js";
import { openSafetensors } from "../checkpoint/safetensors/file.js";
import type { Batch } from "../data/batches.js";
import { expertsIn } from "../families/testing-config.js";
import { FAMILIES, readArchitecture } from "../families/registry.js";
import type { GroupedQuery } from "../layers/attention/grouped-query.js";
import type { LatentAttention } from "../layers/attention/latent.js";
import { chosenShares } from "../layers/experts/router.js";
import { type Architecture, isRouted } from "../model/architecture.js";
import { scaleLogits_ } from "../reversible/logits.js";
import { freeModel, placedWeights } from "../model/model.js";
import { adamw } from "../optim/adamw.js";
import type { Optimizer } from "../optim/optimizer.js";
import { METHODS } from "../reversible/methods/registry.js";
import { ordinary } from "../reversible/couplings/ordinary.js";
import { floatStreams } from "../reversible/streams.js";
import { setThreads } from "../torch/device.js";
import { linear } from "../torch/ops.js";
import { free, scope } from "../torch/scope.js";
import { toArray } from "../torch/tensor.js";
import { TEST_DEVICE } from "../torch/testing-device.js";
import { hiddenStates } from "../network/evaluate.js";
import { type Network, openHead, outerNames } from "../network/network.js";
import { OptimizerStates } from "./optimizer-states.js";
import { type StepOptions, type StepResult, trainStep } from "./step.js";
import { deviceStore } from "../store/device.js";

setThreads(1);

// Float32 sums in another order differ near 1e-7, and such differences grow through layers; 1e-5 is the promise of the README.
const TOLERANCE = 1e-5;
/** Its weights are large: 1.3e-5 off with libtorch 2.15 on a CPU with AVX-512, where transformers is 4e-6 from float64. */
const TOLERANCES: Readonly<Record<string, number>> = { "ernie-tied": 1.5e-5 };

const folderOf = (name: string): string => fileURLToPath(new URL(`../../test/golden/${name}`, import.meta.url));

function golden(name: string, fileName = "golden.safetensors"): (tensor: string) => number[] {
  const file = openSafetensors(`${folderOf(name)}/${fileName}`);
  return (tensor) => scope(() => toArray(file.read(tensor)));
}

function architectureIn(name: string): Architecture {
  const { config, path } = readConfig(folderOf(name));
  return readArchitecture(config, path);
}

function networkOf(name: string): Network {
  const model = loadModel(folderOf(name), { weightsDtype: "float32", device: TEST_DEVICE });
  return {
    model,
    coupling: ordinary,
    format: floatStreams("float32"),
    computeDtype: "float32",
    device: TEST_DEVICE,
    store: deviceStore(TEST_DEVICE),
    lossTileTokens: 16,
  };
}

/** The batch that transformers sees with labels equal to its inputs. */
function batchOf(ids: number[]): Batch {
  const tokens = Int32Array.from(ids);
  const labels = Int32Array.from(ids, (_, i) => ids[i + 1] ?? -100);
  return {
    tokens,
    labels,
    positions: Int32Array.from(ids.keys()),
    segments: [ids.length],
    trainedTokens: ids.length - 1,
  };
}

function logitsOf(network: Network, batch: Batch): number[] {
  const [hidden_TD] = hiddenStates(network, [batch]);
  const open = openHead(network);
  const { norm, head } = outerNames(network);
  const logits = scope(() => {
    const { architecture } = network.model;
    return toArray(
      scaleLogits_(
        architecture.scales,
        linear(architecture.finalNorm(open.get(norm.name), hidden_TD, "float32"), open.get(head.name)),
      ),
    );
  });
  open.close();
  free(hidden_TD);
  return logits;
}

function assertClose(actual: number[], expected: number[], what: string, tolerance = TOLERANCE): void {
  const norm = (values: number[]): number => Math.sqrt(values.reduce((total, value) => total + value * value, 0));
  const error = norm(expected.map((value, i) => value - actual[i])) / norm(expected);
  assert.equal(actual.length, expected.length);
  assert.ok(error < tolerance, `${what}: relative error ${error}`);
}

/** Documents end to end, each as `batchOf` has it. */
function joined(documents: number[][]): Batch {
  const parts = documents.map(batchOf);
  const all = (key: "tokens" | "labels" | "positions"): Int32Array =>
    Int32Array.from(parts.flatMap((part) => [...part[key]]));
  return {
    tokens: all("tokens"),
    labels: all("labels"),
    positions: all("positions"),
    segments: parts.flatMap(({ segments }) => segments),
    trainedTokens: parts.reduce((sum, { trainedTokens }) => sum + trainedTokens, 0),
  };
}

/** Gradients by name on disk, from a step with an optimiser that only looks. */
function gradientsOf(
  network: Network,
  batches: Batch[],
  router?: StepOptions["router"],
): { result: StepResult; gradients: Map<string, number[]> } {
  const gradients = new Map<string, number[]>();
  const optimizer: Optimizer = {
    name: "looker",
    rule: ({ name }) => ({ layout: {}, update: (_weight, gradient) => void gradients.set(name, toArray(gradient)) }),
  };
  const options = { method: METHODS.store, step: 1, learningRate: 0, maxBlockGradNorm: 0, seed: 1, router };
  const result = trainStep(network, new OptimizerStates(optimizer, network.model), batches, options);
  return { result, gradients };
}

const CASES = readdirSync(folderOf("")).filter(
  (name) => existsSync(`${folderOf(name)}/golden.safetensors`) && name !== "store-run",
);

test("the golden files cover every family and rope type, in both dialects, and every variant", () => {
  const all = CASES.map(architectureIn);
  const seen = <Of>(what: (of: Of) => unknown, among: readonly Of[]): unknown[] => [...new Set(among.map(what))].sort();
  assert.deepEqual(
    seen(({ modelType }) => modelType, all),
    FAMILIES.map(({ modelType }) => modelType).sort(),
  );
  assert.deepEqual(
    seen(({ rotary: [{ scaling }] }) => scaling.type, all),
    ["default", "dynamic", "linear", "llama3", "longrope", "yarn"],
  );
  assert.deepEqual(
    seen(({ source }) => "rope_parameters" in source, all),
    [false, true],
  );
  const variants: ((architecture: Architecture) => boolean)[] = [
    ({ layers }) => layers.every(isRouted),
    ({ outer }) => outer.head === null,
    ({ layers }) => expertsIn(layers).some(({ router }) => router.gates === chosenShares),
    ({ layers }) => expertsIn(layers).some(({ correction }) => correction),
    ({ layers }) => expertsIn(layers).some(({ wideRouter }) => wideRouter),
    ({ layers }) => expertsIn(layers).some(({ sharedWidth, sharedGate }) => sharedWidth > 0 && sharedGate === false),
    ({ rotary: [{ neighbours }] }) => neighbours === true,
  ];
  for (const variant of variants) assert.deepEqual(seen(variant, all), [false, true], String(variant));

  const settings: object[] = all.map(({ layers, rotary }) => ({
    ...layers[0].attention.settings,
    turning: rotary[0].width,
  }));
  const grouped = settings.filter((each) => "clip" in each) as (GroupedQuery & { turning: number })[];
  assert.deepEqual(
    seen(({ bias }) => bias, grouped),
    ["all", "none", "qkv"],
  );
  const ofGrouped: ((attention: (typeof grouped)[0]) => boolean)[] = [
    ({ window }) => window !== null,
    ({ clip }) => clip !== null,
    ({ headDim, numHeads, hiddenSize }) => headDim * numHeads !== hiddenSize,
    ({ numHeads, numKeyValueHeads }) => numHeads !== numKeyValueHeads,
    ({ turning, headDim }) => turning === headDim,
  ];
  for (const variant of ofGrouped) assert.deepEqual(seen(variant, grouped), [false, true], String(variant));

  const latent = settings.filter((each) => "queryRank" in each) as LatentAttention[];
  const ofLatent: ((attention: LatentAttention) => boolean)[] = [
    ({ queryRank }) => queryRank === null,
    ({ bias }) => bias,
    ({ plainWidth, turningWidth, valueWidth }) => valueWidth < plainWidth + turningWidth,
    ({ plainWidth, turningWidth, valueWidth }) => valueWidth > plainWidth + turningWidth,
    ({ plainWidth, turningWidth, scale }) => scale === (plainWidth + turningWidth) ** -0.5,
  ];
  for (const variant of ofLatent) assert.deepEqual(seen(variant, latent), [false, true], String(variant));
});

/** The text model of these is that of another family, under other names. */
const OF_ANOTHER: Record<string, string> = { qwen3_5_moe: "qwen3_5_moe_text" };

test("each family has at least three models, and all together more than forty", () => {
  const counts = new Map<string, number>();
  for (const name of CASES) {
    const { modelType } = architectureIn(name);
    const family = OF_ANOTHER[modelType] ?? modelType;
    counts.set(family, (counts.get(family) ?? 0) + 1);
  }
  for (const [family, count] of counts) assert.ok(count >= 3, `${family}: ${count}`);
  assert.ok(CASES.length > 40, `${CASES.length}`);
});

for (const name of CASES) {
  test(`${name}: logits, loss and every gradient equal those of transformers`, () => {
    const read = golden(name);
    const network = networkOf(name);
    const batch = batchOf(read("input_ids"));
    assertClose(logitsOf(network, batch), read("logits"), "logits");
    const { result, gradients } = gradientsOf(network, [batch]);
    assertClose([result.loss], read("loss"), "loss");
    const parameters = placedWeights(network.model.architecture);
    assert.equal(gradients.size, parameters.length);
    for (const [parameter, gradient] of gradients)
      assertClose(gradient, read(`grad.${parameter}`), parameter, TOLERANCES[name]);
    freeModel(network.model);
  });
}

const ROUTED = CASES.filter((name) => existsSync(`${folderOf(name)}/router.safetensors`));

/** transformers has no losses on router logits for these. */
const WITHOUT_LOSSES = ["glm4_moe", "dots1", "solar_open", "deepseek_v3", "deepseek_v2", "glm4_moe_lite"];

test("losses on router logits are compared in every family that transformers has them for", () => {
  assert.deepEqual(
    [...ROUTED.map((name) => architectureIn(name).modelType), ...WITHOUT_LOSSES].sort(),
    FAMILIES.map(({ modelType }) => modelType).sort(),
  );
});

for (const name of ROUTED) {
  for (const split of [false, true]) {
    test(`${name}: router losses and every gradient with them, ${split ? "in micro-batches" : "packed"}`, () => {
      const read = golden(name, "router.safetensors");
      const ids = read("input_ids");
      const [auxCoef, layerCoef, zCoef] = read("coefficients");
      let start = 0;
      const rows = read("row_lengths").map((length) => ids.slice(start, (start += length)));
      const batches = split ? [joined(rows.slice(0, 2)), batchOf(rows[2])] : [joined(rows)];
      const network = networkOf(name);
      const expectGradients = (kind: string, gradients: Map<string, number[]>): void => {
        assert.equal(gradients.size, placedWeights(network.model.architecture).length);
        for (const [parameter, gradient] of gradients)
          assertClose(gradient, read(`${kind}.grad.${parameter}`), parameter);
      };

      const pooled = gradientsOf(network, batches, { auxCoef, auxType: "pooled", zCoef: 0, jitterNoise: 0 });
      const { auxLoss, zLoss, loss } = pooled.result;
      assert.equal(zLoss, null);
      assertClose([auxLoss as number], read("pooled.aux"), "pooled auxiliary loss");
      assertClose([loss + auxCoef * (auxLoss as number)], read("pooled.loss"), "loss with the auxiliary loss");
      expectGradients("pooled", pooled.gradients);

      const layer = gradientsOf(network, batches, { auxCoef: layerCoef, auxType: "layer", zCoef, jitterNoise: 0 });
      assert.equal(layer.result.loss, loss);
      assertClose([layer.result.auxLoss as number], read("layer.aux"), "mean auxiliary loss of layers");
      assertClose([layer.result.zLoss as number], read("layer.z"), "z-loss");
      expectGradients("layer", layer.gradients);
      freeModel(network.model);
    });
  }
}

/** As in make_golden.py. */
const MAX_NORM = 3;
const TRAINED = CASES.filter((name) => {
  const { entries, close } = openSafetensors(`${folderOf(name)}/golden.safetensors`);
  close();
  return entries.has("adamw_losses");
});
test("ten steps are compared in every family", () => {
  assert.deepEqual(
    [...new Set(TRAINED.map((name) => architectureIn(name).modelType)), ...Object.keys(OF_ANOTHER)].sort(),
    FAMILIES.map(({ modelType }) => modelType).sort(),
  );
});
for (const name of TRAINED) {
  for (const maxGradNorm of [0, MAX_NORM]) {
    const kind = maxGradNorm > 0 ? "clipped" : "adamw";
    test(`${name}: ten steps of AdamW${maxGradNorm > 0 ? ", clipped by the norm of all gradients," : ""} have the losses of torch's`, () => {
      const read = golden(name);
      const network = networkOf(name);
      const states = new OptimizerStates(
        adamw({ beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0 }),
        network.model,
      );
      const expected = read(`${kind}_losses`);
      assert.equal(expected.length, 10);
      assert.ok(expected[9] < 0.9 * expected[0], "the losses fall");
      for (const [i, loss] of expected.entries()) {
        const options = {
          method: METHODS.checkpoint,
          step: i + 1,
          learningRate: 1e-3,
          maxGradNorm,
          maxBlockGradNorm: 0,
          seed: 1,
        };
        const found = trainStep(network, states, [batchOf(read("input_ids"))], options);
        assert.ok(Math.abs(found.loss - loss) < 1e-4 * loss, `step ${i + 1}: loss ${found.loss}, not ${loss}`);
        if (maxGradNorm === 0) continue;
        const norm = read("clipped_norms")[i];
        assert.ok(Math.abs(found.gradNorm - norm) < 1e-4 * norm, `step ${i + 1}: norm ${found.gradNorm}, not ${norm}`);
      }
      states.free();
      freeModel(network.model);
    });
  }
}

test("a final/ folder of ours gives the same logits in transformers", () => {
  assert.ok(existsSync(folderOf("store-run")), "test/golden/store-run is missing");
  const read = golden("store-run");
  const network = networkOf("store-run");
  assertClose(logitsOf(network, batchOf(read("input_ids"))), read("logits"), "logits");
  freeModel(network.model);
});
