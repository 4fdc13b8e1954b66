// What lies where: through links, "..", and names that are not there yet.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { test, type TestContext } from "node:test";

import { checkPlaceBesideModel, liesIn, realPath } from "./places.js";
import { writeMarker } from "../run/marker.js";

function makeFolder(t: TestContext): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "revmoe-places-")));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

test("the real path of what is there, of what is not yet, and of a link to what is not", (t) => {
  const folder = makeFolder(t);
  const at = (name: string): string => join(folder, name);
  mkdirSync(at("a/b"), { recursive: true });
  symlinkSync("a/b", at("link"));
  symlinkSync("a/new/one", at("to-nowhere"));
  symlinkSync("circle", at("circle"));
  const cases = [
    [at("link"), at("a/b")],
    [at("link/x/y"), at("a/b/x/y")],
    [at("link/x/../y/"), at("a/b/y")],
    [relative(process.cwd(), at("to-nowhere")), at("a/new/one")],
    [at("to-nowhere/deeper"), at("a/new/one/deeper")],
    [at("circle/x"), at("circle/x")],
    ["/", "/"],
  ];
  for (const [path, real] of cases) assert.equal(realPath(path), real, path);
  for (const path of [at("link/x"), at("to-nowhere"), at("a"), `${at("a")}/`]) assert.ok(liesIn(path, at("a")), path);
  for (const path of [at("ab"), at("."), at("link/../a2"), "/"]) assert.ok(!liesIn(path, at("a")), path);
});

test("a result does not go into its model's folder, around it, or into a run", (t) => {
  const folder = makeFolder(t);
  const at = (name: string): string => join(folder, name);
  for (const name of ["models/m", "run/final", "own"]) mkdirSync(at(name), { recursive: true });
  writeMarker(at("run"), { replacing: false });
  symlinkSync("models/m", at("link"));
  writeFileSync(at("m.gguf"), "");
  const refused: [string, string, RegExp][] = [
    ["models/m", "models/m", /is the folder of the model/],
    ["link/out", "models/m", /lies in the folder of the model/],
    ["models/m/out", "link", /lies in the folder of the model/],
    ["models", "link", /holds the model/],
    [".", "m.gguf", /holds the model/],
    ["run", "models/m", /is the folder of a run/],
    ["run/checkpoint-5", "models/m", /is, or lies in, checkpoint-5 of the run in/],
    ["run/final/a", "m.gguf", /is, or lies in, final of the run in/],
  ];
  for (const [dir, model, message] of refused) {
    assert.throws(
      () => checkPlaceBesideModel(at(dir), at(model)),
      { name: "UserError", message },
      `${dir} from ${model}`,
    );
  }
  for (const dir of ["own", "own/new", "run/export", "final"]) checkPlaceBesideModel(at(dir), at("models/m"));
  checkPlaceBesideModel("org/name/out", "org/name"); // a name on a hub
});
