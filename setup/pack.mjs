// Makes what a package holds and a clone does not: dist/. npm runs this before it packs; it needs neither libtorch nor a
// compiler. Says what it does on stderr, because stdout is npm's.
import { havePackages } from "./packages.mjs";
import { checkNode, runAsProgram } from "./program.mjs";
import { buildTypeScript } from "./typescript.mjs";

await runAsProgram(async () => {
  checkNode();
  await havePackages(console.error);
  await buildTypeScript(console.error);
});
