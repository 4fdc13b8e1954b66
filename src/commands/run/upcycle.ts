// `revmoe upcycle`: turns a dense model into a mixture of experts that at first computes the same, to be trained
// further. Before it writes, it says what the result will be and whether its function is equal.
import { formatBytes, formatCount } from "../../format.js";
import { upcycle, type UpcyclePlan } from "../../upcycle/upcycle.js";
import type { CommandInput } from "../command.js";
import { resolveModel } from "../../hub/resolve.js";
import { readDenseModel } from "../../upcycle/dense.js";
import type { ROWS } from "../upcycle.js";

export async function run({ settings, json, out, err }: CommandInput<typeof ROWS>): Promise<number> {
  const { output_dir: dir, to, seed, noise } = settings;
  const model = await resolveModel(settings.model, {
    out: err,
    check: (config, configPath) => readDenseModel({ config, configPath }),
  });
  const plan = upcycle(model, dir, {
    to,
    seed,
    noise,
    numExperts: settings.num_experts,
    expertsPerToken: settings.experts_per_token,
    expertWidth: settings.expert_width,
    decoderSparseStep: settings.decoder_sparse_step,
    routerStd: settings.router_std,
    weightsDtype: settings.weights_dtype,
    allowInexact: settings.allow_inexact,
    overwrite: settings.overwrite_output_dir,
    onPlan: (made) => void (json || out.write(`${describe(made, noise)}\n`)),
  });
  if (!json) for (const note of plan.notes) out.write(`note: ${note}\n`);
  out.write(
    json
      ? `${JSON.stringify({ source: model, folder: dir, ...plan }, null, 2)}\n`
      : `wrote ${dir}; reopened and compared\n`,
  );
  return 0;
}

/** The result, described in four lines. */
export function describe(plan: UpcyclePlan, noise: number): string {
  const { numExperts, expertsPerToken, expertWidth, sharedExpertWidth, sparseLayers, layers } = plan;
  const shared = sharedExpertWidth > 0 ? `, and a shared one of width ${sharedExpertWidth}` : "";
  const changes = [
    ...plan.lost,
    ...(noise > 0 ? [`${noise} of each expert matrix's standard deviation is added as noise`] : []),
  ];
  return [
    `${plan.from} -> ${plan.to}: ${numExperts} experts of width ${expertWidth}, ${expertsPerToken} for a token${shared}, in ${sparseLayers} of ${layers} layers`,
    `parameters  ${formatCount(plan.denseParameters)} -> ${formatCount(plan.parameters)}, ${formatCount(plan.parametersPerToken)} for a token`,
    `function    ${plan.equal ? `equal to the dense model's at the start, up to rounding in ${plan.dtype}` : `not equal to the dense model's: ${changes.join("; ")}`}`,
    `disk        ${formatBytes(plan.bytes)} in ${plan.dtype}`,
  ].join("\n");
}
