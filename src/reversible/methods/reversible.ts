// Keeps the streams of the last block and the bits that a coupling drops; inputs are rebuilt block by block.
import { assert } from "../../errors.js";
import { free, keep, scope } from "../../torch/scope.js";
import { device, dtype, to } from "../../torch/tensor.js";
import type { Visit } from "../coupling.js";
import { differentiateStages } from "../stages.js";
import { applyTo, type Method, passForward, passOf, replace } from "./method.js";

export const reversible: Method<"reversible"> = {
  name: "reversible",
  about: "the streams after the last block, from which all others are rebuilt (reversible)",
  rebuilds: true,
  kept: "block inputs",
  holdsBlocks: false,
  forward: (unit, block, batch, net) => {
    const { streams, bits } = passForward(unit, block, batch, net, { wantBits: true, overwrite: true });
    batch.streams = replace(batch.streams, streams);
    if (bits === null) batch.kept[unit] = {};
    else if (!net.bitsOnHost) batch.kept[unit] = { bits: keep(bits) };
    else {
      batch.kept[unit] = { bits: keep(to(bits, dtype(bits), "cpu")) };
      free(bits);
    }
  },
  backward: (unit, block, batch, net) => {
    const { coupling, format, tileTokens = 0 } = net;
    const { bits: stored } = batch.kept[unit];
    const visit: Visit = (branch, x_TD, dy_TD, memory_TD) => {
      assert(x_TD !== null && memory_TD !== null, "a reversible block is visited without its inputs");
      return differentiateStages(block.stages(branch), { x_TD, context: batch.context, tileTokens, memory_TD }, dy_TD);
    };
    const { dStreams, streams } = scope(() => {
      const bits = stored === undefined ? null : to(stored, dtype(stored), device(batch.streams[0]));
      const known = { streams: batch.streams, bits, apply: applyTo(block, batch.context, tileTokens) };
      return coupling.reverse(batch.dStreams, visit, known, format, passOf(unit, batch, net));
    });
    assert(streams !== null, "a reversible coupling did not rebuild its streams");
    batch.dStreams = replace(batch.dStreams, dStreams);
    batch.streams = replace(batch.streams, streams);
    batch.kept[unit] = {};
    if (stored !== undefined) free(stored);
  },
};
