// Logits of the ordinary network in a folder, in float32, for check_export.py:
//     node test/golden/logits.mjs FOLDER 3,1,4,1,5      prints a JSON list of rows
import { fullLogits } from "../../dist/generate/testing-network.js";
import { openNetwork } from "../../dist/generate/open-network.js";
import { setThreads } from "../../dist/torch/device.js";

const [folder, tokens] = process.argv.slice(2);
setThreads(1);
const network = openNetwork(folder, { as: "ordinary", device: "cpu", computeDtype: "float32" });
process.stdout.write(JSON.stringify(fullLogits(network, tokens.split(",").map(Number))));
