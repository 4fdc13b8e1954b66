// Parameter counts of released models from the numbers in their config.json (examples/released), against the published counts: what a family
// has too much or too little of shows here, however tiny the models of the other tests are.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

import { parameterCount, placedParameters } from "../model/model.js";
import { readArchitecture } from "./registry.js";

const RELEASED = new URL("../../examples/released/", import.meta.url);

/** Without layers that predict further tokens, and without towers for images. */
const COUNTS: Record<string, number> = {
  "deepseek-v2-lite": 15_706_484_224,
  "deepseek-v3": 671_026_419_200,
  "dots.llm1": 142_774_381_696,
  "ernie-4.5-21b-a3b": 21_825_437_888,
  "glm-4.5-air": 106_852_251_264,
  "glm-4.7-flash": 29_943_393_920,
  "gpt-oss-20b": 20_914_757_184,
  "granite-3.0-1b-a400m": 1_334_628_352,
  "granite-3.0-3b-a800m": 3_298_793_472,
  "minimax-m2": 228_689_764_864,
  "mixtral-8x7b": 46_702_792_704,
  "moonlight-16b-a3b": 15_960_110_208,
  "olmoe-1b-7b": 6_919_161_856,
  "qwen1.5-moe-a2.7b": 14_315_784_192,
  "qwen3-30b-a3b": 30_532_122_624,
  "qwen3-next-80b-a3b": 79_674_391_296,
  "qwen3.5-35b-a3b": 34_660_610_688,
  "solar-open-100b": 102_651_799_552,
};

const foldersIn = (place: URL): string[] =>
  readdirSync(place, { withFileTypes: true })
    .flatMap((entry) => (entry.isDirectory() ? [entry.name] : []))
    .sort();

test("every released model that is here has a published count", () => {
  assert.deepEqual(foldersIn(RELEASED), Object.keys(COUNTS).sort());
});

for (const [name, count] of Object.entries(COUNTS)) {
  test(`${name} has ${(count / 1e9).toFixed(1)} billion parameters`, () => {
    const path = new URL(`${name}/config.json`, RELEASED);
    const architecture = readArchitecture(JSON.parse(readFileSync(path, "utf8")), "config.json");
    assert.equal(parameterCount(placedParameters(architecture)), count);
  });
}
