// Processes as one group, over the engine's c10d: what native/comm exports. Tensors of a GPU go through copies in main memory, pinned and held until
// a ticket was waited for or dropped. Tensors stay the caller's; what is sent keeps its memory by itself. Errors: RankLostError from every call, and then
// the group is of no more use.
import { RankLostError, UserError } from "../../errors.js";
import { type GroupPlace, native } from "../binding.js";
import { clone, narrow, setStorage_ } from "../ops.js";
import { scope } from "../scope.js";
import { byteSize, device, dtype, empty, shape, type Tensor } from "../tensor.js";

export type { GroupPlace };

declare const brand: unique symbol;
/** Of something that was begun. */
export type Ticket = number & { readonly [brand]: "ticket" };

/** Whether this libtorch has groups. */
export const hasGroups = (): boolean => native.hasGroups();

export const openGroup = (place: GroupPlace): void => reached(() => native.openGroup(place));

/** What every rank has given, in their order; the bytes may differ in number. */
export const gatherBytes = (own: Uint8Array): Uint8Array[] => reached(() => native.gatherBytes(own));

let sent = 0;

export const countSent = (bytes: number): void => void (sent += bytes);

/** Bytes of tensors that were sent to single ranks since the process began. */
export const sentBytes = (): number => sent;

/** Puts the sum over all ranks in the place of each one's tensor, which is float32 in main memory. */
export const sum = (tensor: Tensor): void => reached(() => native.sum(tensor));

/** From one rank into the tensors of the others, in main memory. */
export const broadcast = (tensor: Tensor, from: number): void => reached(() => native.broadcast(tensor, from));

/** To each of some ranks; of a tensor on a GPU they get one copy. Messages of one tag arrive in their order. */
export function startSend(tensor: Tensor, to: readonly number[], tag: number): Ticket {
  countSent(to.length * byteSize(tensor));
  return reached(() => native.startSend(tensor, to, tag) as Ticket);
}

/** The opposite of `startSend`; the tensor's values are anything until the ticket was waited for. */
export const startReceive = (into: Tensor, from: number, tag: number): Ticket =>
  reached(() => native.startReceive(into, from, tag) as Ticket);

export const receive = (into: Tensor, from: number, tag: number): void => awaitTicket(startReceive(into, from, tag));

export const awaitTicket = (ticket: Ticket): void => reached(() => native.awaitTicket(ticket));

/** Nobody waits for it any more, nor for what comes with it. */
export const dropTicket = (ticket: Ticket): void => native.dropTicket(ticket);

export const closeGroup = (): void => native.closeGroup();

/** Gives up a tensor's memory and values, and returns its sizes; what was sent of it keeps the memory until it has gone. */
export function giveUpMemory(tensor: Tensor): number[] {
  const sizes = shape(tensor);
  scope(() => void setStorage_(tensor, empty([0], dtype(tensor), device(tensor))));
  return sizes;
}

/** The opposite; its values are anything. */
export const takeMemory = (tensor: Tensor, sizes: number[]): void =>
  scope(() => void setStorage_(tensor, empty(sizes, dtype(tensor), device(tensor))));

/** Cuts a tensor down to rows of its first dimension; what is sent of it keeps the whole until that has gone. */
export const keepRows = (tensor: Tensor, first: number, count: number): void =>
  scope(() => void setStorage_(tensor, clone(narrow(tensor, 0, first, count))));

/** Errors: RankLostError for what the engine says is one. */
export function reached<Result>(call: () => Result): Result {
  try {
    return call();
  } catch (failure) {
    const { code, message } = failure as { code?: string; message: string };
    const [first] = message.split("\n");
    if (code === "RANK_LOST") throw new RankLostError(first);
    if (code === "NCCL_UNUSABLE") throw new UserError(`rank_transport: nccl: ${first}. Set rank_transport to gloo.`);
    throw failure;
  }
}
