// A thread of `hashFiles`: takes the next file of the list until none is left, and sends each checksum once it has it.
import { type MessagePort, workerData } from "node:worker_threads";

import { type HashedFile, hashOrFailure } from "./hash-file.js";

const { files, order, shared, port } = workerData as {
  files: HashedFile[];
  order: number[];
  shared: Int32Array;
  port: MessagePort;
};

try {
  for (let next = Atomics.add(shared, 0, 1); next < order.length; next = Atomics.add(shared, 0, 1)) {
    const index = order[next];
    port.postMessage({ index, hash: hashOrFailure(files[index]) });
  }
} finally {
  Atomics.add(shared, 1, 1);
  Atomics.notify(shared, 1);
}
