// `revmoe setup`: does what `npm run setup` does, for an installed package, which has no such script. It gets what is
// missing and builds the engine, in the package's folder or in the person's cache.
import { sourceName } from "../../../setup/libtorch.mjs";
import { setUp } from "../../../setup/setup.mjs";
import type { CommandInput } from "../command.js";

export async function run({ out, err }: CommandInput): Promise<number> {
  try {
    const engine = await setUp({ say: (line) => void out.write(`${line}\n`) });
    out.write(`set up: libtorch ${engine.version} from ${sourceName(engine.source)} (${engine.root})\n`);
    return 0;
  } catch (failure) {
    if ((failure as Error).name !== "SetupError") throw failure;
    // Printed as it is, since the output of a compiler or apt-get has several lines, which a UserError would lose.
    err.write(`revmoe: ${(failure as Error).message}\n`);
    return 2;
  }
}
