// Tensors that ranks read from one another. Who has one offers it under a number, without waiting; who wants it begins to read it into memory of
// its own, and waits when the values are needed. Threads of Gloo carry them meanwhile, so that a rank which computes keeps nobody waiting. Owns
// what is on its way; tensors stay the caller's.
import type { Ticket } from "../torch/comm/group.js";
import type { Tensor } from "../torch/tensor.js";
import { type Channel, messages } from "./channel.js";
import type { RemoteReads } from "./collectives.js";

/** `tagOf` says the tag of a number. */
export function remoteReads(tagOf: (number: number) => number, channel: Channel = messages): RemoteReads {
  const offered = new Map<number, Ticket>();
  const reading = new Set<Ticket>();
  const settled = (number: number): void => {
    const ticket = offered.get(number);
    if (offered.delete(number)) channel.wait(ticket as Ticket);
  };
  return {
    inRounds: channel.inRounds,
    go: channel.go,
    offer(number: number, tensor: Tensor, to: readonly number[]) {
      offered.set(number, channel.send(tensor, to, tagOf(number)));
    },
    read(number, from, into) {
      const ticket = channel.receive(into, from, tagOf(number));
      reading.add(ticket);
      return () => {
        if (reading.delete(ticket)) channel.wait(ticket);
      };
    },
    settled,
    finish() {
      for (const number of [...offered.keys()]) settled(number);
    },
    close() {
      for (const ticket of [...offered.values(), ...reading]) channel.drop(ticket);
      offered.clear();
      reading.clear();
    },
  };
}
