// How tensors of a pass travel between ranks, told once for both ways: as messages of Gloo, each by itself under a tag, or in rounds of NCCL, which have
// no tags. So who sends says behind what belongs together that it may go, and all ranks say so at the same places of the pass.
import { awaitTicket, dropTicket, startReceive, startSend, type Ticket } from "../torch/comm/group.js";
import type { Lane } from "../torch/comm/nccl.js";
import type { Tensor } from "../torch/tensor.js";

export interface Channel {
  /** Whether ranks have to begin the same things in the same order. */
  readonly inRounds: boolean;
  /** To each of some ranks, at least one; the tensor must not change before the ticket was waited for. */
  send(tensor: Tensor, to: readonly number[], tag: number): Ticket;
  /** The tensor's values are anything until the ticket was waited for. */
  receive(into: Tensor, from: number, tag: number): Ticket;
  /** What was given since the last call is on its way from now on. */
  go(): void;
  wait(ticket: Ticket): void;
  /** Nobody waits for it any more. */
  drop(ticket: Ticket): void;
  /** When no pass uses it any more. */
  close(): void;
}

export const messages: Channel = {
  inRounds: false,
  send: startSend,
  receive: startReceive,
  go() {},
  wait: awaitTicket,
  drop: dropTicket,
  close() {},
};

/** What is dropped is held until a later round of the lane is over. */
export const rounds = (lane: Lane): Channel => ({
  inRounds: true,
  send: (tensor, to) => lane.send(tensor, to),
  receive: (into, from) => lane.receive(into, from),
  go: () => lane.begin(),
  wait: (ticket) => lane.wait(ticket),
  drop() {},
  close: () => lane.close(),
});
