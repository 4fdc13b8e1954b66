// Networks as trained, for check_export_trained.py:
//     node test/golden/trained.mjs make MODEL DESCRIPTION FOLDER     MODEL's weights as what revmoe.json DESCRIPTION says, in FOLDER
//     node test/golden/trained.mjs run FOLDER 3,1,4,1,5 COUNT        prints logits, and COUNT greedy tokens behind the first eight, as JSON
import { openSource } from "../../dist/checkpoint/source.js";
import { loadModel } from "../../dist/checkpoint/load.js";
import { saveModel } from "../../dist/checkpoint/save.js";
import { generateTokens } from "../../dist/generate/generate.js";
import { openNetwork } from "../../dist/generate/open-network.js";
import { fullLogits } from "../../dist/generate/testing-network.js";
import { setThreads } from "../../dist/torch/device.js";
import { extensionOf, writeNetworkFile } from "../../dist/network/description.js";

const [what, from, words, last] = process.argv.slice(2);
setThreads(1);
if (what === "make") {
  const description = JSON.parse(words);
  const model = loadModel(from, { weightsDtype: "float32", device: "cpu", extend: extensionOf(description, "random"), seed: 7 });
  saveModel(last, model, { source: openSource(from), extraFiles: (side) => writeNetworkFile(side, description) });
} else {
  const network = openNetwork(from, { as: "trained", device: "cpu", computeDtype: "float32" });
  const ordinary = openNetwork(from, { as: "ordinary", device: "cpu", computeDtype: "float32" });
  const tokens = words.split(",").map(Number);
  const generated = [...generateTokens(network, tokens.slice(0, 8), { maxNewTokens: Number(last) })];
  process.stdout.write(JSON.stringify({ logits: fullLogits(network, tokens), ordinary: fullLogits(ordinary, tokens), generated }));
}
