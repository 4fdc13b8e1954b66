// Tokens that a run adds to a model's vocabulary. The tokenizer gets them after its own; embedding and head get a row
// for each, the mean of their rows. Rows that a model has beyond its tokenizer are used first. The source then has the
// larger tensors, so loading, planning and saving need not know of this.
import { jsonWith } from "../../checkpoint/config-text.js";
import type { Folder } from "../../checkpoint/model-files.js";
import { type ModelSource, withFiles } from "../../checkpoint/source.js";
import { withTextConfig } from "../../checkpoint/config/text-config.js";
import { loadTokenizer } from "../../data/tokenizer/tokenizer.js";
import { UserError } from "../../errors.js";
import { readArchitecture } from "../../families/registry.js";
import { copy_, mulScalar, narrow, sumDim } from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { device, dtype, empty, shape, type Tensor } from "../../torch/tensor.js";
import type { TrainSettings } from "../settings/settings.js";

type Wanted = Pick<TrainSettings, "add_tokens" | "add_special_tokens">;
type Json = Record<string, unknown>;

/** The source with the wanted tokens. Errors: UserError for a token that is empty, or named twice. */
export function withAddedTokens(source: ModelSource, wanted: Wanted): { source: ModelSource; notes: string[] } {
  const { add_tokens: plain, add_special_tokens: special } = wanted;
  const all = [...plain, ...special];
  if (all.length === 0) return { source, notes: [] };
  const twice = all.find((token, i) => token === "" || all.indexOf(token) < i);
  if (twice !== undefined)
    throw new UserError(`add_tokens: "${twice}" is ${twice === "" ? "no token" : "named twice"}. Remove it.`);
  const tokenizer = loadTokenizer(source);
  const isNew = (token: string): boolean => tokenizer.idOf(token) === undefined;
  const added = all
    .filter(isNew)
    .map((content, i) => ({ id: tokenizer.vocabSize + i, content, special: special.includes(content) }));
  const known = all.filter((token) => !isNew(token));
  const notes =
    known.length > 0
      ? [`${known.join(", ")} ${known.length === 1 ? "is a token" : "are tokens"} of the model already`]
      : [];
  if (added.length === 0) return { source, notes };

  const { config, configPath } = source;
  const before = readArchitecture(config, configPath).vocabSize;
  const [firstNew, endOfNew] = [tokenizer.vocabSize, tokenizer.vocabSize + added.length];
  const rows = Math.max(before, endOfNew);
  const at = { before, after: rows, firstNew, endOfNew };
  const words = added.map(({ content, id }) => `${content} (${id})`).join(", ");
  notes.push(
    `added to the vocabulary: ${words}; ${rows > before ? `embedding and head grow from ${before} to ${rows} rows` : `embedding and head have ${before} rows already`}, and the new ones begin as the mean of the others`,
  );
  const files = withFiles(
    { ...source, config: withTextConfig(config, { vocab_size: rows }) },
    fileChanges(source, added, rows),
  );
  return { source: { ...files, openWeights: () => withRows(source, at) }, notes };
}

interface Added {
  id: number;
  content: string;
  special: boolean;
}

function fileChanges(source: ModelSource, added: Added[], rows: number): Record<string, Uint8Array> {
  const read = (name: string): string | undefined => {
    const bytes = source.readFile(name);
    return bytes && Buffer.from(bytes).toString("utf8");
  };
  const entries = added.map(({ id, content, special }) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: !special,
    special,
  }));
  const tokenizer = JSON.parse(read("tokenizer.json") as string) as Json;
  const before = Array.isArray(tokenizer.added_tokens) ? (tokenizer.added_tokens as object[]) : [];
  const changes: Record<string, string> = {
    "tokenizer.json": `${JSON.stringify({ ...tokenizer, added_tokens: [...before, ...entries] }, null, 2)}\n`,
  };
  const config = read("config.json");
  if (config !== undefined)
    changes["config.json"] = jsonWith(config, withTextConfig(JSON.parse(config) as Json, { vocab_size: rows }));
  const named = read("tokenizer_config.json");
  const decoder = named === undefined ? undefined : (JSON.parse(named) as Json).added_tokens_decoder;
  // transformers 4 takes the tokens from this key, if it exists.
  if (named !== undefined && typeof decoder === "object" && decoder !== null) {
    const more = Object.fromEntries(entries.map(({ id, ...entry }) => [id, entry]));
    changes["tokenizer_config.json"] = jsonWith(named, { added_tokens_decoder: { ...decoder, ...more } });
  }
  return Object.fromEntries(Object.entries(changes).map(([name, text]) => [name, Buffer.from(text)]));
}

/** Numbers of rows of embedding and head before and after, and the range of those of new tokens. */
interface Rows {
  before: number;
  after: number;
  firstNew: number;
  endOfNew: number;
}

/** The source's weights, with embedding and head grown to these rows. */
function withRows(source: ModelSource, rows: Rows): Folder {
  const folder = source.openWeights();
  const { config, configPath } = source;
  const { embedding, head } = readArchitecture(config, configPath).outer;
  const changed = [embedding, head].flatMap((spec) => {
    const entry = spec && folder.tensors.get(spec.name);
    // A tensor that does not fit config.json is refused when it is loaded.
    return spec && entry?.shape[0] === rows.before ? [[spec.name, entry] as const] : [];
  });
  const grown = new Map(
    changed.map(([name, { dtype, shape }]) => [name, { dtype, shape: [rows.after, ...shape.slice(1)] }]),
  );
  return {
    ...folder,
    tensors: new Map([...folder.tensors, ...grown]),
    read: (name) => (grown.has(name) ? withMeanRows(folder.read(name), rows) : folder.read(name)),
  };
}

function withMeanRows(old_VD: Tensor, { before, after, firstNew, endOfNew }: Rows): Tensor {
  const whole_VD = empty([after, shape(old_VD)[1]], dtype(old_VD), device(old_VD));
  scope(() => {
    copy_(narrow(whole_VD, 0, 0, before), old_VD);
    const mean_1D = mulScalar(sumDim(old_VD, [0], true, "float32"), 1 / before);
    const first = Math.min(firstNew, before);
    copy_(narrow(whole_VD, 0, first, endOfNew - first), mean_1D);
  });
  return whole_VD;
}
