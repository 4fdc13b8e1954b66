// Rows that some ranks send one another all at once: what each of them computes is spread anew over tokens, heads or experts. The call waits; what it
// returns belongs to the caller's scope.
import type { Ticket } from "../torch/comm/group.js";
import { copy_, narrow } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { device, dtype, empty, shape } from "../torch/tensor.js";
import { type Channel, messages } from "./channel.js";
import type { RowExchange } from "./collectives.js";

const total = (counts: readonly number[]): number => counts.reduce((sum, count) => sum + count, 0);

/** `channelFor` says over which a tensor of a device goes. */
export const rowExchange =
  (rank: number, tag: number, channelFor: (device: string) => Channel = () => messages): RowExchange =>
  (rows, among, sent, received) =>
    scope(() => {
      const channel = channelFor(device(rows));
      const [, ...rest] = shape(rows);
      const into = empty([total(received), ...rest], dtype(rows), device(rows));
      const tickets: Ticket[] = [];
      const at = { from: 0, into: 0 };
      for (const [i, other] of among.entries()) {
        const out = narrow(rows, 0, at.from, sent[i]);
        const place = narrow(into, 0, at.into, received[i]);
        at.from += sent[i];
        at.into += received[i];
        if (other === rank) copy_(place, out);
        else {
          if (sent[i] > 0) tickets.push(channel.send(out, [other], tag));
          if (received[i] > 0) tickets.push(channel.receive(place, other, tag));
        }
      }
      channel.go();
      tickets.forEach(channel.wait);
      return into;
    });
