// The server of trackio, by its HTTP interface of version 1: `bulk_log` takes records, each with an id of ours, so that
// a record sent twice is stored once. Limits: no local store like that of its Python package, and no making of Spaces.
// If a step is made again, its numbers are added to those of the first time.
import { UserError } from "../../errors.js";
import { readAddress } from "./remote/address.js";
import { remoteKind } from "./remote/remote-sink.js";
import { type Ask, type Described, Refused, type Service, type Target } from "./remote/service.js";

const API_VERSION = 1;

export const trackio = remoteKind({
  name: "trackio",
  about: "the server at TRACKIO_SERVER_URL",
  module: import.meta.url,
  target: (environment): Target => {
    const variable = "TRACKIO_SERVER_URL";
    const example = "the one that trackio show prints: http://127.0.0.1:7860/?write_token=...";
    const { url, query } = readAddress("trackio", variable, environment[variable], example);
    const key = query.get("write_token") || environment.TRACKIO_WRITE_TOKEN || "";
    const isSpace = new URL(url).hostname.endsWith(".hf.space");
    const token = isSpace ? (environment.HF_TOKEN ?? "") : "";
    if (key === "" && token === "")
      throw new UserError(
        `report_to: trackio needs a key to write to ${url}. Set ${isSpace ? "HF_TOKEN" : `TRACKIO_WRITE_TOKEN, or give it in ${variable} as ?write_token=`}.`,
      );
    return {
      url,
      headers: {
        ...(key === "" ? {} : { "x-trackio-write-token": key }),
        ...(token === "" ? {} : { authorization: `Bearer ${token}` }),
      },
      secrets: [key, token].filter((secret) => secret !== ""),
      project: environment.TRACKIO_PROJECT || "huggingface",
    };
  },
});

export function connect({ target, name, params, known }: Described, ask: Ask): Service {
  const id = known?.id ?? crypto.randomUUID().replaceAll("-", "");
  const start = crypto.randomUUID();
  const { project } = target;
  let count = 0;
  const log = async (logs: readonly { step: number; metrics: Record<string, number | string>; log_id: string }[]) => {
    // The first record also has the settings; the server takes them from there.
    const [first, ...rest] = logs.map((each) => ({ project, run: name, run_id: id, ...each }));
    const answer = await ask("/api/bulk_log", {
      kwargs: { logs: [{ ...first, config: params }, ...rest], hf_token: null },
    });
    if (typeof answer.error === "string") throw new Refused(`answers: ${answer.error}`, 400, "");
  };
  /** The id of a record, which is the same in every try. */
  const ids = new WeakMap<object, string>();
  const idOf = (point: object): string => {
    const known = ids.get(point) ?? `${start}-${count++}`;
    ids.set(point, known);
    return known;
  };
  return {
    begin: async () => {
      const { api_version: version } = await ask("/version", null, { method: "GET" });
      if (version !== API_VERSION)
        throw new Refused(`has version ${version} of its interface (expected ${API_VERSION})`, 200, "");
      return { id, page: `${target.url}/?project=${encodeURIComponent(project)}` };
    },
    send: (points) =>
      log(
        points.map((point) => ({
          step: point.step,
          metrics: Object.fromEntries(point.values.map(([tag, value]) => [tag, number(value)])),
          log_id: idOf(point),
        })),
      ),
    // Runs have no end on this server; they end with their last record.
    end: async () => {},
  };
}

/** The server takes NaN and infinities as strings. */
const number = (value: number): number | string => (Number.isFinite(value) ? value : String(value));
