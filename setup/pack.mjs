// Makes what a package has and a clone has not: dist/. npm runs this before it packs; it needs neither libtorch nor a
// compiler. Messages go to stderr, because stdout is npm's.
import { havePackages } from "./packages.mjs";
import { checkNode, runAsProgram } from "./program.mjs";
import { buildTypeScript } from "./typescript.mjs";

await runAsProgram(async () => {
  checkNode();
  await havePackages(console.error);
  await buildTypeScript(console.error);
});
