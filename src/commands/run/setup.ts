// `revmoe setup`: the set-up of `npm run setup` for an installed package, where that script is not the person's. Gets what is
// missing and builds the engine, in the package's folder or in the person's cache.
import { type Engine, sourceName } from "../../setup/libtorch.mjs";
import type { Command } from "./command.js";

const ROWS = {};

export const command: Command<typeof ROWS> = {
  name: "setup",
  summary: "get what is missing and build the engine; LIBTORCH=/path chooses a libtorch and is remembered",
  usage: "revmoe setup",
  example: "revmoe setup\nLIBTORCH=/path/to/venv revmoe setup",
  settings: { rows: ROWS },
  async run({ out, err }) {
    const { setUp } = (await import(new URL("../../setup/setup.mjs", import.meta.url).href)) as {
      setUp(options: { say(line: string): void }): Promise<Engine>;
    };
    try {
      const engine = await setUp({ say: (line) => void out.write(`${line}\n`) });
      out.write(`set up: libtorch ${engine.version} from ${sourceName(engine.source)} (${engine.root})\n`);
      return 0;
    } catch (failure) {
      if ((failure as Error).name !== "SetupError") throw failure;
      // As it is and not as a UserError: what a compiler or apt-get said keeps its lines.
      err.write(`revmoe: ${(failure as Error).message}\n`);
      return 2;
    }
  },
};
