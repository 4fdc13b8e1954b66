// Weights & Biases, by the requests that its own client makes: `upsertBucket` of its GraphQL makes the run or continues
// it, and the file stream takes lines of history, each with its place, so that a line sent twice is stored once.
// test/golden/check_servers.py compares these requests with those of the real client. A run's `_step` counts lines;
// charts have train/global_step as their axis, as with transformers' callback.
import { UserError } from "../../errors.js";
import { basic, readAddress } from "./remote/address.js";
import { remoteKind } from "./remote/remote-sink.js";
import { type Ask, type Described, type Point, Refused, type Service, type Target } from "./remote/service.js";

const CLOUD = "https://api.wandb.ai";
/** The site on which a person sees what is at CLOUD. */
const CLOUD_PAGES = "https://wandb.ai";

export const wandb = remoteKind({
  name: "wandb",
  about: "Weights & Biases, with the key WANDB_API_KEY, or another server at WANDB_BASE_URL",
  module: import.meta.url,
  target: (environment): Target => {
    const { WANDB_API_KEY: key = "", WANDB_MODE: mode = "online" } = environment;
    if (mode !== "online")
      throw new UserError(
        `report_to: wandb reports as the run goes on (WANDB_MODE is ${mode}, expected online). Unset WANDB_MODE, or leave wandb out: metrics.jsonl has every number.`,
      );
    if (key === "") throw new UserError("report_to: wandb needs a key (expected WANDB_API_KEY). Set it.");
    const { url } = readAddress("wandb", "WANDB_BASE_URL", environment.WANDB_BASE_URL || CLOUD, CLOUD);
    const authorization = basic("api", key);
    return {
      url,
      headers: { authorization },
      secrets: [key, authorization],
      project: environment.WANDB_PROJECT || "huggingface",
      owner: environment.WANDB_ENTITY || undefined,
    };
  },
});

const UPSERT = `mutation UpsertBucket($name: String, $project: String, $entity: String, $displayName: String, $config: JSONString, $host: String, $program: String) {
  upsertBucket(input: {name: $name, modelName: $project, entityName: $entity, displayName: $displayName, config: $config, host: $host, jobProgram: $program}) {
    bucket { id name project { name entity { name } } historyLineCount }
  }
}`;

interface Bucket {
  name: string;
  project: { name: string; entity: { name: string } };
  historyLineCount: number | null;
}

const AXIS = "train/global_step";
/** Definitions of metrics, with numbered fields: the axis, and that all others are drawn over it. */
const METRICS = [
  { "1": AXIS, "6": [3], "7": [] },
  { "2": "*", "5": 1, "6": [1], "7": [] },
];
const EXIT_CODES = { finished: 0, stopped: 255, failed: 1 };

export function connect({ target, name, params, known }: Described, ask: Ask): Service {
  const id = known?.id ?? newId();
  const began = Date.now();
  const summary: Record<string, number> = {};
  let stream = "";
  /** Number of lines that the server has. */
  let lines = 0;
  return {
    begin: async () => {
      const described = Object.entries({ ...params, _wandb: { m: METRICS } });
      const variables = {
        ...{ name: id, project: target.project, entity: target.owner ?? null, displayName: name },
        ...{ config: JSON.stringify(Object.fromEntries(described.map(([key, value]) => [key, { value }]))) },
        ...{ host: null, program: "revmoe" },
      };
      const answer = await ask("/graphql", { query: UPSERT, variables, operationName: "UpsertBucket" });
      const { bucket } = (answer.data as { upsertBucket?: { bucket?: Bucket } } | null)?.upsertBucket ?? {};
      if (!bucket) throw new Refused(`does not make the run: ${errorsIn(answer)}`, 400, "");
      const { name: project, entity } = bucket.project;
      const path = [entity.name, project, bucket.name].map(encodeURIComponent);
      stream = `/files/${path.join("/")}/file_stream`;
      lines = bucket.historyLineCount ?? 0;
      const pages = target.url === CLOUD ? CLOUD_PAGES : target.url;
      return { id: bucket.name, page: `${pages}/${path[0]}/${path[1]}/runs/${path[2]}` };
    },
    send: async (points) => {
      for (const { values, step } of points) Object.assign(summary, Object.fromEntries(values), { [AXIS]: step });
      await ask(stream, {
        files: {
          "wandb-history.jsonl": { offset: lines, content: points.map((point, i) => lineOf(point, lines + i, began)) },
          "wandb-summary.json": { offset: 0, content: [object(Object.entries(summary))] },
        },
      });
      lines += points.length;
    },
    end: async (how) => {
      await ask(stream, { complete: true, exitcode: EXIT_CODES[how] });
    },
  };
}

const lineOf = ({ step, time, values }: Point, line: number, began: number): string =>
  object([
    ...values,
    [AXIS, step],
    ["_step", line],
    ["_timestamp", time / 1000],
    ["_runtime", Math.max(0, time - began) / 1000],
  ]);

/** JSON with NaN and infinities unquoted, as the client writes them. */
const object = (entries: readonly (readonly [string, number])[]): string =>
  `{${entries.map(([key, value]) => `${JSON.stringify(key)}:${value}`).join(",")}}`;

const errorsIn = ({ errors }: Record<string, unknown>): string =>
  (errors as { message?: string }[] | undefined)?.[0]?.message ?? "it says nothing of it";

/** Eight letters and digits, as in the client. */
const newId = (): string =>
  Array.from(
    crypto.getRandomValues(new Uint8Array(8)),
    (byte) => "abcdefghijklmnopqrstuvwxyz0123456789"[byte % 36],
  ).join("");
