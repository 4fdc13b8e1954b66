// `revmoe info`: describes a model and what it takes, one line per fact. Reads headers and config.json, no weights.
import { formatBytes, formatCount, parseBytes } from "../../format.js";
import { type ModelFacts, modelFacts } from "../../plan/model-facts.js";
import type { CommandInput } from "../command.js";
import type { ROWS } from "../info.js";
import { namedModel } from "../../hub/named-model.js";

export async function run({ settings, json, out, err }: CommandInput<typeof ROWS>): Promise<number> {
  const { folder } = await namedModel(settings.model, "describe", { out: err, preferCached: true });
  const memoryBytes = parseBytes(settings.memory) ?? process.availableMemory();
  const facts = modelFacts(folder, settings.memory);
  out.write(json ? `${JSON.stringify(facts, null, 2)}\n` : `${described(facts, memoryBytes)}\n`);
  return 0;
}

function described(facts: ModelFacts, memoryBytes: number): string {
  const { experts, passing, ends, fits } = facts;
  const routed = experts.count > 0;
  const rows: [string, string][] = [
    ["family", facts.modelType + (facts.trainedAs === undefined ? "" : `, trained as ${facts.trainedAs}`)],
    ...facts.layers.map(({ kinds, from, count }): [string, string] => [
      from === 0 ? "layers" : "",
      `${count === 1 ? from : `${from} to ${from + count - 1}`}: ${kinds.length === 1 ? kinds[0] : `in turn ${kinds.join("; ")}`}`,
    ]),
    ["width", `${facts.hiddenSize}, vocabulary ${facts.vocabSize}${facts.tied ? ", head tied to the embedding" : ""}`],
    ...(routed
      ? [["experts", `${experts.count} of width ${experts.width}, ${experts.perToken} for a token`] as [string, string]]
      : []),
    ["positions", String(facts.maxPositions)],
    [
      "parameters",
      `${formatCount(facts.parameters)}${routed ? `, ${formatCount(facts.activeParameters)} for a token` : ""}`,
    ],
    [
      "weights",
      Object.entries(facts.bytes)
        .map(([dtype, bytes]) => `${formatBytes(bytes)} ${dtype}`)
        .join(", "),
    ],
    ...(facts.decoding === undefined ? [] : [["", facts.decoding] as [string, string]]),
    ...(passing.tensors === 0
      ? []
      : [
          [
            "not used here",
            `${passing.tensors} tensors, ${passing.first} and so on (${formatBytes(passing.bytes)}): copied`,
          ] as [string, string],
        ]),
    ["chat template", facts.templates.join(", ") || "none"],
    ["ends", `text: ${ends.text.join(", ") || "none named"}${ends.turn === undefined ? "" : `; turn: ${ends.turn}`}`],
    ["training here", fits === null ? `no way fits ${formatBytes(memoryBytes)}: see revmoe plan` : wordsOf(fits)],
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  return [["model", facts.path], ...rows].map(([name, value]) => `${name.padEnd(width)}  ${value}`).join("\n");
}

function wordsOf({ flags, tokens, deviceBytes, diskBytes }: NonNullable<ModelFacts["fits"]>): string {
  const disk = diskBytes > 0 ? `, and ${formatBytes(diskBytes)} in files` : "";
  return `${flags}: ${formatBytes(deviceBytes)}${disk} for one row of ${tokens} tokens, on the CPU`;
}
