#!/usr/bin/env node
// The executable `revmoe`, in plain JavaScript: it is there before anything is installed or compiled, and then says so
// in a sentence. Otherwise dist/cli.js takes over.
import { SetupError, checkNode } from "../setup/program.mjs";
import { reportBefore, whyNotReady } from "../setup/ready.mjs";

try {
  checkNode();
  const notReady = whyNotReady();
  if (!notReady) await import("../dist/cli.js");
  else if (process.argv[2] === "doctor") {
    console.log(reportBefore(notReady));
    process.exitCode = 1;
  } else throw new SetupError(`not set up yet: ${notReady.problem}. Run: ${notReady.remedy}`);
} catch (failure) {
  if (!(failure instanceof SetupError)) throw failure;
  console.error(`revmoe: ${failure.message}`);
  process.exitCode = 2;
}
