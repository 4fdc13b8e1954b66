// MLflow's tracking server, by its REST interface, version 2.0. The experiment is made if it is missing. Settings
// become parameters of the run; numbers have the names of transformers' callback for MLflow. A resumed run continues
// the same run there; if a step is made again, its numbers are added to those of the first time.
import { basic, readAddress } from "./remote/address.js";
import { remoteKind } from "./remote/remote-sink.js";
import { type Ask, type Described, Refused, type Service, type Target } from "./remote/service.js";

export const mlflow = remoteKind({
  name: "mlflow",
  about: "the server at MLFLOW_TRACKING_URI",
  module: import.meta.url,
  target: (environment): Target => {
    const { url, ...given } = readAddress(
      "mlflow",
      "MLFLOW_TRACKING_URI",
      environment.MLFLOW_TRACKING_URI,
      "http://127.0.0.1:5000",
    );
    const user = environment.MLFLOW_TRACKING_USERNAME || given.user;
    const password = environment.MLFLOW_TRACKING_PASSWORD || given.password;
    const token = environment.MLFLOW_TRACKING_TOKEN ?? "";
    const authorization = user !== "" ? basic(user, password) : token !== "" ? `Bearer ${token}` : "";
    return {
      url,
      headers: authorization === "" ? {} : { authorization },
      secrets: [password, token, authorization].filter((secret) => secret !== ""),
      project: environment.MLFLOW_EXPERIMENT_NAME || "Default",
    };
  },
});

/** Limits of one request. */
const MOST_PARAMS = 100;
const MOST_NUMBERS = 1000;
const LONGEST_PARAM = 6000;

const STATUS = { finished: "FINISHED", stopped: "KILLED", failed: "FAILED" };
/** The tag by which a run is found if the server's answer to making it was lost. */
const OWN_TAG = "revmoe.id";

export function connect({ target, name, params, known }: Described, ask: Ask): Service {
  const call = (path: string, body: unknown) => ask(`/api/2.0/mlflow/${path}`, body);
  const ownId = crypto.randomUUID();
  let asked = false;
  let run = "";

  const goOn = async (id: string): Promise<boolean> => {
    try {
      await call("runs/update", { run_id: id, status: "RUNNING" });
      return true;
    } catch (failure) {
      // The run was removed on the server.
      if (failure instanceof Refused && !failure.isAboutKeys) return false;
      throw failure;
    }
  };
  const make = async (experiment: string): Promise<string> => {
    if (asked) {
      const search = { experiment_ids: [experiment], filter: `tags.\`${OWN_TAG}\` = '${ownId}'`, max_results: 1 };
      const { runs } = (await call("runs/search", search)) as { runs?: Made[] };
      if (runs?.[0]) return runs[0].info.run_id;
    }
    asked = true;
    const tags = { "mlflow.source.name": "revmoe", "mlflow.source.type": "LOCAL", [OWN_TAG]: ownId };
    const made = (await call("runs/create", {
      experiment_id: experiment,
      run_name: name,
      start_time: Date.now(),
      tags: Object.entries(tags).map(([key, value]) => ({ key, value })),
    })) as { run: Made };
    return made.run.info.run_id;
  };
  const describe = async (): Promise<void> => {
    const all = Object.entries(params).map(([key, value]) => ({ key, value: paramText(value) }));
    for (let i = 0; i < all.length; i += MOST_PARAMS)
      await call("runs/log-batch", { run_id: run, params: all.slice(i, i + MOST_PARAMS) });
  };
  return {
    begin: async () => {
      const experiment = await experimentOf(target.project, ask, call);
      if (run === "" && known !== null && (await goOn(known.id))) run = known.id;
      if (run !== known?.id) {
        run ||= await make(experiment);
        await describe();
      }
      return { id: run, page: `${target.url}/#/experiments/${experiment}/runs/${run}` };
    },
    send: async (points) => {
      const metrics = points.flatMap(({ step, time, values }) =>
        values.map(([key, value]) => ({ key: metricName(key), value: number(value), timestamp: time, step })),
      );
      for (let i = 0; i < metrics.length; i += MOST_NUMBERS)
        await call("runs/log-batch", { run_id: run, metrics: metrics.slice(i, i + MOST_NUMBERS) });
    },
    end: async (how) => {
      await call("runs/update", { run_id: run, status: STATUS[how], end_time: Date.now() });
    },
  };
}

interface Made {
  info: { run_id: string };
}

async function experimentOf(
  name: string,
  ask: Ask,
  call: (path: string, body: unknown) => ReturnType<Ask>,
): Promise<string> {
  const byName = `/api/2.0/mlflow/experiments/get-by-name?experiment_name=${encodeURIComponent(name)}`;
  try {
    const { experiment } = (await ask(byName, null, { method: "GET" })) as { experiment: { experiment_id: string } };
    return experiment.experiment_id;
  } catch (failure) {
    if (!(failure instanceof Refused) || failure.code !== "RESOURCE_DOES_NOT_EXIST") throw failure;
    return (await call("experiments/create", { name })).experiment_id as string;
  }
}

/** loss, eval_loss: transformers' names here; elsewhere they are train/loss and eval/loss. */
const metricName = (tag: string): string => tag.replace(/^train\//, "").replace("/", "_");

/** In this JSON, NaN and infinities are strings. */
const number = (value: number): number | string => (Number.isFinite(value) ? value : String(value));

const paramText = (value: unknown): string =>
  (typeof value === "string" ? value : JSON.stringify(value)).slice(0, LONGEST_PARAM);
